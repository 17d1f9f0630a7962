//! The broker: one durable queue per (chat, device), its backlog and its live feed.
//!
//! # Contract
//!
//! Two variants implement it: [`nsq::NsqBroker`] (a chat is a topic, a device a channel on it) and
//! [`embedded::EmbeddedBroker`] (queues in this process's memory).
//!
//! - **Provision first.** A queue receives what is published after [`Broker::provision`] returned. Its creation
//!   survives a crash of the broker.
//! - **At least once, mostly in order.** A published message reaches every queue of the chat, possibly twice, possibly
//!   out of order, and may be lost in a crash. The session provides order, uniqueness and the recovery of losses
//!   (`session::feed`).
//! - **A delivery is held** until its [`Receipt`] is finished. Dropping the receipt requeues the message at once, at
//!   the end of its queue.
//! - **Prefetch is bounded.** All subscriptions with the same [`Prefetch`] hold no more than it allows, and each gets
//!   its share.
//! - **A subscription is a value.** Dropping it ends it and requeues what it holds. It never recreates a removed queue:
//!   it emits [`Event::Gone`] instead.
//! - **Removal is complete or reports what is missing.** It checks every server, not only the expected one.
//! - **Flows take turns.** Queues that are created and removed in one [`Flow`] delay no other flow's queues.
//! - **Every call has a deadline.** A call to an unreachable server returns [`BrokerError::Unavailable`] instead of
//!   waiting. Nothing is published to a server that fails or hangs until it is up again: until then a publish fails at
//!   once.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    domain::id::{ChatId, DeviceId},
    simulation::broker as faulty,
};

pub(crate) mod checksum;
pub mod embedded;
pub mod nsq;
mod prefetch;

pub use prefetch::Prefetch;

/// Why a call to the broker failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// A server can't be reached; certainly nothing happened.
    #[error("{node} can't be reached: {reason}")]
    Unavailable {
        /// The server.
        node: String,
        /// The observed failure.
        reason: String,
    },
    /// The outcome is unknown (the connection was lost after sending).
    #[error("{node} didn't confirm: {reason}")]
    Unknown {
        /// The server.
        node: String,
        /// The observed failure.
        reason: String,
    },
    /// The server never accepts this message, whoever sends it and however often: the message is too large for it.
    #[error("{node} can't ever take this message: {reason}")]
    Unpublishable {
        /// The server.
        node: String,
        /// The server's reason.
        reason: String,
    },
    /// The server refused the request.
    #[error("{node} refused: {reason}")]
    Refused {
        /// The server.
        node: String,
        /// The server's reason.
        reason: String,
    },
}

/// The result of most methods.
pub type Result<T> = std::result::Result<T, BrokerError>;

/// An event from a subscription to its session.
#[derive(Debug)]
pub enum Event {
    /// The subscription is attached (again): look in the log for what was missed in between.
    Attached,
    /// One message.
    Delivery(Delivery),
    /// A message that differs from what was published. Nobody can read it: finish it, and look for the missing message.
    Torn(Receipt),
    /// The connection is lost and is being re-established. Earlier receipts are void.
    Detached,
    /// The queue doesn't exist any more, and the subscription has ended.
    Gone,
}

/// One message from a queue.
#[derive(Debug)]
pub struct Delivery {
    /// The message frame.
    pub body: Bytes,
    /// The receipt that finishes the delivery.
    pub receipt: Receipt,
}

/// The right and duty to finish one delivery. Dropping it unfinished requeues the message at once.
#[derive(Debug)]
pub struct Receipt(pub(crate) ReceiptKind);

#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "the closed enum over the adapters has to name what each brings")]
pub(crate) enum ReceiptKind {
    Nsq(keepstep_nsq::Receipt),
    Embedded(embedded::Receipt),
    #[allow(dead_code, reason = "only a simulation has one")]
    Faulty(faulty::Receipt),
}

impl Receipt {
    /// Finishes the delivery: the device has the message, and the queue drops it. No-op if the delivery's connection is
    /// gone.
    pub fn finish(self) {
        match self.0 {
            ReceiptKind::Nsq(receipt) => receipt.finish(),
            ReceiptKind::Embedded(receipt) => receipt.finish(),
            ReceiptKind::Faulty(receipt) => receipt.finish(),
        }
    }
}

/// A session's subscription to one queue. Dropping it ends it in the background.
#[derive(Debug)]
pub struct Subscription(pub(crate) SubscriptionKind);

#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "the closed enum over the adapters has to name what each brings")]
pub(crate) enum SubscriptionKind {
    Nsq(keepstep_nsq::Subscription),
    Embedded(embedded::Subscription),
    #[allow(dead_code, reason = "only a simulation has one")]
    Faulty(faulty::Subscription),
}

impl Subscription {
    /// Ends the subscription and waits (at most 2 s) until its messages are requeued and the broker knows that it
    /// ended.
    pub async fn close(self) {
        match self.0 {
            SubscriptionKind::Nsq(subscription) => subscription.close().await,
            SubscriptionKind::Embedded(subscription) => subscription.close().await,
            SubscriptionKind::Faulty(subscription) => subscription.close().await,
        }
    }
}

/// An event with its chat.
#[derive(Debug)]
pub struct Notice {
    /// The chat of the queue.
    pub chat: ChatId,
    /// The number of the subscription; see [`Sink::numbered`].
    pub subscription: u64,
    /// The event.
    pub event: Event,
}

/// Where a session's subscriptions send their events: one channel for all its chats, bounded by the session. Notices
/// are boxed, because a channel allocates room for 32 of them, for each idle device.
#[derive(Debug, Clone)]
pub struct Sink {
    notices: mpsc::Sender<Box<Notice>>,
    subscription: u64,
}

impl Sink {
    /// Returns a sink that sends into this channel.
    #[must_use]
    pub fn new(notices: mpsc::Sender<Box<Notice>>) -> Self {
        Self { notices, subscription: 0 }
    }

    /// Returns a sink for one subscription: its notices carry this number. A session has several subscriptions to one
    /// chat after the chat has moved, and may receive notices of a subscription that it has dropped.
    #[must_use]
    pub fn numbered(&self, subscription: u64) -> Self {
        Self { notices: self.notices.clone(), subscription }
    }

    pub(crate) fn notice(&self, chat: ChatId, event: Event) -> Box<Notice> {
        Box::new(Notice { chat, subscription: self.subscription, event })
    }

    /// Returns false if the receiver is closed.
    pub(crate) async fn send(&self, notice: Box<Notice>) -> bool {
        self.notices.send(notice).await.is_ok()
    }
}

/// One queue as the broker's servers report it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// The server.
    pub node: String,
    /// The chat.
    pub chat: ChatId,
    /// The device.
    pub device: DeviceId,
    /// Waiting messages, without those in flight.
    pub depth: u64,
    /// Messages delivered but not finished.
    pub in_flight: u64,
    /// How often messages were requeued.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
    /// The client id of the first consumer: the edge.
    pub consumer: Option<String>,
}

/// The backlog of one queue, as its server reports it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Waiting messages: in the queue, on their way to it from the chat, and requeued with a delay.
    pub depth: u64,
    /// Those of them on their way: the server has accepted them and hasn't copied them to the chat's queues.
    pub uncopied: u64,
    /// Messages delivered but not finished.
    pub in_flight: u64,
    /// Attached consumers.
    pub consumers: u64,
}

/// For whom, and for what purpose, servers are asked. Requests of one flow never delay those of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow(Arc<str>);

impl Flow {
    /// Returns the flow with this name.
    #[must_use]
    pub fn of(what: &str, whose: impl std::fmt::Display) -> Self {
        Self(format!("{what} {whose}").into())
    }
}

/// The location of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueAt {
    /// The server.
    pub node: Arc<str>,
    /// The chat.
    pub chat: ChatId,
    /// The device.
    pub device: DeviceId,
}

/// All queues that the servers report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// The queues.
    pub queues: Vec<QueueAt>,
    /// Those of them that hold messages and have no consumer.
    pub unread: Vec<QueueAt>,
    /// Chats that exist on a server (the first of the pair) without any queue there.
    pub empty: Vec<(Arc<str>, ChatId)>,
    /// Servers that didn't answer.
    pub silent: Vec<String>,
}

/// Which queues of a device [`Broker::remove_queues`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalScope {
    /// The queues of the named chats, as when the device's user leaves them.
    NamedChats,
    /// The queues of the named chats and all queues that any server reports for the device, as when it is terminated.
    WholeDevice,
}

/// The result of one pass of [`Broker::remove_queues`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Each queue that existed and was removed, as it was before.
    pub removed: Vec<QueueState>,
    /// Servers that didn't answer: whether a queue is left there is unknown.
    pub unreachable: Vec<String>,
}

/// How often each server was restarted since this process began, as far as it has noticed; a server that wasn't isn't in it.
pub type Restarts = BTreeMap<String, u64>;

/// One server's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHealth {
    /// The server's address, as configured.
    pub node: String,
    /// `nsqd`, `nsqlookupd` or `embedded`.
    pub role: &'static str,
    /// What is wrong with the server; none if it is up.
    pub problem: Option<String>,
}

/// The broker, in one of two variants.
#[derive(Debug, Clone)]
pub enum Broker {
    /// nsqd and nsqlookupd.
    Nsq(nsq::NsqBroker),
    /// The memory of this process.
    Embedded(embedded::EmbeddedBroker),
    /// The embedded broker behind a faulty link: in simulations only.
    Faulty(faulty::FaultyBroker),
}

// Forwards a call to the variant: `each` awaits the result, `now` has it at once.
macro_rules! now {
    ($self:ident.$method:ident($($arg:expr),*)$($wait:tt)*) => {
        match $self {
            Broker::Nsq(broker) => broker.$method($($arg),*)$($wait)*,
            Broker::Embedded(broker) => broker.$method($($arg),*)$($wait)*,
            Broker::Faulty(broker) => $crate::simulation::faulty_broker!(broker.$method($($arg),*)$($wait)*),
        }
    };
}

macro_rules! each {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        now!($self.$method($($arg),*).await)
    };
}

// These modules stand behind the macro because they use it.
mod console;
mod delivery;
mod nodes;
mod queues;

pub use console::*;
