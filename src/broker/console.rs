//! What the console asks of the broker: all queues summed up, one queue, and all that directories remember.

use std::collections::HashMap;

use super::{Broker, QueueAt, QueueState, Result};
use crate::domain::id::{ChatId, DeviceId};

/// A device's queues together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTotals {
    /// How many.
    pub queues: u64,
    /// Waiting messages, without those in flight.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Times a message was given back.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
}

/// A server's queues together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTotals {
    /// Its name.
    pub node: String,
    /// How many queues of ours it has.
    pub queues: u64,
    /// Waiting messages in them.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
}

/// One look at all queues.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// By device.
    pub devices: HashMap<DeviceId, DeviceTotals>,
    /// The queues that hold something, and how much.
    pub holding: Vec<(DeviceId, ChatId, u64)>,
    /// By server, of those that answered.
    pub nodes: Vec<NodeTotals>,
    /// Servers that didn't answer.
    pub silent: Vec<String>,
    /// There are more queues than were wanted: the rest isn't counted by device.
    pub truncated: bool,
}

impl Totals {
    /// Counts one queue in, if there are no more than `most` so far.
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
    /// They remember more chats than were looked at.
    pub truncated: bool,
}

impl Broker {
    /// All queues summed up, by one question to each server; at most so many are told apart.
    pub async fn totals(&self, most: usize) -> Totals {
        each!(self.totals(most))
    }

    /// One queue as its server shows it now; none: it isn't there.
    pub async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        each!(self.queue_at(queue))
    }

    /// What each directory remembers of so many chats at most, from the first on. (For a few at a time see
    /// [`Broker::remembered`].)
    pub async fn registrations(&self, most: usize) -> Registrations {
        each!(self.registrations(most))
    }
}
