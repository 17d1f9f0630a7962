//! The broker in this process's memory: for trying Keepstep out, and for tests. Its queues end with the process.
//!
//! A queue holds at most [`EmbeddedBroker::DEFAULT_LIMIT`] messages; beyond that its oldest waiting one is dropped.
//! That breaks no promise: a session fills the hole from the store's log, or notifies its device of a gap. As in NSQ, a
//! requeued message comes last.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, task::AbortHandle};

use super::{
    Backlog, Delivery, Event, Flow, NodeHealth, NodeTotals, Prefetch, Present, QueueAt, QueueState,
    ReceiptKind, Registrations, Removal, RemovalScope, Restarts, Result, Sink, Subscription as Handle,
    SubscriptionKind, Totals,
};
use crate::domain::id::{ChatId, DeviceId};

mod queue;
#[cfg(feature = "simulation")]
mod simulated;

pub(crate) use queue::{Next, Queue};

/// The only server.
const NODE: &str = "embedded";

/// Queues in memory. Clones are handles to the same queues.
#[derive(Clone)]
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
}

struct Shared {
    /// The maximum number of messages in a queue.
    limit: usize,
    /// When an unsettled delivery is redelivered; none: never, because no consumer here goes without a notice.
    msg_timeout: Option<Duration>,
    /// Locked before a queue's own lock, never after it.
    chats: Mutex<HashMap<ChatId, HashMap<DeviceId, Arc<Queue>>>>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("limit", &self.shared.limit).finish_non_exhaustive()
    }
}

impl Default for EmbeddedBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl EmbeddedBroker {
    /// The maximum number of messages in a queue by default.
    pub const DEFAULT_LIMIT: usize = 100_000;

    /// Returns a broker without queues.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Self::DEFAULT_LIMIT)
    }

    /// Returns a broker whose queues hold at most `limit` messages each (at least one).
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self::made(limit, None)
    }

    fn made(limit: usize, msg_timeout: Option<Duration>) -> Self {
        let shared = Shared { limit: limit.max(1), msg_timeout, chats: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// See [`super::Broker::largest_message`]: memory accepts any.
    #[must_use]
    pub fn largest_message(&self) -> Option<usize> {
        None
    }

    /// Always the one server.
    #[must_use]
    pub fn place(&self, _chat: ChatId) -> String {
        NODE.to_owned()
    }

    /// See [`super::Broker::nodes`].
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, bool)> {
        vec![(NODE.to_owned(), true)]
    }

    /// See [`super::Broker::provision`]; the nodes named don't matter here.
    pub async fn provision(&self, _flow: &Flow, device: DeviceId, chats: &[(ChatId, String)]) -> Result<()> {
        let mut all = self.chats();
        for (chat, _) in chats {
            let queues = all.entry(*chat).or_default();
            let made = || Arc::new(Queue::new(self.shared.limit, self.shared.msg_timeout));
            queues.entry(device).or_insert_with(made);
        }
        Ok(())
    }

    /// See [`super::Broker::publish`]. A chat without queues accepts the message and drops it.
    pub async fn publish(&self, _node: &str, chat: ChatId, frame: Bytes) -> Result<()> {
        // Under the map's lock, so that all queues of a chat get concurrent messages in the same order.
        for queue in self.chats().get(&chat).into_iter().flat_map(HashMap::values) {
            queue.push(frame.clone());
        }
        Ok(())
    }

    /// See [`super::Broker::subscribe`]. Must be called in a Tokio runtime.
    #[must_use]
    pub fn subscribe(
        &self,
        _node: &str,
        chat: ChatId,
        device: DeviceId,
        prefetch: &Prefetch,
        sink: Sink,
    ) -> Handle {
        let queue = self.chats().get(&chat).and_then(|queues| queues.get(&device)).cloned();
        // Attached here and not in the task, so that the queue shows its consumer on return.
        let held = queue.map(|queue| Hold { consumer: queue.attach(), queue });
        let pump = tokio::spawn(pump(held.clone(), chat, prefetch.clone(), sink)).abort_handle();
        Handle(SubscriptionKind::Embedded(Subscription { held, pump }))
    }

    /// See [`super::Broker::remove_queues`].
    pub async fn remove_queues(
        &self,
        _flow: &Flow,
        device: DeviceId,
        chats: &[ChatId],
        scope: RemovalScope,
    ) -> Removal {
        let mut removed = Vec::new();
        self.chats().retain(|chat, queues| {
            if (scope == RemovalScope::WholeDevice || chats.contains(chat))
                && let Some(queue) = queues.remove(&device)
            {
                removed.push(state(*chat, device, &queue));
                queue.remove();
            }
            !queues.is_empty()
        });
        Removal { removed, unreachable: Vec::new() }
    }

    /// See [`super::Broker::remove_stray`]. There is one server, on which no queue is stray.
    pub async fn remove_stray(&self, _node: &str, _chat: ChatId, _device: DeviceId) -> Result<bool> {
        Ok(false)
    }

    /// See [`super::Broker::remove_chat`].
    pub async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        for queue in self.chats().remove(&chat).into_iter().flat_map(HashMap::into_values) {
            queue.remove();
        }
        Vec::new()
    }

    /// See [`super::Broker::queues_of`].
    pub async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        let all = self.chats();
        let of_device =
            all.iter().filter_map(|(chat, queues)| Some(state(*chat, device, queues.get(&device)?)));
        (of_device.collect(), Vec::new())
    }

    /// See [`super::Broker::backlog`].
    pub async fn backlog(&self, _node: &str, chat: ChatId, device: DeviceId) -> Result<Option<Backlog>> {
        let found = self.chats().get(&chat).and_then(|queues| queues.get(&device)).cloned();
        Ok(found.map(|queue| {
            let counts = queue.counts();
            let (depth, in_flight, consumers) = (counts.waiting, counts.in_flight, counts.consumers);
            Backlog { depth, uncopied: 0, in_flight, consumers }
        }))
    }

    /// See [`super::Broker::empty_queue`].
    pub async fn empty_queue(&self, _node: &str, chat: ChatId, device: DeviceId) -> Result<bool> {
        let found = self.chats().get(&chat).and_then(|queues| queues.get(&device)).cloned();
        Ok(found.map(|queue| queue.clear()).is_some())
    }

    /// See [`super::Broker::queues`].
    pub async fn queues(&self) -> Present {
        let (all, node) = (self.chats(), Arc::<str>::from(NODE));
        let mut present = Present::default();
        for (chat, queues) in all.iter() {
            for (device, queue) in queues {
                let (at, counts) =
                    (QueueAt { node: node.clone(), chat: *chat, device: *device }, queue.counts());
                if counts.waiting > 0 && counts.consumers == 0 {
                    present.unread.push(at.clone());
                }
                present.queues.push(at);
            }
        }
        present
    }

    /// See [`super::Broker::totals`].
    pub async fn totals(&self, most: usize) -> Totals {
        let (mut totals, mut node) = (Totals::default(), NodeTotals::default());
        for (chat, queues) in self.chats().iter() {
            for (device, queue) in queues {
                totals.add(&mut node, most, &state(*chat, *device, queue));
            }
        }
        totals.nodes.push(NodeTotals { node: NODE.to_owned(), ..node });
        totals
    }

    /// See [`super::Broker::queue_at`].
    pub async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        let all = self.chats();
        let found = all.get(&queue.chat).and_then(|queues| queues.get(&queue.device));
        Ok(found.map(|found| state(queue.chat, queue.device, found)))
    }

    /// See [`super::Broker::registrations`]: there is no directory.
    pub async fn registrations(&self, _most: usize) -> Registrations {
        Registrations::default()
    }

    /// See [`super::Broker::remove_empty`]: a chat without queues doesn't exist here.
    pub async fn remove_empty(&self, _node: &str, _chat: ChatId) -> Result<bool> {
        Ok(false)
    }

    /// See [`super::Broker::remembered`]: there is no directory.
    pub async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        Vec::new()
    }

    /// See [`super::Broker::restarted`]: never restarted, so it waits without end.
    pub async fn restarted(&self, _known: &Restarts) -> Restarts {
        std::future::pending().await
    }

    /// See [`super::Broker::claim`]. These queues end with this process, so nobody asks for the claim later.
    pub async fn claim(&self, _prefix: &str, _clock: u64) {}

    /// See [`super::Broker::claimed`].
    pub async fn claimed(&self, _prefix: &str) -> Option<u64> {
        None
    }

    /// See [`super::Broker::last_health`]: always up.
    #[must_use]
    pub fn last_health(&self) -> Vec<NodeHealth> {
        vec![NodeHealth { node: NODE.to_owned(), role: NODE, problem: None }]
    }

    /// See [`super::Broker::health`]: always up.
    pub async fn health(&self) -> Vec<NodeHealth> {
        vec![NodeHealth { node: NODE.to_owned(), role: NODE, problem: None }]
    }

    fn chats(&self) -> MutexGuard<'_, HashMap<ChatId, HashMap<DeviceId, Arc<Queue>>>> {
        // Nothing panics while it is locked, so a poisoned map is still good.
        self.shared.chats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(chat: ChatId, device: DeviceId, queue: &Queue) -> QueueState {
    let counts = queue.counts();
    QueueState {
        node: NODE.to_owned(),
        chat,
        device,
        depth: counts.waiting,
        in_flight: counts.in_flight,
        requeues: counts.requeues,
        consumers: counts.consumers,
        consumer: (counts.consumers > 0).then(|| NODE.to_owned()),
    }
}

/// One consumer's place at its queue.
#[derive(Debug, Clone)]
struct Hold {
    queue: Arc<Queue>,
    consumer: u64,
}

/// A subscription to one queue, and the owner of the task that pumps it.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// None if there was no such queue.
    held: Option<Hold>,
    pump: AbortHandle,
}

impl Subscription {
    pub(crate) async fn close(self) {
        // Dropping it does all, and at once: there is no server to notify.
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pump.abort();
        if let Some(Hold { queue, consumer }) = &self.held {
            queue.detach(*consumer);
        }
    }
}

/// Whether a consumer may take one more, of all that its device holds.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// The first message of a queue of which nothing is held.
    Free,
    /// One place among all, as long as the message is held.
    With(OwnedSemaphorePermit),
    /// The consumer holds nothing any more, or the queue was removed: check again.
    LookAgain,
}

/// Waits for a place for one more message.
pub(crate) async fn admit(queue: &Queue, consumer: u64, prefetch: &Prefetch) -> Admitted {
    if queue.is_idle(consumer) {
        return Admitted::Free;
    }
    tokio::select! {
        biased;
        () = queue.idle_or_gone(consumer) => Admitted::LookAgain,
        // It is never closed.
        place = prefetch.embedded.clone().acquire_owned() => place.map_or(Admitted::LookAgain, Admitted::With),
    }
}

/// Moves messages from the queue to the sink: waits for a message, then for a place among all that the device holds,
/// then for room in the sink, and only then takes the message. So what a slow session has no room for stays in the
/// queue, and no room is held while there is nothing to send (all chats of the session share the sink). Ends when the
/// queue is removed, the subscription dropped, or the sink closed.
async fn pump(held: Option<Hold>, chat: ChatId, prefetch: Prefetch, sink: Sink) {
    let Some(Hold { queue, consumer }) = held else {
        // The session may be gone already, and then nobody needs the event.
        sink.send(sink.notice(chat, Event::Gone)).await;
        return;
    };
    if !sink.send(sink.notice(chat, Event::Attached)).await {
        return queue.detach(consumer);
    }
    loop {
        let gone = queue.ready(consumer).await;
        let place = match gone {
            true => None,
            false => match admit(&queue, consumer, &prefetch).await {
                Admitted::Free => None,
                Admitted::With(place) => Some(place),
                Admitted::LookAgain => continue,
            },
        };
        let Ok(room) = sink.notices.reserve().await else {
            return queue.detach(consumer);
        };
        if gone {
            return room.send(sink.notice(chat, Event::Gone));
        }
        match queue.take(consumer) {
            Next::Message { body, delivery } => {
                let receipt = Receipt { queue: queue.clone(), delivery, _place: place };
                let receipt = super::Receipt(ReceiptKind::Embedded(receipt));
                room.send(sink.notice(chat, Event::Delivery(Delivery { body, receipt })));
            }
            // Another consumer was faster, or the queue was removed while we waited for room: check again.
            Next::Nothing => {}
            Next::Detached => return,
        }
    }
}

/// The right to finish one delivery.
#[derive(Debug)]
pub(crate) struct Receipt {
    queue: Arc<Queue>,
    delivery: u64,
    /// Its place among all that its device holds.
    _place: Option<OwnedSemaphorePermit>,
}

impl Receipt {
    pub(crate) fn finish(self) {
        // A finished delivery isn't known any more, so the drop that follows requeues nothing.
        self.queue.finish(self.delivery);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.queue.give_back(self.delivery);
    }
}
