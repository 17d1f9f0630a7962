//! The messages that nsqd waits for: delivered on this connection, not settled yet. Pure.
//!
//! Entries are in order of delivery and have rising serials, so a receipt needs only its serial. Usually the entry is
//! at `serial - first serial`; after a compaction a binary search finds it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::budget::Amount;
use crate::frame::MessageId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// nsqd counts it as in flight.
    Live,
    /// Past `msg_timeout`: nsqd has probably redelivered it and counts it no longer.
    Expired,
    /// Settled, or replaced by a newer delivery of the same message.
    Gone,
}

#[derive(Debug)]
struct Entry {
    id: MessageId,
    serial: u64,
    /// Size of its body.
    bytes: usize,
    /// When nsqd stops waiting.
    due: Instant,
    state: State,
}

/// The in-flight messages of one connection; see the module.
#[derive(Debug)]
pub(crate) struct Inflight {
    entries: VecDeque<Entry>,
    next_serial: u64,
    /// Entries before this index aren't [`State::Live`].
    scanned: usize,
    live: u32,
    expired: u32,
    bytes: usize,
    msg_timeout: Duration,
    came_twice: bool,
}

/// A deque that grew beyond this is freed once it is empty.
const KEEP_ENTRIES: usize = 16;

impl Inflight {
    pub(crate) fn new(msg_timeout: Duration) -> Self {
        Self {
            entries: VecDeque::new(),
            next_serial: 0,
            scanned: 0,
            live: 0,
            expired: 0,
            bytes: 0,
            msg_timeout,
            came_twice: false,
        }
    }

    /// Returns the messages that nsqd counts as in flight.
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Returns the messages that are held here although nsqd's timeout for them is over.
    pub(crate) fn expired(&self) -> u32 {
        self.expired
    }

    /// Returns all held messages, with the bytes of their bodies.
    pub(crate) fn held(&self) -> Amount {
        Amount { messages: self.live + self.expired, bytes: self.bytes }
    }

    /// Records a delivery and returns its serial. A message that was delivered before on this connection (nsqd timed it
    /// out) has only the new serial from now on: a settlement by the old one must not hit the new delivery.
    pub(crate) fn insert(&mut self, id: MessageId, bytes: usize, attempts: u16, now: Instant) -> u64 {
        if attempts > 1
            && let Some(at) = self.entries.iter().position(|e| e.state != State::Gone && e.id == id)
        {
            self.came_twice |= self.is_awaited(at, now);
            self.remove_at(at);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.entries.push_back(Entry { id, serial, bytes, due: now + self.msg_timeout, state: State::Live });
        self.live += 1;
        self.bytes += bytes;
        serial
    }

    /// Returns whether nsqd may have stopped waiting for this one. (Its clock began before ours, by the time of
    /// transmission.)
    pub(crate) fn is_overdue(&self, serial: u64, now: Instant) -> bool {
        self.find(serial).is_some_and(|at| !self.is_awaited(at, now))
    }

    /// Returns whether a message came again while nsqd still waited for it.
    pub(crate) fn came_twice(&self) -> bool {
        self.came_twice
    }

    fn is_awaited(&self, at: usize, now: Instant) -> bool {
        now + self.msg_timeout / 2 < self.entries[at].due
    }

    /// Removes a message that is being finished or requeued. Returns `None` if it was settled or redelivered meanwhile.
    pub(crate) fn remove(&mut self, serial: u64) -> Option<MessageId> {
        let at = self.find(serial)?;
        let id = self.entries[at].id;
        self.remove_at(at);
        Some(id)
    }

    /// Records a touch: nsqd's timeout for the message starts again.
    pub(crate) fn touch(&mut self, serial: u64, now: Instant) -> Option<MessageId> {
        let at = self.find(serial)?;
        let due = now + self.msg_timeout;
        let entry = &mut self.entries[at];
        entry.due = due;
        Some(entry.id)
    }

    /// Records a touch of all messages whose timeout at nsqd ends within `time`. Returns their ids.
    pub(crate) fn touch_due(&mut self, time: Duration, now: Instant) -> impl Iterator<Item = MessageId> {
        let due = now + self.msg_timeout;
        let soon = move |e: &&mut Entry| e.state == State::Live && e.due > now && e.due <= now + time;
        self.entries.iter_mut().skip(self.scanned).filter(soon).map(move |entry| {
            entry.due = due;
            entry.id
        })
    }

    /// Marks the messages that nsqd has stopped waiting for. Amortised constant; a touched message at the front delays
    /// the marking of those behind it, which only makes the window a little larger than intended.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(entry) = self.entries.get_mut(self.scanned) {
            if entry.state == State::Live {
                if entry.due > now {
                    return;
                }
                entry.state = State::Expired;
                self.live -= 1;
                self.expired += 1;
            }
            self.scanned += 1;
        }
    }

    /// Removes all messages. Returns their ids, oldest delivery first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = MessageId> {
        (self.scanned, self.live, self.expired, self.bytes) = (0, 0, 0, 0);
        std::mem::take(&mut self.entries).into_iter().filter(|e| e.state != State::Gone).map(|e| e.id)
    }

    fn find(&self, serial: u64) -> Option<usize> {
        let guess = usize::try_from(serial.checked_sub(self.entries.front()?.serial)?).ok()?;
        let at = match self.entries.get(guess) {
            Some(entry) if entry.serial == serial => guess,
            _ => self.entries.binary_search_by_key(&serial, |e| e.serial).ok()?,
        };
        (self.entries[at].state != State::Gone).then_some(at)
    }

    fn remove_at(&mut self, at: usize) {
        match self.entries[at].state {
            State::Live => self.live -= 1,
            State::Expired => self.expired -= 1,
            State::Gone => return,
        }
        self.bytes -= self.entries[at].bytes;
        self.entries[at].state = State::Gone;
        while self.entries.front().is_some_and(|e| e.state == State::Gone) {
            self.entries.pop_front();
            self.scanned = self.scanned.saturating_sub(1);
        }
        let held = (self.live + self.expired) as usize;
        if held == 0 {
            if self.entries.capacity() > KEEP_ENTRIES {
                self.entries = VecDeque::new();
            }
        } else if self.entries.len() > 64 + 4 * held {
            // One message that is held for long must not keep the places of all that came and went behind it.
            self.entries.retain(|e| e.state != State::Gone);
            self.scanned = 0;
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/subscription/inflight.rs"]
mod tests;
