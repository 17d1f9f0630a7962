//! A subscription: one channel of one nsqd, one connection, a value that its owner holds.
//!
//! Its task connects and subscribes. Then it does five things, whichever is due: it settles what receipts request,
//! hands messages to the owner as far as the owner has room, keeps RDY where the policy wants it, writes, and reads.
//! Reading never waits for the owner, so a slow owner doesn't delay heartbeats; what the owner hasn't taken waits in a
//! queue bounded by RDY and `buffer_bytes`. When the connection breaks, the task reports it and retries without limit.

mod attached;
mod budget;
mod credit;
mod inflight;
mod receipt;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::budget::Budget;
pub use self::credit::Delivery;
pub use self::receipt::{Message, Receipt};
use crate::address::Address;
use crate::admin::NsqdAdmin;
use crate::identify::ConnectOptions;
use crate::pool::Pool;

/// The deadline of leaving: RDY 0, requeue, CLS, nsqd's answer, close.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// What to subscribe to, and how. Start from [`SubscribeOptions::new`].
///
/// More than 12 fields: each is an independent choice, with a default.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// nsqd's TCP address.
    pub tcp_addr: Address,
    /// nsqd's HTTP interface: needed for [`Reattach::IfChannelExists`] and [`Reattach::ExistingOnly`].
    pub nsqd: Option<NsqdAdmin>,
    /// How many subscriptions of one owner begin at the same time: each attempt holds one permit. Default: no such bound.
    pub turns: Option<Arc<Semaphore>>,
    /// Connections of the same nsqd that are ready for use. Default: none, each attempt opens its own.
    pub pool: Option<Pool>,
    /// The topic; see [`crate::valid_name`].
    pub topic: String,
    /// The channel; see [`crate::valid_name`].
    pub channel: String,
    /// The maximum of unsettled messages at once, at least 1; also bounded by nsqd's `--max-rdy-count`. Default 256.
    pub max_in_flight: u32,
    /// Bytes of bodies read from the socket but not yet taken by the owner; above it nsqd is asked to pause. Default 1
    /// MiB.
    pub buffer_bytes: usize,
    /// How long nsqd waits for a message to be settled before it redelivers it; nsqd's default if `None`. nsqd accepts
    /// 1 s to `--max-msg-timeout`.
    pub msg_timeout: Option<Duration>,
    /// Shared by all subscriptions of a process.
    pub connect: Arc<ConnectOptions>,
    /// The action when the connection is lost. Default [`Reattach::Always`].
    pub reattach: Reattach,
    /// How messages leave nsqd's buffer. Default [`Delivery::Window`].
    pub delivery: Delivery,
    /// A bound on what this subscription holds together with others of the same budget. Default: no such bound.
    pub budget: Option<Budget>,
    /// What happens to messages that the owner holds for long. Default [`Hold::UntilTimeout`].
    pub hold: Hold,
}

impl SubscribeOptions {
    /// Returns options for a channel of the nsqd at `tcp_addr`, all others at their defaults.
    pub fn new(tcp_addr: impl Into<Address>, topic: impl Into<String>, channel: impl Into<String>) -> Self {
        Self {
            tcp_addr: tcp_addr.into(),
            nsqd: None,
            turns: None,
            pool: None,
            topic: topic.into(),
            channel: channel.into(),
            max_in_flight: 256,
            buffer_bytes: 1 << 20,
            msg_timeout: None,
            connect: Arc::default(),
            reattach: Reattach::Always,
            delivery: Delivery::Window,
            budget: None,
            hold: Hold::UntilTimeout,
        }
    }
}

/// The action when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reattach {
    /// Subscribe again. nsqd creates the channel if it is missing.
    #[default]
    Always,
    /// Before every attempt except the first, ask nsqd over HTTP whether the channel exists. If not, send
    /// [`Event::ChannelGone`] and end: subscribing would recreate a deleted channel. NSQ has no subscribe-if-exists, so
    /// a channel that is deleted between the answer and the SUB still returns. Without `nsqd` there is nothing to ask,
    /// , and the subscription ends at the first loss.
    IfChannelExists,
    /// The same, but ask before the first attempt too: such a subscription never creates a channel, except in the
    /// instant named above.
    ExistingOnly,
}

/// What happens to messages that the owner holds for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hold {
    /// After `msg_timeout` nsqd redelivers them, at the tail of its queue.
    #[default]
    UntilTimeout,
    /// They are touched in time, as long as the connection lives and nsqd allows (`--max-msg-timeout`, 15 min in
    /// total). This happens with nsqd's heartbeats, so `msg_timeout` must be longer than one and a half of them.
    WhileConnected,
}

/// An event from a subscription to its owner.
#[derive(Debug)]
pub enum Event {
    /// Subscribed; messages may follow.
    Attached,
    /// A message, to be settled by its receipt.
    Message(Message),
    /// Not subscribed at the moment: the connection was lost, or an attempt failed. All earlier receipts are void; nsqd
    /// redelivers their messages, here or elsewhere.
    Detached {
        /// The error and the remedy, for the log.
        error: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The channel doesn't exist any more, or its name isn't valid. The subscription has ended; only dropping it
    /// remains.
    ChannelGone,
}

/// A running subscription. Dropping it ends it in the background as [`Subscription::close`] does.
#[derive(Debug)]
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    /// Dropped to make the task leave.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Subscription {
    /// Starts subscribing in its own task, which sends events to `events`, each with `tag`: as that pair, or as the
    /// owner's type converts it. Many subscriptions may share one `events` channel. Invalid names are never sent to
    /// nsqd: the owner gets [`Event::Detached`] with the reason, then [`Event::ChannelGone`].
    ///
    /// When the receiver of `events` is dropped, the subscription ends as if it had been dropped itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open<T, E>(options: SubscribeOptions, tag: T, events: mpsc::Sender<E>) -> Self
    where
        T: Copy + Send + 'static,
        E: From<(T, Event)> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(task::Task::new(options, tag, events).run(stopped));
        Self { stop: Some(stop), task }
    }

    /// Leaves the channel: nsqd stops sending, all unsettled messages are requeued at once (including those that the
    /// owner holds: their receipts are void from now on), and the connection is closed. On return nsqd no longer counts
    /// this client, unless it didn't answer within 2 s.
    pub async fn close(mut self) {
        self.stop = None;
        // The task keeps the deadline itself; the second one is for a runtime that is shutting down.
        if tokio::time::timeout(LEAVE_DEADLINE * 2, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}
