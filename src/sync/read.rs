//! Read offsets: one per (user, chat), shared by all devices, never decreasing, never above the head.

use super::Core;
use crate::{
    domain::{
        Seq,
        id::{ChatId, DeviceId, UserId},
    },
    protocol::{ErrorCode, Problem},
};

/// Moves the user's offset; returns its value. The head is read first: it never falls, so the check stays valid.
///
/// # Errors
/// `not_found` when the user isn't a member, `bad_range` above the head, `unavailable`.
pub async fn mark(
    core: &Core,
    user: &UserId,
    device: Option<DeviceId>,
    chat: ChatId,
    seq: Seq,
) -> Result<Seq, Problem> {
    let Some((found, member)) = core.store.chat_of_member(chat, user).await? else {
        return Err(Problem::no_such_chat());
    };
    if seq > found.head {
        let detail = format!("{seq} is above the chat's last message, which is {}", found.head);
        return Err(Problem::new(ErrorCode::BadRange, detail));
    }
    // Messages before the join count as read, and devices are notified, even if the join hasn't written it yet.
    let seq = seq.max(member.boundary);
    let stands = core.store.move_read(user, chat, seq, device).await?;
    // Offsets end with membership: a user who has left has none, which looks like 0.
    let has_left = stands < seq || (stands == 0 && core.store.chat_of_member(chat, user).await?.is_none());
    if has_left { Err(Problem::no_such_chat()) } else { Ok(stands) }
}
