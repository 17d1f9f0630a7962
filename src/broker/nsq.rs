//! The broker over NSQ: a chat is a topic, a device a channel on it. See [`crate::broker`] for the contract.
//!
//! - Each chat lives on one nsqd, which is stored with the chat; [`NsqBroker::place`] only chooses one for a new chat.
//! - Each nsqd has its own task that watches whether it is up, and where its TCP port is. The tasks end with the last
//!   clone of the broker. Nothing is published to one that isn't up (`breaker`).
//! - This module adds what NSQ doesn't have: creation and deletion that survive a crash (a barrier behind them),
//!   deletion on all servers, and subscriptions that never create.

#![allow(clippy::disallowed_types, reason = "this is the adapter: NSQ's types end here")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt, TryStreamExt,
    future::{join_all, try_join_all},
    stream,
};
use keepstep_nsq::{Address, ConnectOptions, Hold, NsqdAdmin, Reattach, SubscribeOptions};
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    Backlog, BrokerError, Event, Flow, Notice, Prefetch, Receipt, ReceiptKind, Restarts, Result, Sink,
    Subscription, SubscriptionKind,
    checksum::{CHECKSUM_BYTES, add_checksum, verify},
};
use crate::domain::{
    id::{ChatId, DeviceId},
    names,
};

mod address;
mod breaker;
mod console;
mod lookup;
mod node;
mod placement;
mod removal;

pub use address::{AddressError, NodeAddress};
use lookup::Lookup;
use node::Node;

/// Administrative calls under way at once, per server or operation: nsqd executes them one by one anyway.
const PARALLEL: usize = 8;

/// Deliveries of one queue that a session may hold, of those that it may hold in all.
const MAX_IN_FLIGHT: u32 = 256;

/// How to reach NSQ.
#[derive(Debug, Clone)]
pub struct NsqOptions {
    /// Every nsqd that carries chats or may carry them.
    pub nsqd: Vec<NodeAddress>,
    /// The HTTP address of every nsqlookupd that they register at: `host:port` or `http://host:port`.
    pub nsqlookupd: Vec<String>,
    /// The client's id: the edge, as nsqd's statistics show it.
    pub client_id: String,
    /// The heartbeat interval of an idle connection. nsqd accepts 1 s to `--max-heartbeat-interval` (60 s). What a
    /// device holds for long is touched then, so `msg_timeout` must be twice as long.
    pub heartbeat: Duration,
    /// When nsqd redelivers a delivery that was neither finished nor requeued. Longer than a session waits for its
    /// device's ack (45 s): this is for an edge that died.
    pub msg_timeout: Duration,
}

impl NsqOptions {
    /// Returns options for these servers, all others at their defaults: heartbeat 30 s, message time-out 60 s.
    #[must_use]
    pub fn new(client_id: impl Into<String>, nsqd: Vec<NodeAddress>, nsqlookupd: Vec<String>) -> Self {
        Self {
            nsqd,
            nsqlookupd,
            client_id: client_id.into(),
            heartbeat: Duration::from_secs(30),
            msg_timeout: Duration::from_secs(60),
        }
    }

    /// Sets this message time-out, and heartbeats that are frequent enough for it.
    #[must_use]
    pub fn with_msg_timeout(self, msg_timeout: Duration) -> Self {
        let heartbeat = (msg_timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(30));
        Self { heartbeat, msg_timeout, ..self }
    }
}

/// nsqd and nsqlookupd. Clones are handles to the same connections.
#[derive(Clone)]
pub struct NsqBroker {
    shared: Arc<Shared>,
}

struct Shared {
    /// At least one.
    nodes: Vec<Arc<Node>>,
    lookups: Vec<Arc<Lookup>>,
    connect: Arc<ConnectOptions>,
    msg_timeout: Duration,
    /// Nodes that were asked about and aren't configured, since when.
    strangers: Mutex<HashMap<String, Instant>>,
    /// Counts restarts of any nsqd.
    restarts: watch::Sender<Restarts>,
    /// Never set: the address of an nsqd that isn't configured.
    nowhere: watch::Sender<Option<String>>,
    /// Owns the tasks that watch the servers; they are aborted when it is dropped.
    _watchers: JoinSet<()>,
}

impl fmt::Debug for NsqBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.shared.nodes.iter().map(|node| node.id());
        f.debug_list().entries(nodes).entries(self.shared.lookups.iter().map(|lookup| &lookup.id)).finish()
    }
}

impl NsqBroker {
    /// Checks each nsqd once (3 s at most) and watches it from then on. Servers that are down are no error: they are
    /// found when they come up.
    ///
    /// # Errors
    /// An address that is malformed or named twice, or no nsqd at all.
    pub async fn connect(options: NsqOptions) -> std::result::Result<Self, AddressError> {
        let connect = Arc::new(ConnectOptions {
            client_id: options.client_id,
            user_agent: concat!("keepstep/", env!("CARGO_PKG_VERSION")).to_owned(),
            heartbeat: options.heartbeat,
            ..ConnectOptions::default()
        });
        let restarts = watch::Sender::new(Restarts::new());
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for address in options.nsqd {
            if nodes.iter().any(|node| node.id() == address.http) {
                return Err(AddressError::new(&address.http, "another nsqd", "it is named twice"));
            }
            nodes.push(Arc::new(Node::new(address, connect.clone(), options.msg_timeout, restarts.clone())));
        }
        if nodes.is_empty() {
            return Err(AddressError::new("", "an nsqd", "at least one is needed"));
        }
        let mut lookups: Vec<Arc<Lookup>> = Vec::new();
        for text in options.nsqlookupd {
            let id = address::lookupd_address(&text)?;
            if lookups.iter().any(|lookup| lookup.id == id) {
                return Err(AddressError::new(&text, "another nsqlookupd", "it is named twice"));
            }
            lookups.push(Arc::new(Lookup::new(id)));
        }
        join_all(nodes.iter().map(|node| node.begin())).await;
        let mut watchers: JoinSet<()> = nodes.iter().map(|node| node.clone().watch()).collect();
        for lookup in &lookups {
            watchers.spawn(lookup.clone().watch());
        }
        let shared = Shared {
            nodes,
            lookups,
            connect,
            msg_timeout: options.msg_timeout,
            strangers: Mutex::default(),
            restarts,
            nowhere: watch::Sender::new(None),
            _watchers: watchers,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// See [`super::Broker::place`].
    #[must_use]
    pub fn place(&self, chat: ChatId) -> String {
        let well = self.shared.nodes.iter().filter(|node| node.is_well()).map(|node| node.id());
        let all = self.shared.nodes.iter().map(|node| node.id());
        placement::choose(well, chat).or_else(|| placement::choose(all, chat)).unwrap_or_default().to_owned()
    }

    /// See [`super::Broker::place_elsewhere`].
    #[must_use]
    pub fn place_elsewhere(&self, chat: ChatId, from: &str) -> Option<String> {
        let well = self.shared.nodes.iter().filter(|node| node.is_well() && node.id() != from);
        placement::choose(well.map(|node| node.id()), chat).map(str::to_owned)
    }

    /// See [`super::Broker::provision`]. After an error some queues may exist; a repetition creates the rest.
    pub async fn provision(&self, flow: &Flow, device: DeviceId, chats: &[(ChatId, String)]) -> Result<()> {
        let channel = &names::channel(device);
        let mut work = Vec::with_capacity(chats.len());
        let mut touched = BTreeMap::new();
        for (chat, id) in chats {
            let node = self.node(id)?;
            work.push((node, names::topic(*chat)));
            touched.insert(node.id(), node);
        }
        let creations: Vec<_> =
            work.into_iter().map(|(node, topic)| create(node, flow, topic, channel)).collect();
        stream::iter(creations).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let barriers = touched
            .into_values()
            .map(|node| async move { node.admin.barrier().await.map_err(|error| node.fault(&error)) });
        try_join_all(barriers).await?;
        Ok(())
    }

    /// See [`super::Broker::publish`].
    pub async fn publish(&self, node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        self.node(node)?.publish(&names::topic(chat), add_checksum(&frame)).await
    }

    /// See [`super::Broker::nodes`].
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, bool)> {
        self.shared.nodes.iter().map(|node| (node.id().to_owned(), node.is_well())).collect()
    }

    /// See [`super::Broker::down_for`].
    #[must_use]
    pub fn down_for(&self, node: &str) -> Option<Duration> {
        if let Ok(node) = self.node(node) {
            return node.down_for();
        }
        // Not since the process began: another edge may have been configured with a new node before this one.
        let mut strangers = self.shared.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        Some(strangers.entry(node.to_owned()).or_insert_with(Instant::now).elapsed())
    }

    /// See [`super::Broker::largest_message`].
    #[must_use]
    pub fn largest_message(&self) -> Option<usize> {
        let least = self.shared.nodes.iter().filter_map(|node| node.largest_message()).min();
        least.map(|least| least.saturating_sub(CHECKSUM_BYTES))
    }

    /// See [`super::Broker::subscribe`]. Must be called in a Tokio runtime.
    #[must_use]
    pub fn subscribe(
        &self,
        node: &str,
        chat: ChatId,
        device: DeviceId,
        prefetch: &Prefetch,
        sink: Sink,
    ) -> Subscription {
        let (tcp, nsqd, pool) = match self.node(node) {
            Ok(node) => (node.tcp(), node.admin.clone(), Some(node.pool.clone())),
            Err(error) => {
                // As if the node were down: its removal from the configuration must not pass for "removed".
                tracing::warn!(%chat, %error, "can't subscribe");
                (Address::Told(self.shared.nowhere.subscribe()), NsqdAdmin::new(node), None)
            }
        };
        let options = SubscribeOptions {
            nsqd: Some(nsqd),
            pool,
            turns: Some(prefetch.turns(node)),
            max_in_flight: MAX_IN_FLIGHT,
            msg_timeout: Some(self.shared.msg_timeout),
            connect: self.shared.connect.clone(),
            reattach: Reattach::ExistingOnly,
            budget: Some(prefetch.nsq.clone()),
            // For a slow device that acknowledges: it keeps what it holds as long as it is connected.
            hold: Hold::WhileConnected,
            ..SubscribeOptions::new(tcp, names::topic(chat), names::channel(device))
        };
        Subscription(SubscriptionKind::Nsq(keepstep_nsq::Subscription::open(
            options,
            (chat, sink.subscription),
            sink.notices,
        )))
    }

    /// See [`super::Broker::backlog`].
    pub async fn backlog(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<Option<Backlog>> {
        let node = self.node(node)?;
        node.backlog(chat, device).await
    }

    /// See [`super::Broker::claim`].
    pub async fn claim(&self, prefix: &str, clock: u64) {
        let topic = &names::claim(prefix);
        join_all(self.shared.nodes.iter().map(|node| node.claim(topic, clock))).await;
        // An nsqd that recreates the topic would create all marks that nsqlookupd remembers.
        let forgotten = join_all(self.shared.lookups.iter().map(|lookup| lookup.forget_marks(topic, clock)));
        for error in forgotten.await.into_iter().filter_map(|forgotten| forgotten.err()) {
            tracing::debug!(%error, "older marks stay at nsqlookupd for now");
        }
    }

    /// See [`super::Broker::restarted`].
    pub async fn restarted(&self, known: &Restarts) -> Restarts {
        let mut restarts = self.shared.restarts.subscribe();
        // Its sender is our own: it can't be gone.
        restarts
            .wait_for(|restarts| restarts != known)
            .await
            .map_or_else(|_| known.clone(), |found| found.clone())
    }

    /// See [`super::Broker::claimed`].
    pub async fn claimed(&self, prefix: &str) -> Option<u64> {
        let topic = &names::claim(prefix);
        let marks = join_all(self.shared.nodes.iter().map(|node| node.marks(topic))).await;
        marks.into_iter().flatten().flatten().map(|marks| marks.into_iter().max().unwrap_or(0)).max()
    }

    fn node(&self, id: &str) -> Result<&Node> {
        self.shared.nodes.iter().find(|node| node.id() == id).map(|node| &**node).ok_or_else(|| {
            BrokerError::Unavailable {
                node: id.to_owned(),
                reason: "no nsqd of that address is configured".to_owned(),
            }
        })
    }
}

/// Creates the channel at once after its topic: what is published to a topic without channels waits there, and goes to
/// the first channel alone.
async fn create(node: &Node, flow: &Flow, topic: String, channel: &str) -> Result<()> {
    let _turn = node.changes.acquire(flow).await;
    node.admin.create_topic(&topic).await.map_err(|error| node.fault(&error))?;
    node.admin.create_channel(&topic, channel).await.map_err(|error| node.fault(&error))
}

/// Converts an event of NSQ into the broker's.
impl From<((ChatId, u64), keepstep_nsq::Event)> for Box<Notice> {
    fn from(((chat, subscription), event): ((ChatId, u64), keepstep_nsq::Event)) -> Self {
        use keepstep_nsq::Event as Nsq;
        let event = match event {
            Nsq::Attached => Event::Attached,
            Nsq::Message(message) => {
                let (body, receipt) = message.into_parts();
                verify(body, Receipt(ReceiptKind::Nsq(receipt)))
            }
            Nsq::Detached { .. } => Event::Detached,
            Nsq::ChannelGone => Event::Gone,
        };
        Box::new(Notice { chat, subscription, event })
    }
}
