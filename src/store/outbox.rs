//! What the broker hasn't confirmed of a chat, as the store tells it.

use bytes::Bytes;

use crate::domain::{Millis, Seq};

/// What NSQ hasn't confirmed of a chat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxSize {
    /// The node that carries the chat; empty when it isn't there.
    pub node: String,
    /// How many messages.
    pub messages: usize,
    /// When the lowest of them was accepted, if its frame tells.
    pub oldest: Option<Millis>,
}

/// The beginning of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxPage {
    /// The node that carries the chat; empty when it isn't there.
    pub node: String,
    /// Some member's queues weren't known to be there when this was read: nothing of it is to be published before they are.
    pub held: bool,
    /// The lowest messages, ascending.
    pub messages: Vec<(Seq, Bytes)>,
}
