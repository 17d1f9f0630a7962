//! A message in the owner's hands: the body, and the receipt that settles it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// A message of a channel. Dropping it, or its receipt, without [`Receipt::finish`] requeues it at once.
#[derive(Debug)]
pub struct Message {
    /// The published body.
    pub body: Bytes,
    /// How often nsqd has tried to deliver this message, including this time: 1 for the first.
    pub attempts: u16,
    /// When it was published: nanoseconds since 1970 on nsqd's clock.
    pub timestamp: u64,
    pub(crate) receipt: Receipt,
}

impl Message {
    /// Separates the body from its receipt.
    pub fn into_parts(self) -> (Bytes, Receipt) {
        (self.body, self.receipt)
    }

    /// Finishes the message's receipt.
    pub fn finish(self) {
        self.receipt.finish();
    }
}

/// The right to settle one delivery of one message. It never blocks, and is small (two words).
///
/// It belongs to the connection of its message. Once that connection is gone, nsqd redelivers the message, and all
/// methods here are no-ops. The same holds after nsqd has redelivered the message on the same connection: only the
/// newest receipt counts.
#[derive(Debug)]
pub struct Receipt {
    link: Arc<Link>,
    serial: u64,
}

impl Receipt {
    pub(crate) fn new(link: Arc<Link>, serial: u64) -> Self {
        Self { link, serial }
    }

    /// Finishes the message: nsqd deletes it. No guarantee: if the connection breaks before nsqd has read this, nsqd
    /// redelivers the message.
    pub fn finish(self) {
        self.settle(Op::Finish);
    }

    /// Requeues the message, to be redelivered after `delay` (nsqd accepts up to `--max-req-timeout`, 1 h).
    pub fn requeue(self, delay: Duration) {
        self.settle(Op::Requeue(u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)));
    }

    /// Asks nsqd to wait for another `msg_timeout` from now on, `--max-msg-timeout` (15 min) in total.
    pub fn touch(&self) {
        self.link.push(Command { serial: self.serial, op: Op::Touch });
    }

    fn settle(mut self, op: Op) {
        self.link.push(Command { serial: self.serial, op });
        // Settled: the drop that follows has nothing left to do.
        self.serial = SETTLED;
    }
}

const SETTLED: u64 = u64::MAX;

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.serial != SETTLED {
            self.link.push(Command { serial: self.serial, op: Op::Requeue(0) });
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Finish,
    /// Delay in milliseconds.
    Requeue(u32),
    Touch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) serial: u64,
    pub(crate) op: Op,
}

/// The link from the receipts of one connection back to its task.
///
/// The queue's bound: a receipt settles once, so there are at most as many as messages in flight; touches beyond
/// [`Link::MAX_TOUCHES`] waiting commands are dropped, because those before them request the same.
#[derive(Debug, Default)]
pub(crate) struct Link {
    queue: Mutex<Queue>,
    /// Notified when the queue becomes non-empty.
    pub(crate) wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    closed: bool,
    commands: Vec<Command>,
}

impl Link {
    const MAX_TOUCHES: usize = 4096;

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing in here panics while the lock is held, so a poisoned queue is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, command: Command) {
        let first = {
            let mut queue = self.queue();
            if queue.closed || (command.op == Op::Touch && queue.commands.len() >= Self::MAX_TOUCHES) {
                return;
            }
            queue.commands.push(command);
            queue.commands.len() == 1
        };
        if first {
            self.wake.notify_one();
        }
    }

    /// Swaps the waiting commands with `spare`, which must be empty.
    pub(crate) fn take(&self, spare: &mut Vec<Command>) {
        std::mem::swap(&mut self.queue().commands, spare);
    }

    /// Voids all receipts from now on. Returns their earlier commands.
    pub(crate) fn close(&self) -> Vec<Command> {
        let mut queue = self.queue();
        queue.closed = true;
        std::mem::take(&mut queue.commands)
    }
}

#[cfg(test)]
#[path = "../../tests/unit/subscription/receipt.rs"]
mod tests;
