//! What waits to be sent: in order per chat, one message of a chat at a time, so that a later one never overtakes an
//! earlier one that has to be sent again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::frame::{ChatId, Draft, MessageKey};

/// A message that isn't answered yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsent {
    /// Its key, the same for each try.
    pub key: MessageKey,
    /// Its chat.
    pub chat: ChatId,
    /// What it says.
    pub draft: Draft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due,
    UnderWay,
    /// Refused for now; see [`Outbox::release`].
    Held,
}

#[derive(Debug)]
struct Lane {
    queue: VecDeque<Unsent>,
    state: State,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    lanes: BTreeMap<ChatId, Lane>,
    due: BTreeSet<ChatId>,
}

impl Outbox {
    pub(super) fn push(&mut self, unsent: Unsent) {
        let chat = unsent.chat;
        let lane =
            self.lanes.entry(chat).or_insert_with(|| Lane { queue: VecDeque::new(), state: State::Due });
        lane.queue.push_back(unsent);
        if lane.state == State::Due {
            self.due.insert(chat);
        }
    }

    /// The next message to send; it is under way from now on.
    pub(super) fn next(&mut self) -> Option<Unsent> {
        let chat = self.due.pop_first()?;
        let lane = self.lanes.get_mut(&chat)?;
        lane.state = State::UnderWay;
        lane.queue.front().cloned()
    }

    /// It is answered: true if it waited for that.
    pub(super) fn settle(&mut self, chat: ChatId, key: MessageKey) -> bool {
        let Some(lane) = self.lanes.get_mut(&chat) else { return false };
        // Only the first of a lane was ever sent.
        if lane.queue.front().is_none_or(|first| first.key != key) {
            return false;
        }
        lane.queue.pop_front();
        lane.state = State::Due;
        if lane.queue.is_empty() {
            self.lanes.remove(&chat);
            self.due.remove(&chat);
        } else {
            self.due.insert(chat);
        }
        true
    }

    /// The server can't take it now.
    pub(super) fn hold(&mut self, chat: ChatId, key: MessageKey) {
        let is_first = |lane: &&mut Lane| lane.queue.front().is_some_and(|first| first.key == key);
        if let Some(lane) = self.lanes.get_mut(&chat).filter(is_first) {
            lane.state = State::Held;
        }
    }

    /// What is held is due again.
    pub(super) fn release(&mut self) {
        self.make_due(|state| state == State::Held);
    }

    /// The connection is over: whatever isn't answered is due on the next one.
    pub(super) fn restart(&mut self) {
        self.make_due(|_| true);
    }

    fn make_due(&mut self, which: impl Fn(State) -> bool) {
        for (chat, lane) in self.lanes.iter_mut().filter(|(_, lane)| which(lane.state)) {
            lane.state = State::Due;
            self.due.insert(*chat);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unsent> {
        self.lanes.values().flat_map(|lane| &lane.queue)
    }
}
