//! The embedded broker behind a faulty link, with NSQ's behaviour: it goes down, loses messages in flight, delivers
//! messages out of order and twice, and a late SUB recreates a removed queue. A consumer whose connection is lost leaves
//! its messages in flight (decision 0021).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::{
    broker::{
        Backlog, BrokerError, Flow, NodeHealth, Prefetch, Present, QueueAt, QueueState, Registrations,
        Removal, RemovalScope, Restarts, Result, Sink, Subscription as Handle, Totals,
        checksum::{add_checksum, open, verify},
        embedded::EmbeddedBroker,
    },
    domain::id::{ChatId, DeviceId},
    simulation::{Faults, Outcome, Port},
};

mod line;

pub(crate) use line::{Receipt, Subscription};

const NODE: &str = "embedded";

/// The maximum time that a message is on its way from one place of nsqd to another.
const MOVING: Duration = Duration::from_secs(1);

/// One edge's connection to the broker that all edges of a simulation share.
#[derive(Debug, Clone)]
pub struct FaultyBroker {
    inner: EmbeddedBroker,
    faults: Faults,
    /// When a read of a queue missed a message.
    missed: Arc<Mutex<HashMap<(ChatId, DeviceId), Instant>>>,
}

impl FaultyBroker {
    /// Returns a faulty broker. `inner` is the one broker that all share.
    #[must_use]
    pub fn new(inner: EmbeddedBroker, faults: Faults) -> Self {
        Self { inner, faults, missed: Arc::default() }
    }

    async fn call<T>(&self, name: &str, work: impl Future<Output = T>) -> Result<T> {
        let (node, reason) = (NODE.to_owned(), "simulated".to_owned());
        self.faults.call(Port::Broker, name, work).await.map_err(|outcome| match outcome {
            Outcome::Unknown => BrokerError::Unknown { node, reason },
            _ => BrokerError::Unavailable { node, reason },
        })
    }

    pub(crate) fn place(&self, chat: ChatId) -> String {
        self.inner.place(chat)
    }

    pub(crate) async fn provision(
        &self,
        flow: &Flow,
        device: DeviceId,
        chats: &[(ChatId, String)],
    ) -> Result<()> {
        self.call("provision", self.inner.provision(flow, device, chats)).await?
    }

    pub(crate) async fn publish(&self, node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        let shared = &self.faults.shared;
        let frame = add_checksum(&frame);
        let (size, largest) = (frame.len(), shared.manners().largest);
        if size > largest {
            shared.record("messages too large for the broker", 1);
            let reason = format!("E_BAD_MESSAGE PUB message too big {size} > {largest}");
            return self
                .call("publish", async { Err(BrokerError::Unpublishable { node: node.to_owned(), reason }) })
                .await?;
        }
        let twice = shared.per_mille(shared.profile().double_publications);
        self.call("publish", async {
            if twice {
                shared.record("publications doubled", 1);
                self.inner.publish(node, chat, frame.clone()).await?;
            }
            self.inner.publish(node, chat, frame).await
        })
        .await?
    }

    /// Edges don't know the limit, as when nsqd was restarted with another one: a publish fails with it.
    pub(crate) fn largest_message(&self) -> Option<usize> {
        None
    }

    pub(crate) fn subscribe(
        &self,
        _node: &str,
        chat: ChatId,
        device: DeviceId,
        prefetch: &Prefetch,
        sink: Sink,
    ) -> Handle {
        line::subscribe(self.inner.clone(), self.faults.clone(), chat, device, prefetch.clone(), sink)
    }

    pub(crate) async fn remove_queues(
        &self,
        flow: &Flow,
        device: DeviceId,
        chats: &[ChatId],
        scope: RemovalScope,
    ) -> Removal {
        let noted = async {
            let removal = self.inner.remove_queues(flow, device, chats, scope).await;
            removal.removed.iter().for_each(|queue| self.faults.shared.note_removal(queue.chat, device));
            removal
        };
        let removed = self.call("remove_queues", noted).await;
        removed.unwrap_or_else(|_| Removal { removed: Vec::new(), unreachable: vec![NODE.to_owned()] })
    }

    pub(crate) async fn remove_stray(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        self.call("remove_stray", self.inner.remove_stray(node, chat, device)).await?
    }

    pub(crate) async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        self.call("remove_chat", self.inner.remove_chat(chat)).await.unwrap_or_else(|_| vec![NODE.to_owned()])
    }

    pub(crate) async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        let silent = |_| (Vec::new(), vec![NODE.to_owned()]);
        self.call("queues_of", self.inner.queues_of(device)).await.unwrap_or_else(silent)
    }

    pub(crate) async fn backlog(
        &self,
        node: &str,
        chat: ChatId,
        device: DeviceId,
    ) -> Result<Option<Backlog>> {
        // As nsqd does: counts what is in flight a moment before what waits, on a busy machine a long moment.
        let shared = &self.faults.shared;
        let moment = if shared.per_mille(250) { 100_000 } else { 1_500 };
        let counted = async {
            let Some(before) = self.inner.backlog(node, chat, device).await? else { return Ok(None) };
            sleep(Duration::from_micros(shared.below(moment))).await;
            let found = self.inner.backlog(node, chat, device).await?;
            let found = found.map(|found| Backlog { in_flight: before.in_flight, ..found });
            Ok(found.map(|found| self.but_what_moves(chat, device, found)))
        };
        self.call("backlog", counted).await?
    }

    /// nsqd counts a message nowhere while it moves from in flight to the queue's end, or is being sent: one for each
    /// consumer, and one that timed out. The next read counts it again.
    fn but_what_moves(&self, chat: ChatId, device: DeviceId, found: Backlog) -> Backlog {
        let shared = &self.faults.shared;
        if found.depth + found.in_flight == 0 || !shared.per_mille(100) {
            return found;
        }
        let now = Instant::now();
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.get(&(chat, device)).is_some_and(|at| now.duration_since(*at) < MOVING) {
            return found;
        }
        missed.insert((chat, device), now);
        shared.record("looks that missed messages that moved", 1);
        let moving = 1 + shared.below(1 + found.consumers);
        let waited = shared.below(moving + 1).min(found.depth);
        let in_flight = found.in_flight.saturating_sub(moving - waited);
        Backlog { depth: found.depth - waited, in_flight, ..found }
    }

    pub(crate) async fn empty_queue(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        self.call("empty_queue", self.inner.empty_queue(node, chat, device)).await?
    }

    pub(crate) async fn queues(&self) -> Present {
        let silent = |_| Present { silent: vec![NODE.to_owned()], ..Present::default() };
        self.call("queues", self.inner.queues()).await.unwrap_or_else(silent)
    }

    pub(crate) async fn totals(&self, most: usize) -> Totals {
        let silent = |_| Totals { silent: vec![NODE.to_owned()], ..Totals::default() };
        self.call("totals", self.inner.totals(most)).await.unwrap_or_else(silent)
    }

    pub(crate) async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        self.call("queue_at", self.inner.queue_at(queue)).await?
    }

    pub(crate) async fn registrations(&self, most: usize) -> Registrations {
        self.inner.registrations(most).await
    }

    pub(crate) async fn remove_empty(&self, node: &str, chat: ChatId) -> Result<bool> {
        self.call("remove_empty", self.inner.remove_empty(node, chat)).await?
    }

    pub(crate) async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        self.inner.remembered().await
    }

    pub(crate) async fn restarted(&self, known: &Restarts) -> Restarts {
        let seen = known.get(NODE).copied().unwrap_or(0);
        let starts = self.faults.shared.broker().until(|(_, starts)| *starts != seen).await.1;
        Restarts::from([(NODE.to_owned(), starts)])
    }

    pub(crate) fn nodes(&self) -> Vec<(String, bool)> {
        self.inner.nodes()
    }

    pub(crate) async fn claim(&self, prefix: &str, clock: u64) {
        let _ = self.call("claim", self.inner.claim(prefix, clock)).await;
    }

    pub(crate) async fn claimed(&self, prefix: &str) -> Option<u64> {
        self.call("claimed", self.inner.claimed(prefix)).await.ok().flatten()
    }

    pub(crate) fn last_health(&self) -> Vec<NodeHealth> {
        self.inner.last_health()
    }

    pub(crate) async fn health(&self) -> Vec<NodeHealth> {
        match self.call("health", self.inner.health()).await {
            Ok(health) => health,
            Err(error) => {
                vec![NodeHealth { node: NODE.to_owned(), role: NODE, problem: Some(error.to_string()) }]
            }
        }
    }
}

/// Returns whether the body is what was published.
#[must_use]
pub fn is_whole(sealed: &Bytes) -> bool {
    open(sealed).is_some()
}
