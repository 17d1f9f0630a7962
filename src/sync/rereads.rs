//! Reads users' offsets again after a hint: each user once at a time, however many hints come, and a bounded number of users.
//! The hub pushes the result to the user's sessions.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::Notify;

use super::{Core, lock};
use crate::{
    domain::id::{ChatId, UserId},
    store::{ReadOffset, Result},
};

/// Users that are read at a time: each read may delay a send.
pub(super) const PARALLEL: usize = 32;

/// Users to read. Bounded by the connected users: each is in it once.
#[derive(Debug, Default)]
pub(super) struct Rereads {
    queue: Mutex<Queue>,
    asked: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Reading,
    // Something moved since the present read began.
    ReadingAndAgain,
}

/// Pure.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<UserId>,
    users: HashMap<UserId, Standing>,
}

impl Queue {
    fn ask(&mut self, user: &UserId) {
        match self.users.get_mut(user) {
            Some(standing @ Standing::Reading) => *standing = Standing::ReadingAndAgain,
            Some(_) => {}
            None => self.wait(user.clone()),
        }
    }

    fn wait(&mut self, user: UserId) {
        self.users.insert(user.clone(), Standing::Waiting);
        self.waiting.push_back(user);
    }

    fn begin(&mut self) -> Option<UserId> {
        let user = self.waiting.pop_front()?;
        self.users.insert(user.clone(), Standing::Reading);
        Some(user)
    }

    fn end(&mut self, user: UserId) {
        if self.users.remove(&user) == Some(Standing::ReadingAndAgain) {
            self.wait(user);
        }
    }
}

impl Rereads {
    /// Requests a read of this user's offsets, from now or later.
    pub(super) fn ask(&self, user: &UserId) {
        lock(&self.queue).ask(user);
        self.asked.notify_one();
    }
}

/// Reads the waiting users.
pub(super) async fn run(core: Arc<Core>) {
    let mut readings = FuturesUnordered::new();
    loop {
        while readings.len() < PARALLEL
            && let Some(user) = lock(&core.watching.rereads.queue).begin()
        {
            readings.push(async {
                read(&core, &user).await;
                user
            });
        }
        tokio::select! {
            Some(user) = readings.next(), if !readings.is_empty() => lock(&core.watching.rereads.queue).end(user),
            () = core.watching.rereads.asked.notified() => {}
        }
    }
}

/// Reads a user's offsets in the followed chats, and pushes what is new to the sessions.
pub(super) async fn read(core: &Core, user: &UserId) {
    let chats = core.hub.begin_reading(user);
    match offsets(core, user, &chats).await {
        Ok(offsets) => core.hub.push_reads(user, &offsets),
        Err(error) => tracing::warn!(%user, %error, "reading read offsets failed: the sweep covers them"),
    }
}

/// Returns the user's offsets in these chats.
///
/// # Errors
/// When the store fails.
pub(super) async fn offsets(
    core: &Core,
    user: &UserId,
    chats: &[ChatId],
) -> Result<HashMap<ChatId, ReadOffset>> {
    if chats.is_empty() { Ok(HashMap::new()) } else { core.store.reads_in(user, chats).await }
}

#[cfg(test)]
#[path = "../../tests/unit/sync/rereads.rs"]
mod tests;
