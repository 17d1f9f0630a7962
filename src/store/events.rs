//! Event delivery to watchers: a bounded channel that never blocks and never loses events silently.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::StoreEvent;

/// How many events may wait for the reader.
pub(super) const CAPACITY: usize = 4096;

/// The sending end, with the receiving end until it is taken.
///
/// When the channel is full except for one place, [`StoreEvent::Resubscribed`] takes that place, and all later events
/// are dropped until the reader has taken half of the waiting ones. Every dropped event was dropped while the
/// `Resubscribed` still lay ahead of the reader, so the reader makes up for it when it reads again.
#[derive(Debug)]
pub(super) struct Events {
    sender: Mutex<Sender>,
    receiver: Mutex<Option<mpsc::Receiver<StoreEvent>>>,
}

#[derive(Debug)]
struct Sender {
    channel: mpsc::Sender<StoreEvent>,
    overflowed: bool,
}

impl Events {
    pub(super) fn new() -> Self {
        let (channel, receiver) = mpsc::channel(CAPACITY);
        Self {
            sender: Mutex::new(Sender { channel, overflowed: false }),
            receiver: Mutex::new(Some(receiver)),
        }
    }

    pub(super) fn take(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sends an event that may be lost, only while less than half of the room is taken, so that it never displaces
    /// others.
    pub(super) fn emit_if_quiet(&self, event: StoreEvent) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.overflowed && sender.channel.capacity() > CAPACITY / 2 {
            let _ = sender.channel.try_send(event);
        }
    }

    pub(super) fn emit(&self, event: StoreEvent) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let room = sender.channel.capacity();
        if sender.overflowed && room < CAPACITY / 2 {
            return;
        }
        sender.overflowed = room <= 1;
        let event = if sender.overflowed { StoreEvent::Resubscribed } else { event };
        // The send fails if nobody reads any more. (The channel is never full here: only this lock's holder fills it.)
        let _ = sender.channel.try_send(event);
    }
}

#[cfg(test)]
#[path = "../../tests/unit/store/events.rs"]
mod tests;
