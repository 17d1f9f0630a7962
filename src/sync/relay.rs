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
    sync::mpsc::{self, error::TrySendError},
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
/// A chat's outbox is one edge's for so long, unless it says so again: another one waits no longer for a dead one. Two at
/// once do no harm but double work.
const TURN: Duration = Duration::from_secs(4);
/// How often unconfirmed messages are tried again, and dead edges looked for.
const HEAL: Duration = Duration::from_secs(1);
/// What can't be done while a node is down is tried every so many turns.
const SELDOM: u64 = 5;

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
    // Chats whose outbox must be looked at, and the node that didn't take it, if that is known. Bounded by the chats this
    // edge sends to.
    behind: Mutex<HashMap<ChatId, String>>,
    // Those that `heal` is looking at in this moment.
    at_work: Mutex<Vec<ChatId>>,
    // Handed over and not yet noted as confirmed (or left to the outbox).
    open: AtomicUsize,
}

impl Relay {
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, taken) = mpsc::channel(WAITING);
        (Self { jobs, behind: Mutex::default(), at_work: Mutex::default(), open: AtomicUsize::new(0) }, taken)
    }

    /// Never waits: a send must not hang because NSQ does.
    pub(super) fn hand_over(&self, job: Job) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = self.jobs.try_send(job) {
            self.behind(job.chat, job.node);
            self.closed(1);
        }
    }

    fn closed(&self, count: usize) {
        self.open.fetch_sub(count, Ordering::Relaxed);
    }

    /// Something in this chat's outbox isn't being published; `node`: where to, if that is known, else empty.
    pub(super) fn behind(&self, chat: ChatId, node: String) {
        if planted!(NoOutbox) {
            return;
        }
        lock(&self.behind).insert(chat, node);
    }

    /// Chats whose outbox waits here.
    pub(super) fn waiting(&self) -> HashSet<ChatId> {
        // In this order: a chat that goes from one to the other meanwhile is seen in either.
        let mut all: HashSet<ChatId> = lock(&self.behind).keys().copied().collect();
        all.extend(lock(&self.at_work).iter());
        all
    }
}

/// An append whose outcome isn't known yet. Dropped before it is (the sender hung up, say), it may be in the log and in the
/// outbox without anyone publishing it: then the outbox is looked at.
#[derive(Debug)]
pub(super) struct Doubt<'a> {
    relay: &'a Relay,
    chat: Option<ChatId>,
}

impl<'a> Doubt<'a> {
    pub(super) fn about(relay: &'a Relay, chat: ChatId) -> Self {
        Self { relay, chat: Some(chat) }
    }

    /// The outcome is known, and the message is taken care of.
    pub(super) fn settled(mut self) {
        self.chat = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(chat) = self.chat {
            self.relay.behind(chat, String::new());
        }
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
            let tasks = core.drain.clone();
            tasks.spawn_background(async move {
                note_confirmed(&core, batch).await;
                let _ = noted.send(()).await;
            });
        }
        tokio::select! {
            biased;
            Some(()) = done.recv() => noting = false,
            Some((chat, node, seq, result)) = under_way.next(), if !under_way.is_empty() => match result {
                Ok(()) => confirmed.entry(chat).or_default().push(seq),
                Err(error) => {
                    tracing::debug!(%chat, seq, %error, "not confirmed: stays in the outbox");
                    core.relay.behind(chat, node);
                    core.relay.closed(1);
                }
            },
            job = jobs.recv(), if under_way.len() < UNDER_WAY => {
                let Some(Job { chat, node, seq, frame }) = job else { return };
                let core = core.clone();
                under_way.push(async move {
                    if planted!(ConfirmBeforePublish) {
                        let _ = core.store.published(chat, &[seq]).await;
                    }
                    let published = core.broker.publish(&node, chat, frame).await;
                    (chat, node, seq, published)
                });
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
                core.relay.behind(chat, String::new());
            }
        })
        .await;
}

/// Publishes again what stayed in an outbox, and takes over the outboxes of edges that died.
pub(super) async fn heal(core: Arc<Core>) {
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Edges whose outboxes couldn't be emptied the last time.
    let mut hard = HashSet::new();
    for turn in 0u64.. {
        ticks.tick().await;
        let patient = turn % SELDOM != 0;
        let behind: Vec<(ChatId, String)> = {
            let mut behind = lock(&core.relay.behind);
            *lock(&core.relay.at_work) = behind.keys().copied().collect();
            behind.drain().collect()
        };
        for (chat, node) in behind {
            // What a node that is down is owed may be a lot, and asking for it costs the store something; but the chat may
            // have got another node, so it is asked now and then.
            if patient && !node.is_empty() && core.broker.down_for(&node).is_some() {
                core.relay.behind(chat, node);
            } else if let Err(node) = empty_outbox(&core, chat).await {
                core.relay.behind(chat, node);
            }
        }
        lock(&core.relay.at_work).clear();
        match lapse::dead_edges(&core).await {
            Ok(dead) => {
                for edge in dead.into_iter().filter(|_| !planted!(NoAdoption)) {
                    if patient && hard.contains(&edge) {
                        continue;
                    }
                    if adopt(&core, &edge).await {
                        hard.remove(&edge);
                    } else {
                        hard.insert(edge);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "other edges can't be looked for now"),
        }
        prune_notes(&core).await;
    }
}

/// `Err`: it isn't empty, with the node that didn't take it, if that is known; or somebody else is at it.
async fn empty_outbox(core: &Core, chat: ChatId) -> Result<(), String> {
    let work = format!("relay.{}", chat.hex());
    let taken = core.store.take_work(&work, &core.edge, TURN).await;
    if !taken.is_ok_and(|taken| taken) {
        return Err(String::new());
    }
    let result = publish_outbox(core, chat).await;
    // If this fails, the work's own end frees it.
    let _ = core.store.release_work(&work, &core.edge).await;
    result
}

async fn publish_outbox(core: &Core, chat: ChatId) -> Result<(), String> {
    // At most a thousand pages a turn, so that one chat can't keep the others waiting for ever.
    for turn in 0..1000 {
        // First one message alone: its node may be down.
        let page = if turn == 0 { 1 } else { PAGE };
        let Ok((node, messages)) = core.store.outbox(chat, page).await else { break };
        if messages.is_empty() {
            return Ok(());
        }
        let asked = messages.len();
        let mut sent = Vec::with_capacity(asked);
        for (seq, frame) in messages {
            match timeout(Duration::from_secs(5), core.broker.publish(&node, chat, frame)).await {
                Ok(Ok(())) => sent.push(seq),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        core.metrics.relayed.inc_by(sent.len() as u64);
        let noted = sent.is_empty() || core.store.published(chat, &sent).await.is_ok();
        if sent.len() < asked || !noted {
            return Err(node);
        }
    }
    Err(String::new())
}

/// False: not all of it could be done.
async fn adopt(core: &Core, edge: &str) -> bool {
    let Ok(chats) = core.store.noted_chats(edge).await else { return false };
    if !chats.is_empty() {
        tracing::info!(edge, chats = chats.len(), "taking over the outboxes of an edge that has gone");
    }
    let mut all = true;
    for chat in chats {
        if empty_outbox(core, chat).await.is_ok() && core.store.forget_note(edge, chat).await.is_ok() {
            core.metrics.reconciler_actions.with_label_values(&["outbox_adopted"]).inc();
        } else {
            all = false;
        }
    }
    if all {
        // Refused as long as it has sessions; tried again at the next turn.
        let _ = core.store.forget_edge(edge).await;
    }
    all
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
        if empty_outbox(core, chat).await.is_ok() && !lock(&core.noted).contains(&chat) {
            let _ = core.store.forget_note(&core.edge, chat).await;
            // A sender may have noted it between the look and the forgetting: then note it again.
            if lock(&core.noted).contains(&chat) {
                let _ = core.store.note_sender(&core.edge, chat).await;
            }
        }
    }
}
