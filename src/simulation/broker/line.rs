//! One subscription: a connection to the broker that is opened, lost and reopened.
//!
//! The broker's half takes from the queue as long as the consumer may have more, whether or not the client reads. The
//! client's half lives in its edge: it freezes and dies with the edge. The broker knows only the connection: a client
//! that closes it requeues its messages; one that disappears leaves them in flight until their time-out.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::AbortHandle,
    time::sleep,
};

use super::{EmbeddedBroker, Handle, NODE, Sink, verify};
use crate::{
    broker::{
        Event, Notice, Prefetch, Receipt as Settling, ReceiptKind, SubscriptionKind,
        embedded::{Admitted, Next, Queue, admit},
    },
    domain::id::{ChatId, DeviceId},
    simulation::{Faults, Port, Shared},
};

/// How long a leaving client waits for the broker to notice.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn subscribe(
    broker: EmbeddedBroker,
    faults: Faults,
    chat: ChatId,
    device: DeviceId,
    prefetch: Prefetch,
    sink: Sink,
) -> Handle {
    let client = Client { broker, faults, chat, device, prefetch, line: Arc::default() };
    let other = client.clone();
    let pump = tokio::spawn(client.faults.gate.through(other.run(sink))).abort_handle();
    Handle(SubscriptionKind::Faulty(Subscription { pump, client }))
}

/// One connection that is attached to a queue.
#[derive(Debug)]
struct Line {
    queue: Arc<Queue>,
    consumer: u64,
    faults: Faults,
    over: AtomicBool,
    /// How many more the broker may send (RDY), once the client no longer updates it.
    ready: Arc<AtomicU64>,
}

impl Line {
    fn is_heard(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && self.faults.is_heard()
    }

    /// The client leaves. The broker may or may not notice it.
    fn leave(&self) {
        if self.is_heard() {
            self.over.store(true, Ordering::Relaxed);
            self.queue.detach(self.consumer);
        } else {
            self.lose();
        }
    }

    /// The connection is lost silently, and the broker may notice it late.
    fn lose(&self) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = &self.faults.shared;
        let manners = shared.manners();
        self.queue.orphan(self.consumer);
        if !shared.broker().get().0 || !shared.per_mille(manners.half_open) {
            return self.queue.abandon(self.consumer);
        }
        shared.record("connections half open", 1);
        let ready = if shared.per_mille(300) { 0 } else { shared.below(64) };
        self.ready.store(ready, Ordering::Relaxed);
        let most = u64::try_from(manners.half_open_for.as_millis()).unwrap_or(u64::MAX);
        let (queue, consumer) = (self.queue.clone(), self.consumer);
        let noticed = Duration::from_millis(shared.below(most));
        tokio::spawn(async move {
            sleep(noticed).await;
            queue.abandon(consumer);
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The right to finish one delivery, as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Receipt {
    line: Arc<Line>,
    delivery: u64,
    /// Its share of the device's bound.
    _place: Option<OwnedSemaphorePermit>,
}

impl Receipt {
    pub(crate) fn finish(self) {
        if self.line.is_heard() {
            self.line.queue.finish(self.delivery);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // No-op once it is finished.
        if self.line.is_heard() {
            self.line.queue.give_back(self.delivery);
        }
    }
}

/// A subscription to one queue.
#[derive(Debug)]
pub(crate) struct Subscription {
    pump: AbortHandle,
    client: Client,
}

impl Subscription {
    pub(crate) async fn close(self) {
        let faults = &self.client.faults;
        sleep(if faults.is_heard() { faults.way(Port::Broker) } else { FAREWELL }).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pump.abort();
        let shared = &self.client.faults.shared;
        match self.client.line().take() {
            Some(line) => line.leave(),
            // An attached client has no SUB under way.
            None if shared.per_mille(shared.profile().ghosts) => {
                tokio::spawn(self.client.clone().late_subscribe());
            }
            None => {}
        }
    }
}

/// The client's half.
#[derive(Debug, Clone)]
struct Client {
    broker: EmbeddedBroker,
    faults: Faults,
    chat: ChatId,
    device: DeviceId,
    prefetch: Prefetch,
    // The current connection.
    line: Arc<Mutex<Option<Arc<Line>>>>,
}

impl Client {
    fn line(&self) -> MutexGuard<'_, Option<Arc<Line>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A SUB that was in progress when its client left, or when the queue was removed: nsqd creates the queue if it doesn't
    /// exist, and then finds no client. This window is short: the client has checked just before whether the queue exists.
    async fn late_subscribe(self) {
        let shared = &self.faults.shared;
        sleep(Duration::from_millis(shared.below(900))).await;
        let just_removed = shared.removed_within(self.chat, self.device, Duration::from_secs(1));
        if just_removed && shared.broker().get().0 && self.broker.queue(self.chat, self.device).is_none() {
            shared.record("queues made by a late SUB", 1);
            let flow = crate::broker::Flow::of("late", self.device);
            let _ = self.broker.provision(&flow, self.device, &[(self.chat, NODE.to_owned())]).await;
        }
    }

    async fn run(self, sink: Sink) {
        let shared = self.faults.shared.clone();
        let tell = |event| sink.send(sink.notice(self.chat, event));
        loop {
            let (_, starts) = shared.broker().until(|(runs, _)| *runs).await;
            let (lost, _) = self.faults.lines().until(|(_, up)| *up).await;
            let slow = if shared.profile().ghosts > 0 { 300 } else { 2 }.max(shared.manners().attach);
            sleep(Duration::from_micros(100 + shared.below(slow * 1000))).await;
            if !self.faults.is_heard() {
                sleep(Duration::from_millis(50 + shared.below(200))).await;
                continue;
            }
            let Some(queue) = self.broker.queue(self.chat, self.device) else {
                let _ = tell(Event::Gone).await;
                return;
            };
            let (wire, mut arrived) = mpsc::unbounded_channel();
            let consumer = queue.attach();
            let (faults, over) = (self.faults.clone(), AtomicBool::new(false));
            let ready = Arc::new(AtomicU64::new(u64::MAX));
            let line = Arc::new(Line { queue, consumer, faults, over, ready: ready.clone() });
            tokio::spawn(serve(line.queue.clone(), consumer, self.prefetch.clone(), ready, wire));
            *self.line() = Some(line.clone());
            let end = tokio::select! {
                biased;
                _ = shared.broker().until(|(runs, now)| !*runs || *now != starts) => Flow::Lost,
                _ = self.faults.lines().until(|(now, _)| *now != lost) => Flow::Lost,
                end = self.flow(&line, &mut arrived, &sink) => end,
            };
            *self.line() = None;
            match end {
                Flow::Lost => line.lose(),
                Flow::Removed | Flow::Closed => line.leave(),
            }
            if end == Flow::Closed || !tell(Event::Detached).await {
                return;
            }
            // Deleted under an attached consumer: because it checks whether the channel exists and then sends SUB, it
            // may recreate the channel.
            if end == Flow::Removed && shared.per_mille(shared.profile().ghosts) {
                self.clone().late_subscribe().await;
            }
        }
    }

    /// Forwards messages, some of them after later ones.
    async fn flow(
        &self,
        line: &Arc<Line>,
        arrived: &mut mpsc::UnboundedReceiver<Given>,
        sink: &Sink,
    ) -> Flow {
        if !sink.send(sink.notice(self.chat, Event::Attached)).await {
            return Flow::Closed;
        }
        let shared: &Shared = &self.faults.shared;
        let notice = |Given { body, delivery, place }| {
            let receipt = Receipt { line: line.clone(), delivery, _place: place };
            let receipt = Settling(ReceiptKind::Faulty(receipt));
            let body = match shared.per_mille(shared.profile().torn) {
                true => tear(shared, &line.queue, delivery, &body),
                false => body,
            };
            sink.notice(self.chat, verify(body, receipt))
        };
        let mut held: Vec<Box<Notice>> = Vec::new();
        loop {
            let next = match held.is_empty() {
                true => arrived.recv().await,
                // What is held back isn't held for long.
                false => tokio::time::timeout(Duration::from_millis(5), arrived.recv()).await.ok().flatten(),
            };
            let Some(next) = next else {
                if held.is_empty() {
                    return Flow::Removed;
                }
                for notice in held.drain(..) {
                    if !sink.send(notice).await {
                        return Flow::Closed;
                    }
                }
                continue;
            };
            let way = self.faults.way(Port::Broker);
            if way > Duration::from_millis(1) {
                sleep(way).await;
            }
            let more = std::iter::from_fn(|| arrived.try_recv().ok());
            for next in std::iter::once(next).chain(more).collect::<Vec<_>>() {
                if shared.per_mille(shared.profile().reorder) {
                    shared.record("deliveries overtaken", 1);
                    held.push(notice(next));
                } else if !sink.send(notice(next)).await {
                    return Flow::Closed;
                }
            }
        }
    }
}

/// Tears a message like an nsqd whose disk was full: the beginning of one message, then another.
fn tear(shared: &Shared, queue: &Queue, delivery: u64, body: &Bytes) -> Bytes {
    let (at, len) = (shared.below(body.len() as u64) as usize, shared.below(body.len() as u64) as usize);
    let torn = Bytes::from([&body[..at], &body[..len]].concat());
    if !queue.tear(delivery, torn.clone()) {
        return body.clone();
    }
    shared.record("messages torn by the broker", 1);
    torn
}

/// Why a connection delivers nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The connection was lost.
    Lost,
    /// The queue was removed.
    Removed,
    /// The receiver is closed.
    Closed,
}

/// One message on its way.
struct Given {
    body: Bytes,
    delivery: u64,
    place: Option<OwnedSemaphorePermit>,
}

/// The broker's half. The client sends it the RDY, so it knows the room.
async fn serve(
    queue: Arc<Queue>,
    consumer: u64,
    prefetch: Prefetch,
    ready: Arc<AtomicU64>,
    wire: mpsc::UnboundedSender<Given>,
) {
    loop {
        if queue.ready(consumer).await {
            return;
        }
        let place = match admit(&queue, consumer, &prefetch).await {
            Admitted::Free => None,
            Admitted::With(place) => Some(place),
            Admitted::LookAgain => continue,
        };
        if ready.load(Ordering::Relaxed) == 0 {
            return;
        }
        match queue.take(consumer) {
            // Sent in vain, if the client is gone and the broker hasn't noticed it.
            Next::Message { body, delivery } => {
                ready.fetch_sub(1, Ordering::Relaxed);
                drop(wire.send(Given { body, delivery, place }));
            }
            Next::Nothing => {}
            Next::Detached => return,
        }
    }
}
