//! What a queue of the embedded broker stores for a restart, and its state afterwards (decision 0021).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

/// How many of the last accepted messages may come again.
const REMEMBERED: usize = 24;

/// The state in which nsqd finds a queue when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// As it was, without the messages in flight: its position had just been written.
    WithoutFlight,
    /// At an earlier position: the messages in flight come again, after this many finished ones, in their old order.
    Before(usize),
    /// Lost: it had no position yet, and overwrites its old content.
    Anew,
    /// Stopped, not killed: the messages in flight were written to its end, in no order.
    Stopped,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In the queue.
    Waiting,
    /// With a consumer.
    InFlight,
    /// With a consumer that disappeared.
    Nowhere,
    /// Finished by a consumer.
    Finished,
    /// Torn: the original message.
    Torn,
}

/// The maximum number of torn messages of a queue: disks aren't full for ever.
pub(crate) const TORN: usize = 8;

/// What a queue's files still hold.
pub(crate) struct Past {
    /// When the queue was created, or begun again.
    pub born: Instant,
    /// All finished messages, by delivery number.
    pub finished: Vec<(u64, Bytes)>,
    pub pushed: VecDeque<Bytes>,
    /// The original torn messages.
    pub torn: Vec<Bytes>,
    /// Consumers whose client has disappeared, which the broker doesn't know yet.
    pub orphans: BTreeSet<u64>,
}

impl Default for Past {
    fn default() -> Self {
        let born = Instant::now();
        Self {
            born,
            finished: Vec::new(),
            pushed: VecDeque::new(),
            torn: Vec::new(),
            orphans: BTreeSet::new(),
        }
    }
}

impl Past {
    pub(crate) fn pushed(&mut self, body: &Bytes) {
        self.pushed.push_back(body.clone());
        if self.pushed.len() > REMEMBERED {
            self.pushed.pop_front();
        }
    }

    pub(crate) fn finished(&mut self, delivery: u64, body: Bytes) {
        self.finished.push((delivery, body));
    }
}
