//! Role: messages. One server carries a chat. It copies what is published there to the queue of each device, and a
//! subscription consumes the queue of a device.

use bytes::Bytes;

use super::{Broker, Prefetch, Result, Sink, Subscription};
use crate::domain::id::{ChatId, DeviceId};

impl Broker {
    /// Returns the server that shall carry a new chat: by rendezvous hash over the servers that are up (over all, if
    /// none is).
    #[must_use]
    pub fn place(&self, chat: ChatId) -> String {
        now!(self.place(chat))
    }

    /// Returns the server that shall carry a chat instead of `from`: by rendezvous hash over the others that are up.
    #[must_use]
    pub fn place_elsewhere(&self, chat: ChatId, from: &str) -> Option<String> {
        match self {
            Self::Nsq(broker) => broker.place_elsewhere(chat, from),
            _ => None,
        }
    }

    /// Publishes one message frame to every queue of its chat. `Ok`: the server has it. Calls for one node keep their
    /// order. After [`super::BrokerError::Unpublishable`], a retry is useless.
    pub async fn publish(&self, node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        each!(self.publish(node, chat, frame))
    }

    /// Subscribes to the device's queue of the chat, as far as `prefetch` has room. Connects in the background and
    /// retries without limit.
    #[must_use]
    pub fn subscribe(
        &self,
        node: &str,
        chat: ChatId,
        device: DeviceId,
        prefetch: &Prefetch,
        sink: Sink,
    ) -> Subscription {
        now!(self.subscribe(node, chat, device, prefetch, sink))
    }

    /// Returns the size of the largest message that every server accepts, in bytes, as far as they have reported it.
    #[must_use]
    pub fn largest_message(&self) -> Option<usize> {
        now!(self.largest_message())
    }
}
