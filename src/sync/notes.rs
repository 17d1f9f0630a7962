//! Which chats this edge has told the store that it sends to, so that another edge finds their outboxes should this one
//! die. The others forget the notes of an edge that they take for dead; so does the edge itself, as soon as it can be
//! that they have.

use std::{collections::HashMap, sync::Mutex};

use tokio::time::Instant;

use super::{Core, lapse, lock};
use crate::{
    domain::id::{ChatId, UserId},
    protocol::Problem,
    store::NotedChat,
};

/// The chats that are noted. Bounded by those that are sent to here; see `relay::prune`.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    chats: HashMap<ChatId, NotedChat>,
    // How often all were forgotten: a note under way meanwhile isn't to be relied on.
    forgotten: u64,
}

impl Notes {
    /// None may be there any more.
    pub(super) fn forget_all(&self) {
        let mut noted = lock(&self.0);
        noted.chats.clear();
        noted.forgotten += 1;
    }

    /// The note that is forgotten here, to be forgotten in the store.
    pub(super) fn forget(&self, chat: ChatId) -> Option<NotedChat> {
        lock(&self.0).chats.remove(&chat)
    }

    pub(super) fn has(&self, chat: ChatId) -> bool {
        lock(&self.0).chats.contains_key(&chat)
    }

    /// At most `count` of those that are over `keep`, and that `which` doesn't want.
    pub(super) fn beyond(&self, keep: usize, count: usize, wanted: impl Fn(ChatId) -> bool) -> Vec<ChatId> {
        let noted = lock(&self.0);
        if noted.chats.len() <= keep {
            return Vec::new();
        }
        noted.chats.keys().copied().filter(|chat| !wanted(*chat)).take(count).collect()
    }

    /// How often all were forgotten, for [`Notes::add`].
    pub(super) fn forgotten(&self) -> u64 {
        lock(&self.0).forgotten
    }

    /// It is noted. False: all were forgotten since, so that can't be relied on.
    pub(super) fn add(&self, note: NotedChat, forgotten: u64) -> bool {
        let mut noted = lock(&self.0);
        let stands = noted.forgotten == forgotten;
        if stands {
            noted.chats.insert(note.chat, note);
        }
        stands
    }
}

/// Before an append to a chat: sees to it that it is noted. Only for chats that the sender is in, because otherwise
/// anyone could fill the list of notes.
///
/// # Errors
/// `not_found` for a chat the user isn't in, `unavailable`.
pub(super) async fn note(core: &Core, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    // Once more at the most for each time that this edge was silent for too long: a note says as well that it lives.
    loop {
        if !core.alive.expired() && core.notes.has(chat) {
            return Ok(());
        }
        let forgotten = core.notes.forgotten();
        if core.store.chat_of_member(chat, user).await?.is_none() {
            return Err(Problem::no_such_chat());
        }
        let asked = Instant::now();
        let noted = core.store.note_sender(&core.edge, chat).await?;
        lapse::said_alive(core, asked);
        if core.notes.add(noted, forgotten) {
            return Ok(());
        }
    }
}
