//! The embedded broker behind a link that fails, with the manners of NSQ: it goes away, loses what was in flight, brings
//! messages out of order and twice, and a SUB that arrives late makes a queue that was removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

use super::{
    Backlog, BrokerError, Event, NodeHealth, Notice, Present, QueueAt, QueueState, Registrations, Removal,
    Result, Sink, Subscription as Handle, SubscriptionKind, Totals, embedded::EmbeddedBroker,
};
use crate::{
    domain::id::{ChatId, DeviceId},
    simulation::{Faults, Outcome, Port, Shared},
};

const NODE: &str = "embedded";

/// One edge's way to the broker that all edges of a simulation share.
#[derive(Debug, Clone)]
pub struct FaultyBroker {
    inner: EmbeddedBroker,
    faults: Faults,
}

impl FaultyBroker {
    /// `inner` is the one broker of all.
    #[must_use]
    pub fn new(inner: EmbeddedBroker, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn call<T>(&self, name: &str, work: impl Future<Output = T>) -> Result<T> {
        let (node, reason) = (NODE.to_owned(), "simulated".to_owned());
        self.faults.call(Port::Broker, name, work).await.map_err(|outcome| match outcome {
            Outcome::Unknown => BrokerError::Unknown { node, reason },
            _ => BrokerError::Unavailable { node, reason },
        })
    }

    pub(super) fn place(&self, chat: ChatId) -> String {
        self.inner.place(chat)
    }

    pub(super) async fn provision(&self, device: DeviceId, chats: &[(ChatId, String)]) -> Result<()> {
        self.call("provision", self.inner.provision(device, chats)).await?
    }

    pub(super) async fn publish(&self, node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        let shared = &self.faults.shared;
        let twice = shared.per_mille(shared.weather().double_publications);
        self.call("publish", async {
            if twice {
                shared.bit("publications doubled", 1);
                self.inner.publish(node, chat, frame.clone()).await?;
            }
            self.inner.publish(node, chat, frame).await
        })
        .await?
    }

    pub(super) fn subscribe(&self, chat: ChatId, device: DeviceId, sink: Sink) -> Handle {
        let attached = Arc::new(AtomicBool::new(false));
        let pump = Pump { broker: self.inner.clone(), faults: self.faults.clone(), chat, device, attached };
        let ghost = pump.clone();
        // The client's half of the connection: it freezes and dies with its edge.
        let pump = tokio::spawn(self.faults.gate.through(pump.run(sink))).abort_handle();
        Handle(SubscriptionKind::Faulty(Subscription { pump, ghost }))
    }

    pub(super) async fn remove_queues(&self, device: DeviceId, chats: &[ChatId], only: bool) -> Removal {
        let removed = self.call("remove_queues", self.inner.remove_queues(device, chats, only)).await;
        removed.unwrap_or_else(|_| Removal { removed: Vec::new(), unreachable: vec![NODE.to_owned()] })
    }

    pub(super) async fn remove_stray(&self, node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        self.call("remove_stray", self.inner.remove_stray(node, chat, device)).await?
    }

    pub(super) async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        self.call("remove_chat", self.inner.remove_chat(chat)).await.unwrap_or_else(|_| vec![NODE.to_owned()])
    }

    pub(super) async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        let silent = |_| (Vec::new(), vec![NODE.to_owned()]);
        self.call("queues_of", self.inner.queues_of(device)).await.unwrap_or_else(silent)
    }

    pub(super) async fn backlog(
        &self,
        node: &str,
        chat: ChatId,
        device: DeviceId,
    ) -> Result<Option<Backlog>> {
        self.call("backlog", self.inner.backlog(node, chat, device)).await?
    }

    pub(super) async fn queues(&self) -> Present {
        let silent = |_| Present { silent: vec![NODE.to_owned()], ..Present::default() };
        self.call("queues", self.inner.queues()).await.unwrap_or_else(silent)
    }

    pub(super) async fn totals(&self, most: usize) -> Totals {
        let silent = |_| Totals { silent: vec![NODE.to_owned()], ..Totals::default() };
        self.call("totals", self.inner.totals(most)).await.unwrap_or_else(silent)
    }

    pub(super) async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        self.call("queue_at", self.inner.queue_at(queue)).await?
    }

    pub(super) async fn registrations(&self, most: usize) -> Registrations {
        self.inner.registrations(most).await
    }

    pub(super) async fn remove_empty(&self, node: &str, chat: ChatId) -> Result<bool> {
        self.call("remove_empty", self.inner.remove_empty(node, chat)).await?
    }

    pub(super) async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        self.inner.remembered().await
    }

    pub(super) async fn restarted(&self, known: u64) -> u64 {
        self.faults.shared.broker().until(|(_, starts)| *starts != known).await.1
    }

    pub(super) fn nodes(&self) -> Vec<(String, bool)> {
        self.inner.nodes()
    }

    pub(super) async fn claim(&self, prefix: &str, clock: u64) {
        let _ = self.call("claim", self.inner.claim(prefix, clock)).await;
    }

    pub(super) async fn claimed(&self, prefix: &str) -> Option<u64> {
        self.call("claimed", self.inner.claimed(prefix)).await.ok().flatten()
    }

    pub(super) async fn health(&self) -> Vec<NodeHealth> {
        match self.call("health", self.inner.health()).await {
            Ok(health) => health,
            Err(error) => {
                vec![NodeHealth { node: NODE.to_owned(), role: NODE, problem: Some(error.to_string()) }]
            }
        }
    }
}

/// A hold on one queue.
#[derive(Debug)]
pub(crate) struct Subscription {
    pump: AbortHandle,
    ghost: Pump,
}

impl Subscription {
    pub(crate) async fn close(self) {}
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pump.abort();
        let shared = &self.ghost.faults.shared;
        // One that is attached has no SUB on its way.
        if !self.ghost.attached.load(Ordering::Relaxed) && shared.per_mille(shared.weather().ghosts) {
            tokio::spawn(self.ghost.clone().haunt());
        }
    }
}

/// What moves messages from the queue to a session.
#[derive(Debug, Clone)]
struct Pump {
    broker: EmbeddedBroker,
    faults: Faults,
    chat: ChatId,
    device: DeviceId,
    attached: Arc<AtomicBool>,
}

impl Pump {
    /// A SUB that was on its way when its client went, or when the queue was removed: nsqd makes the queue, if it isn't there,
    /// and then finds nobody. Not for long: the client has looked whether there is one just before.
    async fn haunt(self) {
        let shared = &self.faults.shared;
        sleep(Duration::from_millis(shared.below(900))).await;
        let just_removed = self.broker.removed_within(self.chat, self.device, Duration::from_secs(1));
        if just_removed && shared.broker().get().0 && !self.broker.has(self.chat, self.device) {
            shared.bit("queues made by a late SUB", 1);
            let _ = self.broker.provision(self.device, &[(self.chat, NODE.to_owned())]).await;
        }
    }

    async fn run(self, sink: Sink) {
        let shared = self.faults.shared.clone();
        loop {
            let slow = if shared.weather().ghosts > 0 { 300_000 } else { 2_000 };
            sleep(Duration::from_micros(100 + shared.below(slow))).await;
            let (_, starts) = shared.broker().until(|(runs, _)| *runs).await;
            if !self.broker.has(self.chat, self.device) {
                let _ = sink.send(Notice::new(self.chat, Event::Gone)).await;
                return;
            }
            let (through, mut notices) = mpsc::channel(16);
            let hold = self.broker.subscribe(NODE, self.chat, self.device, through);
            self.attached.store(true, Ordering::Relaxed);
            let flow = flow(&shared, &mut notices, &sink);
            let end = tokio::select! {
                biased;
                _ = shared.broker().until(|(runs, now)| !*runs || *now != starts) => Flow::Lost,
                end = flow => end,
            };
            self.attached.store(false, Ordering::Relaxed);
            drop(hold);
            if end == Flow::Closed || sink.send(Notice::new(self.chat, Event::Detached)).await.is_err() {
                return;
            }
            // Deleted under an attached consumer: as it looks whether the channel is there and then says SUB, it may make
            // it anew.
            if end == Flow::Removed && shared.per_mille(shared.weather().ghosts) {
                self.clone().haunt().await;
            }
        }
    }
}

/// Why nothing more comes on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It was lost.
    Lost,
    /// The queue was removed.
    Removed,
    /// Nobody takes it any more.
    Closed,
}

/// Passes on what comes, some of it after what came later.
async fn flow(shared: &Shared, notices: &mut mpsc::Receiver<Box<Notice>>, sink: &Sink) -> Flow {
    let mut held: Vec<Box<Notice>> = Vec::new();
    loop {
        let next = async {
            match held.is_empty() {
                true => notices.recv().await,
                // What is held isn't held for long.
                false => tokio::time::timeout(Duration::from_millis(5), notices.recv()).await.ok().flatten(),
            }
        };
        let Some(notice) = next.await else {
            if held.is_empty() {
                return Flow::Lost;
            }
            for notice in held.drain(..) {
                if sink.send(notice).await.is_err() {
                    return Flow::Closed;
                }
            }
            continue;
        };
        if matches!(notice.event, Event::Gone) {
            return Flow::Removed;
        }
        if matches!(notice.event, Event::Delivery(_)) && shared.per_mille(shared.weather().reorder) {
            shared.bit("deliveries overtaken", 1);
            held.push(notice);
        } else if sink.send(notice).await.is_err() {
            return Flow::Closed;
        }
    }
}
