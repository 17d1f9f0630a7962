//! One nsqd: its address, its health, and the clients to reach it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use keepstep_nsq::{
    Address, AdminError, ChannelBrief, ConnectOptions, NsqdAdmin, Pool, PoolOptions, PublishError, Publisher,
    StatsFilter, largest_message,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{address::NodeAddress, breaker::Breaker};
use crate::{
    broker::{Backlog, BrokerError, Flow, NodeHealth, QueueState, Restarts, Result as BrokerResult},
    domain::{
        fair::{Bounds, FairQueue},
        id::{ChatId, DeviceId},
        names,
    },
};

/// How often a node is checked while it is up, and the longest wait while it isn't.
const WHILE_WELL: Duration = Duration::from_secs(5);
const WHILE_NOT: Duration = Duration::from_secs(1);
/// The wait before the first check after a failure: most are over in a moment.
const SOON: Duration = Duration::from_millis(100);
/// The deadline of the request for its maximum message size.
const LARGEST_WITHIN: Duration = Duration::from_secs(1);
/// How many backlog reads run at the same time: a device may read each of its chats' backlogs, and all devices may at
/// once.
const LOOKS: usize = 32;
/// The longest wait for a turn to read.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// nsqd creates and deletes channels one after the other, and writes all of them down each time: milliseconds with ten
/// thousand of them. So only a bounded number is under way, and users take turns. A caller that has waited for the
/// longest time continues all the same.
const CHANGES: Bounds = Bounds { at_once: 8, of_one: 2, longest: Duration::from_secs(30) };
/// More than may fit into the rest of a block of a full disk.
const PROBE_BYTES: usize = 64 << 10;

/// One configured nsqd.
///
/// More than 12 fields: the clients to reach it, its health, and the bounds of what is asked of it.
#[derive(Debug)]
pub(super) struct Node {
    address: NodeAddress,
    pub(super) admin: NsqdAdmin,
    publisher: Publisher,
    /// Connections for subscriptions that begin.
    pub(super) pool: Pool,
    /// Its TCP address, as soon as it is known. Subscriptions and the publisher wait for it, and follow it.
    tcp: watch::Sender<Option<String>>,
    breaker: Breaker,
    /// See [`Node::backlog`].
    stats_slots: Semaphore,
    /// Creations and deletions of queues.
    pub(super) changes: FairQueue<Flow>,
    connect: ConnectOptions,
    /// The largest message that it accepts (its `--max-msg-size`), in bytes. 0: not known yet.
    largest: AtomicUsize,
    /// Its reported start time: a different time means that it was restarted. 0: not known yet.
    started: AtomicI64,
    /// Notified of its restarts.
    restarts: watch::Sender<Restarts>,
    /// The topic of the claim of a store that has queues here, and the store's clock.
    claim: Mutex<Option<(String, u64)>>,
}

impl Node {
    pub(super) fn new(
        address: NodeAddress,
        connect: Arc<ConnectOptions>,
        msg_timeout: Duration,
        restarts: watch::Sender<Restarts>,
    ) -> Self {
        let tcp = watch::Sender::new(address.tcp.clone());
        let told = || Address::Told(tcp.subscribe());
        let pool = PoolOptions { msg_timeout: Some(msg_timeout), ..PoolOptions::default() };
        Self {
            pool: Pool::new(told(), connect.clone(), pool),
            admin: NsqdAdmin::new(&address.http),
            publisher: Publisher::new(told(), (*connect).clone()),
            connect: (*connect).clone(),
            largest: AtomicUsize::new(0),
            tcp,
            breaker: Breaker::new(),
            stats_slots: Semaphore::new(LOOKS),
            changes: FairQueue::new(CHANGES),
            started: AtomicI64::new(0),
            restarts,
            claim: Mutex::default(),
            address,
        }
    }

    /// Returns its name: the configured HTTP address.
    pub(super) fn id(&self) -> &str {
        &self.address.http
    }

    pub(super) fn tcp(&self) -> Address {
        Address::Told(self.tcp.subscribe())
    }

    /// Returns whether it is used for publishing, and for new chats.
    pub(super) fn is_well(&self) -> bool {
        self.breaker.why().is_none()
    }

    /// Returns how long it hasn't been used.
    pub(super) fn down_for(&self) -> Option<Duration> {
        self.breaker.open_for()
    }

    /// See [`crate::broker::Broker::largest_message`].
    pub(super) fn largest_message(&self) -> Option<usize> {
        Some(self.largest.load(Ordering::Relaxed)).filter(|largest| *largest > 0)
    }

    /// Publishes, unless the breaker is open. Returns at once if the breaker opens meanwhile.
    pub(super) async fn publish(&self, topic: &str, frame: Bytes) -> BrokerResult<()> {
        let node = || self.id().to_owned();
        if let Some(why) = self.breaker.why() {
            return Err(BrokerError::Unavailable { node: node(), reason: why.to_string() });
        }
        // If it were sent, it would cost the messages behind it their connection.
        if let Some(largest) = self.largest_message().filter(|largest| frame.len() > *largest) {
            let reason = format!("it has {} bytes, and its --max-msg-size is {largest}", frame.len());
            return Err(BrokerError::Unpublishable { node: node(), reason });
        }
        let published = tokio::select! {
            biased;
            published = self.publisher.publish(topic, frame) => published,
            why = self.breaker.opened() => {
                return Err(BrokerError::Unknown { node: node(), reason: why.to_string() });
            }
        };
        match published {
            Ok(()) => {
                self.breaker.succeeded();
                Ok(())
            }
            Err(error) => {
                self.classify(&error);
                let fault = self.publish_fault(error);
                if matches!(fault, BrokerError::Unpublishable { .. }) {
                    // It was restarted with another limit, within one second: otherwise the restart would have been
                    // noticed.
                    self.largest.store(0, Ordering::Relaxed);
                }
                Err(fault)
            }
        }
    }

    /// Updates the breaker by what a failed call means for the nsqd, not for its message.
    fn classify(&self, error: &PublishError) {
        match error {
            PublishError::Invalid(_) => {}
            PublishError::Refused { code, .. } if !code.ends_with("PUB_FAILED") => {}
            // It was sent, and no answer came: nsqd hangs, or has just died.
            PublishError::Unknown(why) => self.opened(self.breaker.open(why), why),
            error => self.breaker.failed(&error.to_string()),
        }
    }

    fn opened(&self, now: bool, why: &str) {
        if now {
            tracing::warn!(node = self.id(), why, "nsqd is down: its messages wait in the store");
        }
    }

    /// Makes the first check: a node that answers counts as up.
    pub(super) async fn begin(&self) {
        match self.ask().await {
            Ok(()) => {
                self.learn_largest().await;
                self.closed();
            }
            Err(problem) => {
                // It counted as down before the first check, so nobody was notified.
                self.breaker.open(&problem);
                self.opened(true, &problem);
            }
        }
    }

    /// Checks it without end.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut pause = SOON;
        loop {
            if self.is_well() {
                pause = SOON;
                tokio::select! {
                    () = sleep(WHILE_WELL) => {}
                    _ = self.breaker.opened() => continue,
                }
                match self.ask().await {
                    Ok(()) if self.largest_message().is_none() => self.learn_largest().await,
                    Ok(()) => {}
                    Err(problem) => self.opened(self.breaker.open(&problem), &problem),
                }
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(WHILE_NOT);
                match self.probe().await {
                    Ok(()) => {
                        self.claim_again().await;
                        self.closed();
                    }
                    Err(problem) => drop(self.breaker.open(&problem)),
                }
            }
        }
    }

    fn closed(&self) {
        if self.breaker.close() {
            tracing::info!(node = self.id(), "nsqd is up");
        }
    }

    /// Claims the node for the store of this topic, which has queues here: now and whenever the node comes back.
    pub(super) async fn claim(&self, topic: &str, clock: u64) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = Some((topic.to_owned(), clock));
        self.claim_again().await;
    }

    async fn claim_again(&self) {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((topic, clock)) = &claim else { return };
        let claimed = async {
            self.admin.create_topic(topic).await?;
            self.admin.create_channel(topic, &names::mark(*clock)).await?;
            let marks = self.marks(topic).await?.unwrap_or_default();
            for older in marks.into_iter().filter(|other| other < clock) {
                self.admin.delete_channel(topic, &names::mark(older)).await?;
            }
            self.admin.barrier().await
        };
        if let Err(error) = claimed.await {
            tracing::debug!(node = self.id(), %error, "not claimed now; tried again when it is well");
        }
    }

    /// Reads its maximum message size. nsqd reports it only to a message that is too large; until it is known, no
    /// message is refused here.
    async fn learn_largest(&self) {
        let Some(tcp) = self.tcp.borrow().clone() else { return };
        let connect = ConnectOptions { connect_timeout: LARGEST_WITHIN, ..self.connect.clone() };
        match largest_message(&tcp, &connect, names::PROBE).await {
            Ok(largest) => self.largest.store(largest, Ordering::Relaxed),
            Err(error) => {
                self.largest.store(0, Ordering::Relaxed);
                tracing::debug!(node = self.id(), %error, "its --max-msg-size isn't known; asked again");
            }
        }
    }

    /// Returns its health: its own report, or why it isn't used.
    pub(super) async fn health(&self) -> NodeHealth {
        let problem = match self.ask().await {
            Ok(()) => self.breaker.why().map(|why| {
                format!(
                    "it answers, and isn't used until a probe has gone through ({why}): see its log if that stays so"
                )
            }),
            Err(problem) => {
                self.opened(self.breaker.open(&problem), &problem);
                Some(problem)
            }
        };
        NodeHealth { node: self.id().to_owned(), role: "nsqd", problem }
    }

    /// Returns its health at the last check, or the last use.
    pub(super) fn last_health(&self) -> NodeHealth {
        let problem = self.breaker.why().map(|why| why.to_string());
        NodeHealth { node: self.id().to_owned(), role: "nsqd", problem }
    }

    /// Checks its health, and its TCP port unless that is pinned: after a restart the port may differ. A problem is a
    /// sentence with the remedy.
    async fn ask(&self) -> Result<(), String> {
        let (ping, info) = tokio::join!(self.admin.ping(), self.learn());
        // A node that can't be reached fails both ways; one error is enough.
        ping.map_err(|error| {
            let what = in_words(&error);
            match error {
                AdminError::Refused { status: 500, .. } => format!(
                    "{what}: free its disk, or give it another; until then its messages wait in the store"
                ),
                // The HTTP client's error for an answer in another protocol.
                AdminError::Unreachable { error, .. } if error.starts_with("invalid HTTP") => format!(
                    "{what}: KEEPSTEP_NSQD takes its HTTP address (mostly 4151), and not that of its TCP port; until then its \
                     messages wait in the store"
                ),
                _ => format!(
                    "{what}: start it, or let this edge reach it; until then its messages wait in the store"
                ),
            }
        })?;
        info
    }

    /// Checks whether it accepts messages. After a failed write nsqd reports that it is unhealthy until a write
    /// succeeds, so it must be tried.
    async fn probe(&self) -> Result<(), String> {
        if let Err(error) = self.admin.ping().await
            && !matches!(error, AdminError::Refused { status: 500, .. })
        {
            return self.ask().await;
        }
        self.learn().await?;
        // The limit may have changed, even if its start time didn't.
        self.learn_largest().await;
        let probed = self.publisher.publish(names::PROBE, Bytes::from_static(&[b'.'; PROBE_BYTES])).await;
        // An nsqd's error about the message itself (too large for it, for example) is no failure of the node.
        if let Err(error) = &probed
            && !matches!(error, PublishError::Refused { code, .. } if !code.ends_with("PUB_FAILED"))
        {
            return Err(format!("it takes no messages: {error}"));
        }
        if let Err(error) = self.admin.delete_topic(names::PROBE).await {
            tracing::debug!(node = self.id(), %error, "the topic of the probe stays until the next one");
        }
        self.ask().await
    }

    /// Reads its TCP port, unless that is pinned, and whether it was restarted.
    async fn learn(&self) -> Result<(), String> {
        let info = self.admin.info().await.map_err(|error| in_words(&error))?;
        let before = self.started.swap(info.start_time, Ordering::Relaxed);
        if before != 0 && before != info.start_time {
            tracing::info!(node = self.id(), "nsqd was restarted");
            self.largest.store(0, Ordering::Relaxed);
            self.claim_again().await;
            self.restarts.send_modify(|restarts| *restarts.entry(self.id().to_owned()).or_default() += 1);
        }
        if self.address.tcp.is_some() {
            return Ok(());
        }
        let port = info.tcp_port;
        if port <= 0 {
            return Err("it listens on no TCP port; give one with ?tcp=host:port".to_owned());
        }
        let found = format!("{}:{port}", self.address.host());
        self.tcp.send_if_modified(|known| {
            let is_news = known.as_ref() != Some(&found);
            if is_news {
                *known = Some(found);
            }
            is_news
        });
        Ok(())
    }

    /// Returns the device's queues on it: all, or that of one chat.
    pub(super) async fn queues(
        &self,
        device: DeviceId,
        chat: Option<ChatId>,
    ) -> Result<Vec<QueueState>, AdminError> {
        let (topic, channel) = (chat.map(names::topic), names::channel(device));
        let filter = StatsFilter { topic: topic.as_deref(), channel: Some(&channel), clients: true };
        let mut found = self.queues_by(filter).await?;
        found.retain(|queue| queue.device == device);
        Ok(found)
    }

    /// Returns its backlog for the device in a chat, including what the topic hasn't copied yet. Thousands may want to
    /// know, so a few ask at a time. A node that isn't up is asked, too: perhaps it is just back, and has what
    /// everybody considers lost.
    pub(super) async fn backlog(&self, chat: ChatId, device: DeviceId) -> BrokerResult<Option<Backlog>> {
        // Held until it has answered. It is never closed.
        let Ok(_permit) = timeout(TURN_WITHIN, self.stats_slots.acquire()).await else {
            let (node, reason) = (self.id().to_owned(), "too many look for what it has".to_owned());
            return Err(BrokerError::Unavailable { node, reason });
        };
        self.ask_backlog(chat, device).await.map_err(|error| self.fault(&error))
    }

    async fn ask_backlog(&self, chat: ChatId, device: DeviceId) -> Result<Option<Backlog>, AdminError> {
        let (topic, channel) = (names::topic(chat), names::channel(device));
        let filter = StatsFilter { topic: Some(&topic), channel: Some(&channel), clients: false };
        let count = |depth: i64| u64::try_from(depth).unwrap_or(0);
        let found = self.admin.stats(filter).await?.into_iter().find(|found| found.topic == topic);
        Ok(found.and_then(|topic| {
            let queue = topic.channels.into_iter().find(|queue| queue.channel == channel)?;
            Some(Backlog {
                uncopied: count(topic.depth),
                depth: count(topic.depth) + count(queue.depth) + queue.deferred,
                in_flight: queue.in_flight,
                consumers: queue.client_count,
            })
        }))
    }

    /// Returns all our queues on it, without their consumers.
    pub(super) async fn all_queues(&self) -> Result<Vec<QueueState>, AdminError> {
        self.queues_by(StatsFilter { topic: None, channel: None, clients: false }).await
    }

    async fn queues_by(&self, filter: StatsFilter<'_>) -> Result<Vec<QueueState>, AdminError> {
        let mut found = Vec::new();
        for topic in self.admin.stats(filter).await? {
            // Foreign topics are ignored, whatever channels they have.
            let Some(chat) = names::chat_of(&topic.topic) else { continue };
            for queue in topic.channels {
                let Some(device) = names::device_of(&queue.channel) else { continue };
                found.push(QueueState {
                    node: self.id().to_owned(),
                    chat,
                    device,
                    depth: u64::try_from(queue.depth).unwrap_or(0) + queue.deferred,
                    in_flight: queue.in_flight,
                    requeues: queue.requeue_count,
                    consumers: queue.client_count,
                    consumer: queue.clients.into_iter().next().map(|client| client.client_id),
                });
            }
        }
        Ok(found)
    }

    /// Returns all chats on it, with the channels of each. (Foreign topics are ignored.)
    pub(super) async fn topics(&self) -> Result<Vec<(Arc<str>, ChatId, Vec<ChannelBrief>)>, AdminError> {
        let (node, topics) = (Arc::<str>::from(self.id()), self.admin.channels().await?);
        let ours = topics
            .into_iter()
            .filter_map(|(topic, channels)| Some((node.clone(), names::chat_of(&topic)?, channels)));
        Ok(ours.collect())
    }

    /// Returns the clocks of the marks on a claim. Returns none if there is no such claim.
    pub(super) async fn marks(&self, claim: &str) -> Result<Option<Vec<u64>>, AdminError> {
        let filter = StatsFilter { topic: Some(claim), channel: None, clients: false };
        let topic = self.admin.stats(filter).await?.into_iter().next();
        Ok(topic.map(|topic| topic.channels.iter().filter_map(|c| names::marked(&c.channel)).collect()))
    }

    /// Returns what an administrative call's failure means for a caller that asked for a change.
    pub(super) fn fault(&self, error: &AdminError) -> BrokerError {
        let (node, reason) = (self.id().to_owned(), in_words(error));
        match error {
            AdminError::Unreachable { sent: false, .. } => BrokerError::Unavailable { node, reason },
            AdminError::Unreachable { .. } => BrokerError::Unknown { node, reason },
            _ => BrokerError::Refused { node, reason },
        }
    }

    fn publish_fault(&self, error: PublishError) -> BrokerError {
        let node = self.id().to_owned();
        match error {
            PublishError::NotSent(reason) => BrokerError::Unavailable { node, reason },
            PublishError::Unknown(reason) => BrokerError::Unknown { node, reason },
            PublishError::Refused { code, message: reason } if is_too_large(&code, &reason) => {
                BrokerError::Unpublishable { node, reason }
            }
            PublishError::Invalid(reason) => BrokerError::Unpublishable { node, reason },
            PublishError::Refused { message: reason, .. } => BrokerError::Refused { node, reason },
        }
    }
}

/// The same code means that a message didn't arrive in full, which isn't the message's fault.
fn is_too_large(code: &str, reason: &str) -> bool {
    code == "E_BAD_MESSAGE" && reason.contains("too big")
}

/// Returns the error without the address, which stands beside it wherever it is shown.
pub(super) fn in_words(error: &AdminError) -> String {
    match error {
        AdminError::Unreachable { error, .. } => error.clone(),
        // nsqd remembers its last failed write, and reports it until one succeeds.
        AdminError::Refused { status: 500, message } => format!("it says that it isn't well: {message}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/broker/nsq/node.rs"]
mod tests;
