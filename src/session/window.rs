//! The unacknowledged messages of a device, over all its chats, and their age. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::domain::{Seq, id::ChatId};

/// A message that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    chat: ChatId,
    seq: Seq,
    /// When it was sent.
    pub at: Instant,
    /// Its age at that time, in milliseconds; [`Sent::NO_AGE`]: unknown, or meaningless.
    pub age_ms: u32,
}

impl Sent {
    /// The age of a message whose age doesn't count.
    pub const NO_AGE: u32 = u32::MAX;
}

/// See the module.
#[derive(Debug)]
pub struct Window {
    most: usize,
    // In sending order. Acknowledged entries are removed when they reach the front; until then they aren't counted as open.
    sent: VecDeque<Sent>,
    open: usize,
    // Reserved for pages of the log.
    reserved: usize,
}

impl Window {
    /// A window of `most` messages.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, sent: VecDeque::new(), open: 0, reserved: 0 }
    }

    /// Returns whether one more may be sent. Acknowledged entries behind an old open one count: a device that acknowledges
    /// everything but one message must not make this grow.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open + self.reserved < self.most && self.sent.len() < self.most * 4
    }

    /// Returns how many more may be sent.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.has_room() { self.most - self.open - self.reserved } else { 0 }
    }

    /// Reserves room until [`Window::release`].
    pub fn reserve(&mut self, count: usize) {
        self.reserved += count;
    }

    /// Releases reserved room.
    pub fn release(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// Returns how many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Returns whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Adds a sent message, `age_ms` old.
    pub fn sent(&mut self, chat: ChatId, seq: Seq, at: Instant, age_ms: u32) {
        self.sent.push_back(Sent { chat, seq, at, age_ms });
        self.open += 1;
    }

    /// Returns a chat's entries above `acked` up to `seq`, which are about to be acknowledged. Stops as early as it can: they
    /// are mostly in front.
    pub fn between(&self, chat: ChatId, acked: Seq, seq: Seq) -> impl Iterator<Item = &Sent> {
        let count = usize::try_from(seq.saturating_sub(acked)).unwrap_or(usize::MAX);
        let within = move |sent: &&Sent| sent.chat == chat && sent.seq > acked && sent.seq <= seq;
        self.sent.iter().filter(within).take(count)
    }

    /// Marks `count` messages as acknowledged; `acked` decides it for an entry.
    pub fn acked(&mut self, count: u64, acked: impl Fn(ChatId, Seq) -> bool) {
        self.open = self.open.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        while let Some(sent) = self.sent.front() {
            if self.open > 0 && !acked(sent.chat, sent.seq) {
                break;
            }
            self.sent.pop_front();
        }
        if self.sent.len() >= self.most * 4 {
            self.sent.retain(|sent| !acked(sent.chat, sent.seq));
        }
    }

    /// Returns the deadline of the oldest open message.
    #[must_use]
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.sent.front().map(|sent| sent.at + patience)
    }
}

#[cfg(test)]
#[path = "../../tests/unit/session/window.rs"]
mod tests;
