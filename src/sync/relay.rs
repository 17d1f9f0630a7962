//! From the log to NSQ. What was appended is published at once and taken out of the chat's outbox when NSQ confirms.
//! What wasn't confirmed stays in the outbox, and `heal` publishes it again: its own edge's at once, a dead edge's when
//! another edge notices that it has gone. A message may be published twice, never forgotten.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Core, lapse,
    outbox::{Behind, Outbox, UNDER_WAY, Unconfirmed, since},
};
use crate::domain::{Seq, id::ChatId, message::accepted_at};

/// Messages waiting to be published by this edge. Beyond it they wait in their outbox instead.
const WAITING: usize = 8192;
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
    /// When it was accepted.
    pub since: Instant,
}

/// Where senders leave their messages.
#[derive(Debug)]
pub(super) struct Relay {
    jobs: mpsc::Sender<Job>,
    outbox: Outbox,
}

impl Relay {
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (jobs, taken) = mpsc::channel(WAITING);
        (Self { jobs, outbox: Outbox::new() }, taken)
    }

    /// Never waits: a send must not hang because NSQ does.
    pub(super) fn hand_over(&self, job: Job) {
        self.outbox.opened();
        if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = self.jobs.try_send(job) {
            let Job { chat, node, since, .. } = job;
            self.left_behind(chat, node, 1, since);
            self.outbox.closed(1);
        }
    }

    /// Something in this chat's outbox isn't being published; its node isn't known.
    pub(super) fn behind(&self, chat: ChatId) {
        self.left_behind(chat, String::new(), 0, Instant::now());
    }

    fn left_behind(&self, chat: ChatId, node: String, messages: usize, since: Instant) {
        self.outbox.behind(chat, Behind { node, messages, since });
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
            self.relay.behind(chat);
        }
    }
}

impl Core {
    /// What NSQ hasn't confirmed, as this edge knows it.
    #[must_use]
    pub fn unconfirmed(&self) -> Unconfirmed {
        self.relay.outbox.unconfirmed()
    }

    /// Waits until everything that was sent here is with NSQ, and noted so: before this edge ends, because what stays in
    /// an outbox waits until another edge has noticed that this one has gone.
    pub async fn flushed(&self) {
        while self.relay.outbox.open() > 0 {
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
    // As many as may be under way: where each can be seen to wait.
    let mut places: Vec<usize> = (0..UNDER_WAY).rev().collect();
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
            Some((chat, node, seq, since, place, result)) = under_way.next(), if !under_way.is_empty() => {
                core.relay.outbox.place(place, None);
                places.push(place);
                match result {
                    Ok(()) => confirmed.entry(chat).or_default().push(seq),
                    Err(error) => {
                        tracing::debug!(%chat, seq, %error, "not confirmed: stays in the outbox");
                        core.relay.left_behind(chat, node, 1, since);
                        core.relay.outbox.closed(1);
                    }
                }
            }
            job = jobs.recv(), if under_way.len() < UNDER_WAY => {
                let Some(Job { chat, node, seq, frame, since }) = job else { return };
                // There is one, because fewer are under way.
                let place = places.pop().unwrap_or(UNDER_WAY);
                core.relay.outbox.place(place, Some(since));
                let core = core.clone();
                under_way.push(async move {
                    if planted!(ConfirmBeforePublish) {
                        let _ = core.store.published(chat, &[seq]).await;
                    }
                    let published = core.broker.publish(&node, chat, frame).await;
                    (chat, node, seq, since, place, published)
                });
            }
        }
    }
}

async fn note_confirmed(core: &Core, batch: HashMap<ChatId, Vec<Seq>>) {
    futures_util::stream::iter(batch)
        .for_each_concurrent(32, |(chat, seqs)| async move {
            let noted = core.store.published(chat, &seqs).await;
            core.relay.outbox.closed(seqs.len());
            if let Err(error) = noted {
                // They'd be published a second time; seq removes that.
                tracing::debug!(%chat, %error, "confirmed messages stay in the outbox for now");
                core.relay.left_behind(chat, String::new(), seqs.len(), Instant::now());
            }
        })
        .await;
}

/// Publishes again what stayed in an outbox, and takes over the outboxes of edges that died.
pub(super) async fn heal(core: Arc<Core>) {
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Edges whose outboxes couldn't be emptied the last time.
    let mut hard: HashMap<String, Option<Instant>> = HashMap::new();
    for turn in 0u64.. {
        ticks.tick().await;
        let patient = turn % SELDOM != 0;
        for (chat, behind) in core.relay.outbox.take_behind() {
            // What a node that is down is owed may be a lot, and asking for it costs the store something; but the chat may
            // have got another node, so it is asked now and then.
            if patient && !behind.node.is_empty() && core.broker.down_for(&behind.node).is_some() {
                core.relay.outbox.behind(chat, behind);
            } else if let Err(Left { node, sent, since }) = empty_outbox(&core, chat).await {
                let messages = behind.messages.saturating_sub(sent);
                core.relay.left_behind(chat, node, messages, since.unwrap_or(behind.since));
            }
        }
        match lapse::dead_edges(&core).await {
            Ok(dead) => {
                hard.retain(|edge, _| dead.contains(edge));
                for edge in dead.into_iter().filter(|_| !planted!(NoAdoption)) {
                    if patient && hard.contains_key(&edge) {
                        continue;
                    }
                    match adopt(&core, &edge).await {
                        Ok(()) => drop(hard.remove(&edge)),
                        Err(since) => drop(hard.insert(edge, since)),
                    }
                }
                core.relay.outbox.left(hard.len(), hard.values().flatten().min().copied());
            }
            Err(error) => tracing::debug!(%error, "other edges can't be looked for now"),
        }
        prune_notes(&core).await;
    }
}

/// Why an outbox isn't empty: somebody else is at it, or not all could be published.
#[derive(Debug, Default)]
struct Left {
    // The node that didn't take it, if that is known; else empty.
    node: String,
    // How many were published.
    sent: usize,
    // Since when the oldest waits, if that was seen.
    since: Option<Instant>,
}

async fn empty_outbox(core: &Core, chat: ChatId) -> Result<(), Left> {
    let work = format!("relay.{}", chat.hex());
    let taken = core.store.take_work(&work, &core.edge, TURN).await;
    if !taken.is_ok_and(|taken| taken) {
        return Err(Left::default());
    }
    let result = publish_outbox(core, chat).await;
    // If this fails, the work's own end frees it.
    let _ = core.store.release_work(&work, &core.edge).await;
    result
}

async fn publish_outbox(core: &Core, chat: ChatId) -> Result<(), Left> {
    let mut all = 0;
    // At most a thousand pages a turn, so that one chat can't keep the others waiting for ever.
    for turn in 0..1000 {
        // First one message alone: its node may be down.
        let page = if turn == 0 { 1 } else { PAGE };
        let Ok((node, messages)) = core.store.outbox(chat, page).await else { break };
        if messages.is_empty() {
            return Ok(());
        }
        let asked = messages.len();
        let at = messages.first().and_then(|(_, frame)| accepted_at(frame));
        let mut sent = Vec::with_capacity(asked);
        for (seq, frame) in messages {
            match timeout(Duration::from_secs(5), core.broker.publish(&node, chat, frame)).await {
                Ok(Ok(())) => sent.push(seq),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        core.metrics.relayed.inc_by(sent.len() as u64);
        let noted = sent.is_empty() || core.store.published(chat, &sent).await.is_ok();
        all += sent.len();
        if sent.len() < asked || !noted {
            return Err(Left { node, sent: all, since: Some(since(at)) });
        }
    }
    Err(Left { sent: all, ..Left::default() })
}

/// `Err`: not all of it could be done; since when the oldest message waits, if that was seen.
async fn adopt(core: &Core, edge: &str) -> Result<(), Option<Instant>> {
    let Ok(chats) = core.store.noted_chats(edge).await else { return Err(None) };
    if !chats.is_empty() {
        tracing::info!(edge, chats = chats.len(), "taking over the outboxes of an edge that has gone");
    }
    let silence = lapse::dead_after(&core.timing);
    let (mut all, mut oldest) = (true, None::<Instant>);
    for noted in chats {
        let emptied = empty_outbox(core, noted.chat).await;
        if emptied.is_ok() && core.store.forget_note(edge, &noted, silence).await.is_ok() {
            core.metrics.reconciler_actions.with_label_values(&["outbox_adopted"]).inc();
            continue;
        }
        all = false;
        if let Err(Left { since: Some(since), .. }) = emptied {
            oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
        }
    }
    if all { Ok(()) } else { Err(oldest) }
}

/// Keeps the notes of this edge from growing with every chat it ever sent to.
async fn prune_notes(core: &Core) {
    const KEEP: usize = 10_000;
    for chat in core.notes.beyond(KEEP, 256, |chat| core.hub.has_chat(chat)) {
        // Out of our own list first: a sender that comes from now on notes it again, and this can't forget that.
        let Some(noted) = core.notes.forget(chat) else { continue };
        if empty_outbox(core, chat).await.is_ok() {
            let _ = core.store.forget_note(&core.edge, &noted, Duration::ZERO).await;
        }
    }
}
