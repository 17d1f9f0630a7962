//! From the log to NSQ. What was appended is published at once and taken out of the chat's outbox when NSQ confirms.
//! What wasn't confirmed stays in the outbox, and `heal` publishes it again: its own edge's at once, a dead edge's when
//! another edge notices that it has gone. A message may be published twice, never forgotten.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Core, lapse, lock};
use crate::domain::{Seq, id::ChatId};

/// Messages waiting to be published by this edge. Beyond it they wait in their outbox instead.
const WAITING: usize = 8192;
/// Publishes under way at once: enough to keep the connections to all nsqd full.
const UNDER_WAY: usize = 1024;
/// Messages per outbox page.
const PAGE: usize = 100;
/// How often unconfirmed messages are tried again, and dead edges looked for.
const HEAL: Duration = Duration::from_secs(1);

/// A message to be published.
#[derive(Debug)]
pub(super) struct Job {
    pub chat: ChatId,
    pub node: String,
    pub seq: Seq,
    pub frame: Bytes,
}

/// Where senders leave their messages.
#[derive(Debug)]
pub(super) struct Relay {
    jobs: mpsc::Sender<Job>,
    // Chats whose outbox must be looked at. Bounded by the chats this edge sends to.
    behind: Mutex<HashSet<ChatId>>,
    // Handed over and not yet noted as confirmed (or left to the outbox).
    open: AtomicUsize,
}

impl Relay {
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, taken) = mpsc::channel(WAITING);
        (Self { jobs, behind: Mutex::default(), open: AtomicUsize::new(0) }, taken)
    }

    /// Never waits: a send must not hang because NSQ does.
    pub(super) fn hand_over(&self, job: Job) {
        let chat = job.chat;
        self.open.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            self.behind(chat);
            self.closed(1);
        }
    }

    fn closed(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::Relaxed);
    }

    /// Something in this chat's outbox isn't being published.
    pub(super) fn behind(&self, chat: ChatId) {
        lock(&self.behind).insert(chat);
    }
}

impl Core {
    /// Waits until everything that was sent here is with NSQ, and noted so: before this edge ends, because what stays in
    /// an outbox waits until another edge has noticed that this one has gone.
    pub async fn flushed(&self) {
        while self.relay.open.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Publishes what senders hand over, in their order, and notes what NSQ has confirmed, as many as there are at a time.
pub(super) async fn run(core: Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    // Unordered, so that one nsqd that hangs doesn't hold back what the others confirm. Each is first polled, and with it
    // given to its nsqd's connection, in the order it was put in.
    let mut under_way = FuturesUnordered::new();
    let mut confirmed: HashMap<ChatId, Vec<Seq>> = HashMap::new();
    let mut noting = false;
    let (noted, mut done) = mpsc::channel::<()>(1);
    loop {
        if !noting && !confirmed.is_empty() {
            // One write under way at a time: what gathers meanwhile goes out as one.
            noting = true;
            let (core, batch, noted) = (core.clone(), std::mem::take(&mut confirmed), noted.clone());
            tokio::spawn(async move {
                note_confirmed(&core, batch).await;
                let _ = noted.send(()).await;
            });
        }
        tokio::select! {
            biased;
            Some(()) = done.recv() => noting = false,
            Some((chat, seq, result)) = under_way.next(), if !under_way.is_empty() => match result {
                Ok(()) => confirmed.entry(chat).or_default().push(seq),
                Err(error) => {
                    tracing::debug!(%chat, seq, %error, "not confirmed: stays in the outbox");
                    core.relay.behind(chat);
                    core.relay.closed(1);
                }
            },
            job = jobs.recv(), if under_way.len() < UNDER_WAY => {
                let Some(Job { chat, node, seq, frame }) = job else { return };
                let core = core.clone();
                under_way.push(async move { (chat, seq, core.broker.publish(&node, chat, frame).await) });
            }
        }
    }
}

async fn note_confirmed(core: &Core, batch: HashMap<ChatId, Vec<Seq>>) {
    futures_util::stream::iter(batch)
        .for_each_concurrent(32, |(chat, seqs)| async move {
            let noted = core.store.published(chat, &seqs).await;
            core.relay.closed(seqs.len());
            if let Err(error) = noted {
                // They'd be published a second time; seq removes that.
                tracing::debug!(%chat, %error, "confirmed messages stay in the outbox for now");
                core.relay.behind(chat);
            }
        })
        .await;
}

/// Publishes again what stayed in an outbox, and takes over the outboxes of edges that died.
pub(super) async fn heal(core: Arc<Core>) {
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let behind: Vec<ChatId> = lock(&core.relay.behind).drain().collect();
        for chat in behind {
            if !empty_outbox(&core, chat).await {
                core.relay.behind(chat);
            }
        }
        match lapse::dead_edges(&core).await {
            Ok(dead) => {
                for edge in dead {
                    adopt(&core, &edge).await;
                }
            }
            Err(error) => tracing::debug!(%error, "other edges can't be looked for now"),
        }
        prune_notes(&core).await;
    }
}

/// True when the outbox is empty, or somebody else is at it.
async fn empty_outbox(core: &Core, chat: ChatId) -> bool {
    let work = format!("relay.{}", chat.hex());
    match core.store.take_work(&work, &core.edge, Duration::from_secs(10)).await {
        Ok(true) => {}
        Ok(false) => return false,
        Err(_) => return false,
    }
    let mut empty = false;
    // At most a thousand pages a turn, so that one chat can't keep the others waiting for ever.
    for _ in 0..1000 {
        let Ok((node, messages)) = core.store.outbox(chat, PAGE).await else { break };
        if messages.is_empty() {
            empty = true;
            break;
        }
        let mut sent = Vec::with_capacity(messages.len());
        for (seq, frame) in messages {
            match timeout(Duration::from_secs(5), core.broker.publish(&node, chat, frame)).await {
                Ok(Ok(())) => sent.push(seq),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        core.metrics.relayed.inc_by(sent.len() as u64);
        if sent.is_empty() || core.store.published(chat, &sent).await.is_err() {
            break;
        }
    }
    // If this fails, the work's own end frees it.
    let _ = core.store.release_work(&work, &core.edge).await;
    empty
}

async fn adopt(core: &Core, edge: &str) {
    let Ok(chats) = core.store.noted_chats(edge).await else { return };
    if !chats.is_empty() {
        tracing::info!(edge, chats = chats.len(), "taking over the outboxes of an edge that has gone");
    }
    let mut all = true;
    for chat in chats {
        if empty_outbox(core, chat).await && core.store.forget_note(edge, chat).await.is_ok() {
            core.metrics.reconciler_actions.with_label_values(&["outbox_adopted"]).inc();
        } else {
            all = false;
        }
    }
    if all {
        // Refused as long as it has sessions; tried again at the next turn.
        let _ = core.store.forget_edge(edge).await;
    }
}

/// Keeps the notes of this edge from growing with every chat it ever sent to.
async fn prune_notes(core: &Core) {
    const KEEP: usize = 10_000;
    let some: Vec<ChatId> = {
        let noted = lock(&core.noted);
        if noted.len() <= KEEP {
            return;
        }
        noted.iter().copied().filter(|chat| !core.hub.has_chat(*chat)).take(256).collect()
    };
    for chat in some {
        // Out of our own list first: a sender that comes now notes it again, after this or before; see below.
        lock(&core.noted).remove(&chat);
        if empty_outbox(core, chat).await && !lock(&core.noted).contains(&chat) {
            let _ = core.store.forget_note(&core.edge, chat).await;
            // A sender may have noted it between the look and the forgetting: then note it again.
            if lock(&core.noted).contains(&chat) {
                let _ = core.store.note_sender(&core.edge, chat).await;
            }
        }
    }
}
