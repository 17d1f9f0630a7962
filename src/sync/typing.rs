//! "Alice types": told to the other members who are connected, kept nowhere, and the first to be left out when there is
//! much to do.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use super::{Core, lock};
use crate::domain::id::{ChatId, UserId};

/// One user's typing in one chat is told no more often than this. Clients show it for a little longer.
const APART: Duration = Duration::from_secs(3);
/// So many (user, chat) are remembered for that; more at the same time aren't told.
const MOST: usize = 10_000;

/// A full list is looked through for what is over no more often than this: it is under a lock.
const PRUNE: Duration = Duration::from_secs(1);

/// When whose typing was told.
#[derive(Debug, Default)]
pub(super) struct Typists(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    at: HashMap<(UserId, ChatId), Instant>,
    pruned: Option<Instant>,
}

impl Typists {
    fn may_tell(&self, user: &UserId, chat: ChatId, now: Instant) -> bool {
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

/// Whether it is time to tell again that the user types.
#[must_use]
pub fn may_tell(core: &Core, user: &UserId, chat: ChatId) -> bool {
    core.typists.may_tell(user, chat, Instant::now())
}

/// Tells it, unless the chat has too many members. What fails isn't worth another try.
pub async fn tell(core: &Core, user: &UserId, chat: ChatId) {
    if let Err(error) = core.store.publish_typing(chat, user, core.limits.typing_members).await {
        tracing::debug!(%chat, %error, "typing isn't told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_three_seconds_and_never_too_many() {
        let (typists, now) = (Typists::default(), Instant::now());
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let (one, other) = (ChatId::random(), ChatId::random());
        assert!(typists.may_tell(&alice, one, now));
        assert!(!typists.may_tell(&alice, one, now + APART / 2));
        assert!(typists.may_tell(&alice, other, now) && typists.may_tell(&bob, one, now));
        assert!(typists.may_tell(&alice, one, now + APART));
        for _ in 0..2 * MOST {
            typists.may_tell(&bob, ChatId::random(), now + APART);
        }
        assert_eq!(lock(&typists.0).at.len(), MOST);
        assert!(!typists.may_tell(&bob, other, now + APART));
        assert!(typists.may_tell(&bob, other, now + 2 * APART));
    }
}
