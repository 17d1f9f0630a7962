//! When each chat is checked, and which chats wait for room. Both hold a chat at most once.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::{sync::mpsc, time::Instant};

use super::Session;
use crate::{broker::Notice, domain::id::ChatId};

/// Messages that one chat sends, or that are taken from the queues, per turn.
pub(super) const SHARE: usize = 16;

/// Chats to check, by time: each once, at its earliest time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    by_time: BTreeSet<(Instant, ChatId)>,
    by_chat: HashMap<ChatId, Instant>,
}

impl Schedule {
    /// Schedules a chat, unless it is due earlier.
    pub fn add(&mut self, chat: ChatId, at: Instant) {
        let earlier = self.by_chat.get(&chat).is_some_and(|time| *time <= at);
        if earlier {
            return;
        }
        if let Some(later) = self.by_chat.insert(chat, at) {
            self.by_time.remove(&(later, chat));
        }
        self.by_time.insert((at, chat));
    }

    /// Removes a chat.
    pub fn forget(&mut self, chat: ChatId) {
        if let Some(at) = self.by_chat.remove(&chat) {
            self.by_time.remove(&(at, chat));
        }
    }

    /// Returns the next due time.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|look| look.0)
    }

    /// Takes a chat that is due.
    pub fn due(&mut self, now: Instant) -> Option<ChatId> {
        let (at, chat) = self.by_time.first().copied()?;
        if at > now {
            return None;
        }
        self.forget(chat);
        Some(chat)
    }
}

/// Chats with something to send or to read from the log, and no room for it, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Turns {
    chats: VecDeque<ChatId>,
    // All queues together have every other turn.
    queues_turn: bool,
}

impl Turns {
    /// Removes a chat.
    pub fn forget(&mut self, chat: ChatId) {
        self.chats.retain(|waits| *waits != chat);
    }

    /// Returns whether no chat waits.
    pub fn is_empty(&self) -> bool {
        self.chats.is_empty()
    }
}

impl Session {
    /// The chat waits for its turn.
    pub(super) fn wait_for_room(&mut self, chat: ChatId) {
        if let Some(state) = self.chats.get_mut(&chat)
            && !std::mem::replace(&mut state.fill.waits, true)
        {
            self.work.turns.chats.push_back(chat);
        }
    }

    /// Gives free room to waiting chats, in turn with the queues.
    pub(super) fn serve_turns(&mut self, events: &mut mpsc::Receiver<Box<Notice>>) {
        while self.has_room() && !self.work.turns.is_empty() {
            self.work.turns.queues_turn = !self.work.turns.queues_turn;
            if self.work.turns.queues_turn {
                self.take_events(events, SHARE);
            } else if let Some(chat) = self.work.turns.chats.pop_front() {
                self.serve_chat(chat);
            }
        }
    }

    /// Takes up to `most` messages from the queues, while there is room: one write sends them.
    pub(super) fn take_events(&mut self, events: &mut mpsc::Receiver<Box<Notice>>, most: usize) {
        for _ in 0..most {
            if !self.has_room() {
                return;
            }
            let Ok(notice) = events.try_recv() else { return };
            self.on_notice(*notice);
        }
    }

    fn serve_chat(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.fill.waits = false;
        if state.feed.has_next() {
            self.send_early(chat);
        } else {
            self.check_chat(chat);
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/session/schedule.rs"]
mod tests;
