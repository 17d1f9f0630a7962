//! What a queue of the embedded broker remembers for a restart, and how it is found then (decision 0021).

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

/// How many of the last accepted messages can come again.
const REMEMBERED: usize = 24;

/// The state in which nsqd finds a queue when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// As it was, without what was in flight: its position had just been written.
    WithoutFlight,
    /// At an earlier position: what was in flight is there again, and this many finished ones, in their old order,
    /// first.
    Before(usize),
    /// Not at all: it had no position yet, and begins again over its old content.
    Anew,
    /// Stopped and not killed: what was in flight has been written to its end, in no order.
    Stopped,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In the queue.
    Waiting,
    /// With a consumer.
    InFlight,
    /// With a consumer that has gone without a notice.
    Nowhere,
    /// Finished by a consumer.
    Finished,
    /// Torn: this is what it was.
    Torn,
}

/// The maximum number of torn messages of a queue: disks aren't full without end.
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
    /// Consumers whose client has gone, and the broker doesn't know it yet.
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
