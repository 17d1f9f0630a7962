//! Whom a user knows: those with whom they share a chat that they have accepted.
//!
//! Nobody says of a chat into which others have put them at once that they accept it. They have if they came by themselves, if they
//! were asked first, or if a device of theirs has read in it. A group that all may join makes nobody known.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};

use super::Core;
use crate::{
    domain::{
        chat::Entry,
        id::{ChatId, UserId},
    },
    store::Result as Stored,
};

/// Common chats that are looked at, so that a question costs little however many there are; and so many at a time.
const CHATS: usize = 64;
const PARALLEL: usize = 16;

/// Whether the user knows the other one.
///
/// # Errors
/// When the store fails.
pub(super) async fn is_known(core: &Core, user: &UserId, other: &UserId) -> Stored<bool> {
    let own: HashSet<ChatId> = core.store.chats_of(user).await?.into_iter().collect();
    let mut common = core.store.chats_of(other).await?;
    common.retain(|chat| own.contains(chat));
    common.truncate(CHATS);
    let read = core.store.reads_in(user, &common).await?;
    let looks: Vec<_> = common
        .into_iter()
        .map(|chat| {
            // What came by joining isn't read on any device.
            let has_read = read.get(&chat).is_some_and(|offset| offset.device.is_some());
            is_accepted(core, user, other, chat, has_read)
        })
        .collect();
    let mut looks = stream::iter(looks).buffer_unordered(PARALLEL);
    while let Some(accepted) = looks.next().await {
        if accepted? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this is a chat of both that the user has accepted.
async fn is_accepted(
    core: &Core,
    user: &UserId,
    other: &UserId,
    chat: ChatId,
    has_read: bool,
) -> Stored<bool> {
    let accepted =
        has_read || core.limits.invites == Entry::ByConsent || core.store.put_by(user, chat).await?.is_none();
    // The lists may be ahead of the chats.
    Ok(accepted
        && core.store.chat_of_member(chat, user).await?.is_some_and(|(chat, _)| !chat.public)
        && core.store.chat_of_member(chat, other).await?.is_some())
}
