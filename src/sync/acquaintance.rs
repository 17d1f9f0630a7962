//! Whom a user knows: users with whom they share a chat that they have accepted.
//!
//! A user has accepted a chat if they joined by themselves, if they were asked first, or if a device of theirs has read in it;
//! being added by others isn't enough. An open group makes nobody known.

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

/// Bounds the common chats that are checked, in all and at a time.
const CHATS: usize = 64;
const PARALLEL: usize = 16;

/// Returns whether the user knows the other one.
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
            // An offset that a join wrote has no device.
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

/// Returns whether both are in this chat and the user has accepted it.
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
