//! One chat of a session: order, gaps and acknowledgements.

use crate::frame::{ChatEntry, Gap};

/// What a message is to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one.
    New,
    /// The next one of this connection; an earlier connection has brought it already.
    Duplicate,
}

/// How far the device is in one chat.
///
/// Invariants: `acked <= came` on a connection; `top >= came`; an acknowledgement is never above `came` or `stored`.
#[derive(Debug, Clone)]
pub struct ChatState {
    pub(super) entry: ChatEntry,
    // Of this connection: what came last, and what was acknowledged.
    pub(super) came: u64,
    pub(super) acked: u64,
    // Of the device: what was handed over, and what is stored.
    pub(super) top: u64,
    pub(super) stored: u64,
    pub(super) read: u64,
}

impl ChatState {
    /// A chat that the device didn't know, or of which it has stored everything up to `stored`.
    pub(super) fn new(entry: ChatEntry, stored: Option<u64>) -> (Self, Option<Gap>) {
        let (cursor, read) = (entry.cursor, entry.read);
        let top = stored.unwrap_or(cursor);
        let mut chat = Self { entry, came: cursor, acked: cursor, top, stored: top, read };
        let gap = chat.catch_up();
        (chat, gap)
    }

    /// Takes over the entry that a connection begins with. Returns what the server won't send although the device lacks it.
    pub(super) fn attach(&mut self, entry: ChatEntry) -> Option<Gap> {
        let is_same_membership = self.entry.from == entry.from;
        (self.came, self.acked) = (entry.cursor, entry.cursor);
        self.read = if is_same_membership { self.read.max(entry.read) } else { entry.read };
        self.entry = entry;
        let gap = self.catch_up();
        // What was said between two memberships isn't for this user.
        gap.filter(|_| is_same_membership)
    }

    fn catch_up(&mut self) -> Option<Gap> {
        let cursor = self.entry.cursor;
        let gap = (self.top < cursor).then(|| Gap { chat: self.entry.id, from: self.top + 1, to: cursor });
        (self.top, self.stored) = (self.top.max(cursor), self.stored.max(cursor));
        gap
    }

    /// A message came. The error is the seq that was due.
    pub(super) fn arrive(&mut self, seq: u64) -> Result<Arrival, u64> {
        if seq != self.came + 1 {
            return Err(self.came + 1);
        }
        self.came = seq;
        if seq <= self.top {
            return Ok(Arrival::Duplicate);
        }
        self.top = seq;
        Ok(Arrival::New)
    }

    /// A gap came. The error is the seq that was due.
    pub(super) fn skip(&mut self, from: u64, to: u64) -> Result<(), u64> {
        if from != self.came + 1 || to < from {
            return Err(self.came + 1);
        }
        self.came = to;
        self.top = self.top.max(to);
        Ok(())
    }

    /// The acknowledgement that is due: of what is stored, as far as it came on this connection.
    pub(super) fn ack_due(&self) -> Option<u64> {
        let seq = self.stored.min(self.came);
        (seq > self.acked).then_some(seq)
    }

    /// The chat's entry, as this connection began with it.
    #[must_use]
    pub fn entry(&self) -> &ChatEntry {
        &self.entry
    }

    /// The highest seq that came on this connection; at its beginning the cursor.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.came
    }

    /// The highest seq that was acknowledged on this connection; at its beginning the cursor.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The highest seq that was handed over to the device.
    #[must_use]
    pub fn top(&self) -> u64 {
        self.top
    }

    /// The highest seq that the device has said to have stored.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The user's read offset, as far as it is known.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read
    }
}
