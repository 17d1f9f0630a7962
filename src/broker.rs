//! The broker: one durable queue per (chat, device), its backlog and its live feed.
//!
//! # The contract, in words
//!
//! Two variants keep it: [`nsq::NsqBroker`] (a chat is a topic, a device a channel on it) and
//! [`embedded::EmbeddedBroker`] (queues in this process's memory).
//!
//! - **Provision first.** A queue gets what is published after [`Broker::provision`] returned, and that creation
//!   survives a crash of the broker.
//! - **At least once, mostly in order.** A published message reaches every queue of the chat, maybe twice, maybe out of
//!   order, and may be lost in a crash: order, uniqueness and the healing of losses are the session's (`session::feed`).
//! - **A delivery is held** until its [`Receipt`] is finished; dropping the receipt gives the message back at once, to the
//!   end of its queue.
//! - **What is taken early is bounded.** All subscriptions that are given one [`Prefetch`] hold no more than it allows, and
//!   each gets its share.
//! - **A subscription is a value.** Dropping it ends it and gives back what it holds; it never brings back a queue that
//!   was removed: it says [`Event::Gone`] instead.
//! - **Removal is complete or says what is missing.** It looks at every server, not only where the queue should be.
//! - **Every call has a deadline.** An unreachable server is an answer ([`BrokerError::Unavailable`]), not a wait. To one
//!   that fails or hangs nothing is published until it is well again: that, too, is an answer, at once.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::domain::id::{ChatId, DeviceId};

pub mod embedded;
#[cfg(feature = "simulation")]
pub mod faulty;
pub mod nsq;
mod prefetch;
mod seal;

pub use prefetch::Prefetch;
#[cfg(feature = "simulation")]
pub use seal::is_whole;

/// Why the broker didn't do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// A server can't be reached; surely nothing happened.
    #[error("{node} can't be reached: {reason}")]
    Unavailable {
        /// Which server.
        node: String,
        /// What was seen.
        reason: String,
    },
    /// The outcome is unknown (the connection was lost after sending).
    #[error("{node} didn't confirm: {reason}")]
    Unknown {
        /// Which server.
        node: String,
        /// What was seen.
        reason: String,
    },
    /// The server will never take this message, whoever tries and however often: it is too large for it.
    #[error("{node} can't ever take this message: {reason}")]
    Unpublishable {
        /// Which server.
        node: String,
        /// What it said.
        reason: String,
    },
    /// The server said no.
    #[error("{node} refused: {reason}")]
    Refused {
        /// Which server.
        node: String,
        /// What it said.
        reason: String,
    },
}

/// What most methods give.
pub type Result<T> = std::result::Result<T, BrokerError>;

/// What a subscription tells its session.
#[derive(Debug)]
pub enum Event {
    /// It is attached (again): what was missed in between must be looked for in the log.
    Attached,
    /// One message.
    Delivery(Delivery),
    /// A message that isn't what was published. Nobody can read it: to be finished, and what is missing to be looked for.
    Torn(Receipt),
    /// The connection is lost; it is being made again. Receipts from before are void.
    Detached,
    /// The queue isn't there any more, and the subscription has ended.
    Gone,
}

/// One message from a queue.
#[derive(Debug)]
pub struct Delivery {
    /// The message frame.
    pub body: Bytes,
    /// How to finish it.
    pub receipt: Receipt,
}

/// The right and duty to finish one delivery. Dropped unfinished, the message goes back to its queue at once.
#[derive(Debug)]
pub struct Receipt(pub(crate) ReceiptKind);

#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "the closed enum over the adapters has to name what each brings")]
pub(crate) enum ReceiptKind {
    Nsq(keepstep_nsq::Receipt),
    Embedded(embedded::Receipt),
    #[cfg(feature = "simulation")]
    Faulty(faulty::Receipt),
}

impl Receipt {
    /// The device has it: take it off the queue. Without effect if the connection it came on is gone.
    pub fn finish(self) {
        match self.0 {
            ReceiptKind::Nsq(receipt) => receipt.finish(),
            ReceiptKind::Embedded(receipt) => receipt.finish(),
            #[cfg(feature = "simulation")]
            ReceiptKind::Faulty(receipt) => receipt.finish(),
        }
    }
}

/// A session's hold on one queue. Dropping it ends it in the background.
#[derive(Debug)]
pub struct Subscription(pub(crate) SubscriptionKind);

#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "the closed enum over the adapters has to name what each brings")]
pub(crate) enum SubscriptionKind {
    Nsq(keepstep_nsq::Subscription),
    Embedded(embedded::Subscription),
    #[cfg(feature = "simulation")]
    Faulty(faulty::Subscription),
}

impl Subscription {
    /// Ends it and waits (at most 2 s) until what it held is back in the queue and the broker knows it has gone.
    pub async fn close(self) {
        match self.0 {
            SubscriptionKind::Nsq(subscription) => subscription.close().await,
            SubscriptionKind::Embedded(subscription) => subscription.close().await,
            #[cfg(feature = "simulation")]
            SubscriptionKind::Faulty(subscription) => subscription.close().await,
        }
    }
}

/// What came, and of which chat.
#[derive(Debug)]
pub struct Notice {
    /// Whose queue it came from.
    pub chat: ChatId,
    /// The number of the subscription: see [`Sink::numbered`].
    pub subscription: u64,
    /// What came.
    pub event: Event,
}

/// Where a session's subscriptions send what they have: one channel for all its chats, bounded by the session. Boxed,
/// because a channel keeps room for 32 of them, for each idle device.
#[derive(Debug, Clone)]
pub struct Sink {
    notices: mpsc::Sender<Box<Notice>>,
    subscription: u64,
}

impl Sink {
    /// Sends into this channel.
    #[must_use]
    pub fn new(notices: mpsc::Sender<Box<Notice>>) -> Self {
        Self { notices, subscription: 0 }
    }

    /// The same for one subscription: its notices bear this number. A session has several subscriptions to one chat when the
    /// chat has moved, and may hear of one that it has dropped.
    #[must_use]
    pub fn numbered(&self, subscription: u64) -> Self {
        Self { notices: self.notices.clone(), subscription }
    }

    fn notice(&self, chat: ChatId, event: Event) -> Box<Notice> {
        Box::new(Notice { chat, subscription: self.subscription, event })
    }

    /// False: nobody takes it any more.
    async fn send(&self, notice: Box<Notice>) -> bool {
        self.notices.send(notice).await.is_ok()
    }
}

/// One queue as the broker's servers show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueState {
    /// Which server.
    pub node: String,
    /// Which chat.
    pub chat: ChatId,
    /// Whose.
    pub device: DeviceId,
    /// Waiting messages, without those in flight.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Times a message was given back.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
    /// The client id of the first consumer: the edge.
    pub consumer: Option<String>,
}

/// What one queue has, as its server shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that wait: in it, on their way to it from the chat, and those that were given back for later.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Attached consumers.
    pub consumers: u64,
}

/// That a queue is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueAt {
    /// On which server.
    pub node: Arc<str>,
    /// Of which chat.
    pub chat: ChatId,
    /// Whose.
    pub device: DeviceId,
}

/// All that the servers show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Their queues.
    pub queues: Vec<QueueAt>,
    /// Chats that have a place on a server (the first of the pair), and not one queue there.
    pub empty: Vec<(Arc<str>, ChatId)>,
    /// Servers that didn't answer.
    pub silent: Vec<String>,
}

/// What one pass of [`Broker::remove_queues`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// Each queue that was there and is gone now, as it was before.
    pub removed: Vec<QueueState>,
    /// Servers that didn't answer: whether something is left there isn't known.
    pub unreachable: Vec<String>,
}

/// One server's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHealth {
    /// Its address, as configured.
    pub node: String,
    /// `nsqd`, `nsqlookupd` or `embedded`.
    pub role: &'static str,
    /// None when it is well; else what is wrong.
    pub problem: Option<String>,
}

/// The broker, one of two.
#[derive(Debug, Clone)]
pub enum Broker {
    /// nsqd and nsqlookupd.
    Nsq(nsq::NsqBroker),
    /// This process's memory.
    Embedded(embedded::EmbeddedBroker),
    /// The same behind a link that fails.
    #[cfg(feature = "simulation")]
    Faulty(faulty::FaultyBroker),
}

macro_rules! each {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self {
            Broker::Nsq(broker) => broker.$method($($arg),*).await,
            Broker::Embedded(broker) => broker.$method($($arg),*).await,
            #[cfg(feature = "simulation")]
            Broker::Faulty(broker) => broker.$method($($arg),*).await,
        }
    };
}

mod console;

pub use console::*;

impl Broker {
    /// The server that shall carry a new chat: by rendezvous hash over those that are well (over all, if none is).
    #[must_use]
    pub fn place(&self, chat: ChatId) -> String {
        match self {
            Self::Nsq(broker) => broker.place(chat),
            Self::Embedded(broker) => broker.place(chat),
            #[cfg(feature = "simulation")]
            Self::Faulty(broker) => broker.place(chat),
        }
    }

    /// The server that shall carry a chat instead of `from`: by rendezvous hash over the others that are well.
    #[must_use]
    pub fn place_elsewhere(&self, chat: ChatId, from: &str) -> Option<String> {
        match self {
            Self::Nsq(broker) => broker.place_elsewhere(chat, from),
            Self::Embedded(_) => None,
            #[cfg(feature = "simulation")]
            Self::Faulty(_) => None,
        }
    }

    /// Makes the device's queues of these chats, each on its node, and makes that durable. Queues that are there stay.
    pub async fn provision(&self, device: DeviceId, chats: &[(ChatId, String)]) -> Result<()> {
        each!(self.provision(device, chats))
    }

    /// Sends one message frame to every queue of its chat; `Ok` when the server has it. Calls for one node keep their
    /// order. [`BrokerError::Unpublishable`]: trying again is no use.
    pub async fn publish(&self, node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        each!(self.publish(node, chat, frame))
    }

    /// Takes what the device's queue of the chat holds, as far as `prefetch` has room. Connects in the background and retries
    /// for ever.
    #[must_use]
    pub fn subscribe(
        &self,
        node: &str,
        chat: ChatId,
        device: DeviceId,
        prefetch: &Prefetch,
        sink: Sink,
    ) -> Subscription {
        match self {
            Self::Nsq(broker) => broker.subscribe(node, chat, device, prefetch, sink),
            Self::Embedded(broker) => broker.subscribe(node, chat, device, prefetch, sink),
            #[cfg(feature = "simulation")]
            Self::Faulty(broker) => broker.subscribe(chat, device, prefetch, sink),
        }
    }

    /// The largest message that every server takes, in bytes, as far as they have said so.
    #[must_use]
    pub fn largest_message(&self) -> Option<usize> {
        match self {
            Self::Nsq(broker) => broker.largest_message(),
            Self::Embedded(broker) => broker.largest_message(),
            #[cfg(feature = "simulation")]
            Self::Faulty(broker) => broker.largest_message(),
        }
    }

    /// One pass of removing a device's queues: those of `chats` and all that any server shows for it (`only`: of these
    /// chats alone, as when leaving), on every nsqd and nsqlookupd, with the barrier that makes it durable.
    pub async fn remove_queues(&self, device: DeviceId, chats: &[ChatId], only: bool) -> Removal {
        each!(self.remove_queues(device, chats, only))
    }

    /// Removes a device's queue of a chat from one server alone, where it has no business; true: it was there.
    pub async fn remove_stray(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        each!(self.remove_stray(node, chat, device))
    }

    /// Removes a chat's topic everywhere; answers the servers that didn't answer.
    pub async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        each!(self.remove_chat(chat))
    }

    /// All queues of a device on every server, and the servers that didn't answer.
    pub async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        each!(self.queues_of(device))
    }

    /// What the device's queue of a chat has on one server, asked now; none: it isn't there. A message that moves meanwhile may
    /// be counted twice, or not at all: only what two looks show is so.
    pub async fn backlog(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<Option<Backlog>> {
        each!(self.backlog(node, chat, device))
    }

    /// All queues on every server.
    pub async fn queues(&self) -> Present {
        each!(self.queues())
    }

    /// Takes a chat that has no queue on a server away from that server alone; true: it was there.
    pub async fn remove_empty(&self, node: &str, chat: ChatId) -> Result<bool> {
        each!(self.remove_empty(node, chat))
    }

    /// Some of the queues that directories of servers remember, whether or not any server has them; the next with each
    /// call, around and around.
    pub async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        each!(self.remembered())
    }

    /// How often servers were restarted since this process began, as far as it has noticed: a server that was may show queues
    /// as they were long ago. Waits until it isn't `known` any more.
    pub async fn restarted(&self, known: u64) -> u64 {
        each!(self.restarted(known))
    }

    /// Says durably, on every server, that a store with this prefix has queues there, and how far its clock is; on those that
    /// don't answer, or lose it, later.
    pub async fn claim(&self, prefix: &str, clock: u64) {
        each!(self.claim(prefix, clock));
    }

    /// How far the clock of a store with this prefix was when it was last claimed, by any server that answers; none: none
    /// knows of it.
    pub async fn claimed(&self, prefix: &str) -> Option<u64> {
        each!(self.claimed(prefix))
    }

    /// The servers that carry chats, and whether messages are given to each.
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, bool)> {
        match self {
            Self::Nsq(broker) => broker.nodes(),
            Self::Embedded(broker) => broker.nodes(),
            #[cfg(feature = "simulation")]
            Self::Faulty(broker) => broker.nodes(),
        }
    }

    /// For how long no messages have been given to this server, because it isn't well; or since when it was first asked
    /// about and isn't configured; none: it is well. While it isn't, [`Broker::publish`] refuses at once.
    #[must_use]
    pub fn down_for(&self, node: &str) -> Option<Duration> {
        match self {
            Self::Nsq(broker) => broker.down_for(node),
            Self::Embedded(_) => None,
            #[cfg(feature = "simulation")]
            Self::Faulty(_) => None,
        }
    }

    /// Each server's health, asked now.
    pub async fn health(&self) -> Vec<NodeHealth> {
        each!(self.health())
    }
}
