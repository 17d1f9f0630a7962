//! Typing: forwarded to the other connected members, stored nowhere, and dropped first under load.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{Core, lock};
use crate::domain::id::{ChatId, UserId};

/// The least time between two of one user in one chat. Clients show it for a little longer.
const APART: Duration = Duration::from_secs(3);
/// The most (user, chat) pairs that are remembered for that; further ones aren't forwarded.
const MOST: usize = 10_000;

/// The least time between two cleanups of a full list: they hold a lock.
const PRUNE: Duration = Duration::from_secs(1);

/// When each was last forwarded.
#[derive(Debug, Default)]
pub(super) struct Typists(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    at: HashMap<(UserId, ChatId), Instant>,
    pruned: Option<Instant>,
}

impl Typists {
    fn may_publish(&self, user: &UserId, chat: ChatId, now: Instant) -> bool {
        let mut told = lock(&self.0);
        let key = (user.clone(), chat);
        if told.at.get(&key).is_some_and(|at| now < *at + APART) {
            return false;
        }
        if told.at.len() >= MOST && told.pruned.is_none_or(|pruned| now >= pruned + PRUNE) {
            told.at.retain(|_, at| now < *at + APART);
            told.pruned = Some(now);
        }
        if told.at.len() >= MOST && !told.at.contains_key(&key) {
            return false;
        }
        told.at.insert(key, now);
        true
    }
}

/// Returns whether it is time to forward the user's typing again.
#[must_use]
pub fn may_publish(core: &Core, user: &UserId, chat: ChatId) -> bool {
    core.watching.typists.may_publish(user, chat, Instant::now())
}

/// Forwards it, unless the chat has too many members. Failures aren't retried.
pub async fn tell(core: &Core, user: &UserId, chat: ChatId) {
    if let Err(error) = core.store.publish_typing(chat, user, core.limits.typing_members).await {
        tracing::debug!(%chat, %error, "typing not published");
    }
}

#[cfg(test)]
#[path = "../../tests/unit/sync/typing.rs"]
mod tests;
