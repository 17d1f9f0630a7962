//! Role: queues, one for each (chat, device). A queue is created before it is needed, removed when the device or the
//! membership is gone, and compared with the queues that should exist. Creation and removal are durable on return.

use super::{Backlog, Broker, Flow, Present, QueueState, Removal, RemovalScope, Result};
use crate::domain::id::{ChatId, DeviceId};

impl Broker {
    /// Creates the device's queues of these chats, each on its node, and makes that durable. Existing queues stay.
    pub async fn provision(&self, flow: &Flow, device: DeviceId, chats: &[(ChatId, String)]) -> Result<()> {
        each!(self.provision(flow, device, chats))
    }

    /// Makes one pass of removing a device's queues on every nsqd and nsqlookupd, with the barrier that makes it
    /// durable. Returns what was removed, and the servers that didn't answer.
    pub async fn remove_queues(
        &self,
        flow: &Flow,
        device: DeviceId,
        chats: &[ChatId],
        scope: RemovalScope,
    ) -> Removal {
        each!(self.remove_queues(flow, device, chats, scope))
    }

    /// Removes a device's queue of a chat from one server only, where it doesn't belong. Returns true if it existed.
    pub async fn remove_stray(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        each!(self.remove_stray(node, chat, device))
    }

    /// Removes a chat's topic from every server. Returns the servers that didn't answer.
    pub async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        each!(self.remove_chat(chat))
    }

    /// Removes a chat without queues on a server from that server only. Returns true if it existed.
    pub async fn remove_empty(&self, node: &str, chat: ChatId) -> Result<bool> {
        each!(self.remove_empty(node, chat))
    }

    /// Empties the device's queue of a chat on one server, including deliveries in flight: its consumers may reconnect
    /// ([`super::Event::Detached`]). Returns true if the queue exists.
    pub async fn empty_queue(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        each!(self.empty_queue(node, chat, device))
    }

    /// Returns the backlog of the device's queue of a chat on one server, asked now. Returns none if the queue doesn't
    /// exist. A message that moves meanwhile may be counted twice, or not at all: rely only on what two reads agree on.
    pub async fn backlog(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<Option<Backlog>> {
        each!(self.backlog(node, chat, device))
    }

    /// Returns all queues on every server.
    pub async fn queues(&self) -> Present {
        each!(self.queues())
    }

    /// Returns all queues of a device on every server, and the servers that didn't answer.
    pub async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        each!(self.queues_of(device))
    }

    /// Returns some of the queues that directories of servers remember, whether or not any server has them. Each call
    /// returns the next ones, and starts again after the last.
    pub async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        each!(self.remembered())
    }
}
