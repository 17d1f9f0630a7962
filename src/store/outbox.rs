//! A chat's outbox: the messages that the broker hasn't confirmed.

use bytes::Bytes;

use crate::domain::{Millis, Seq};

/// The size of a chat's outbox: what NSQ hasn't confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxSize {
    /// The node that carries the chat; empty if the chat doesn't exist.
    pub node: String,
    /// The number of messages.
    pub messages: usize,
    /// When the lowest of them was accepted, if its frame contains the time.
    pub oldest: Option<Millis>,
}

/// The first page of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxPage {
    /// The node that carries the chat; empty if the chat doesn't exist.
    pub node: String,
    /// Whether some member's queues weren't known to exist at this read: publish nothing of the page before they are.
    pub held: bool,
    /// The lowest messages, ascending.
    pub messages: Vec<(Seq, Bytes)>,
}
