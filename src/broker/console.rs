//! What the console asks of the broker: the totals of all queues, one queue, and all that directories remember.

use std::collections::HashMap;

use super::{Broker, QueueAt, QueueState, Result};
use crate::domain::id::{ChatId, DeviceId};

/// The totals of a device's queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTotals {
    /// The number of queues.
    pub queues: u64,
    /// Waiting messages, without those in flight.
    pub depth: u64,
    /// Messages delivered but not finished.
    pub in_flight: u64,
    /// How often messages were requeued.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
}

/// The totals of a server's queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTotals {
    /// The server's name.
    pub node: String,
    /// The number of our queues on it.
    pub queues: u64,
    /// Waiting messages in them.
    pub depth: u64,
    /// Messages delivered but not finished.
    pub in_flight: u64,
}

/// The totals of all queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// The totals by device.
    pub devices: HashMap<DeviceId, DeviceTotals>,
    /// The queues with a backlog, and its size.
    pub holding: Vec<(DeviceId, ChatId, u64)>,
    /// The totals by server, of those that answered.
    pub nodes: Vec<NodeTotals>,
    /// Servers that didn't answer.
    pub silent: Vec<String>,
    /// Whether there are more queues than requested: the rest isn't counted by device.
    pub truncated: bool,
}

impl Totals {
    /// Adds one queue to the totals, unless they hold more than `most` queues already.
    pub(super) fn add(&mut self, node: &mut NodeTotals, most: usize, queue: &QueueState) {
        node.queues += 1;
        node.depth += queue.depth;
        node.in_flight += queue.in_flight;
        let seen = self.nodes.iter().map(|node| node.queues).sum::<u64>() + node.queues;
        if seen > most as u64 {
            self.truncated = true;
            return;
        }
        let device = self.devices.entry(queue.device).or_default();
        device.queues += 1;
        device.depth += queue.depth;
        device.in_flight += queue.in_flight;
        device.requeues += queue.requeues;
        device.consumers += queue.consumers;
        if queue.depth + queue.in_flight > 0 {
            self.holding.push((queue.device, queue.chat, queue.depth + queue.in_flight));
        }
    }
}

/// What directories of servers remember.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registrations {
    /// Queues, whether or not any server has them.
    pub queues: Vec<(ChatId, DeviceId)>,
    /// Directories that didn't answer.
    pub silent: Vec<String>,
    /// Whether they remember more chats than were read.
    pub truncated: bool,
}

impl Broker {
    /// Returns the totals of all queues, with one request to each server; at most `most` queues are counted by device.
    pub async fn totals(&self, most: usize) -> Totals {
        each!(self.totals(most))
    }

    /// Returns one queue as its server reports it now. Returns none if it doesn't exist.
    pub async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        each!(self.queue_at(queue))
    }

    /// Returns what each directory remembers of at most `most` chats, from the first on. (For a few at a time see
    /// [`Broker::remembered`].)
    pub async fn registrations(&self, most: usize) -> Registrations {
        each!(self.registrations(most))
    }
}
