//! Publishes again what stayed in an outbox. Many outboxes at a time, but only a few of one node: a hanging node, or a hanging
//! call to the store, delays no others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream::{self, FuturesUnordered},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    super::{
        Core, lock,
        outbox::{Checked, Due, Left, since},
        registration::provision_member,
    },
    HEAL,
};
use crate::{
    domain::{Seq, id::ChatId, message::accepted_at},
    store::{OutboxPage, OutboxSize},
};

/// Outboxes of one node that are drained at a time, of this edge and, separately, of dead ones.
pub(super) const OF_A_NODE: usize = 64;
/// Outbox sizes per call to the store, and concurrent calls.
pub(super) const SIZES: usize = 128;
const SIZES_AT_ONCE: usize = 4;
/// Messages per outbox page (the store keeps its bytes in bounds).
const PAGE: usize = 100;
/// Pages of one chat in a turn, so that one chat can't keep its slot for ever.
const PAGES: usize = 16;
/// Lease of an outbox, unless renewed: the longest wait for a dead edge. Two at once are harmless, only double work.
pub(super) const TURN: Duration = Duration::from_secs(4);
/// Time limit of one publication.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);

/// Slots for outboxes of each node.
#[derive(Debug, Default)]
struct NodePlaces(Mutex<HashMap<String, Arc<Semaphore>>>);

impl NodePlaces {
    fn of(&self, node: &str) -> Arc<Semaphore> {
        let mut slots = lock(&self.0);
        // Bounded by the nodes that chats are stored with.
        slots.entry(node.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(OF_A_NODE))).clone()
    }
}

/// Checks this edge's outboxes in which something was, or may have been, left.
pub(in crate::sync) async fn heal(core: Arc<Core>) {
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let slots = NodePlaces::default();
    // A chat is in one of them only; those in a hanging one wait for it, others are in the next.
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            _ = ticks.tick() => {
                let is_down = |node: &str| core.broker.down_for(node).is_some();
                let due = core.sending.relay.outbox.take_due(Instant::now(), is_down);
                if !due.is_empty() {
                    under_way.push(check(&core, &slots, due));
                }
            }
        }
    }
}

async fn check(core: &Core, slots: &NodePlaces, due: Vec<Due>) {
    let chats: Vec<ChatId> = due.iter().map(|due| due.chat).collect();
    let sizes = sizes(core, &chats).await;
    let mut by_node: HashMap<String, Vec<(ChatId, usize)>> = HashMap::new();
    for (Due { chat, node }, size) in due.into_iter().zip(sizes) {
        let left = |node, messages, since| Checked::Left(Left { node, messages, since });
        let checked = match size {
            // It is unknown.
            None => left(node, None, None),
            Some(size) if size.messages == 0 => Checked::Empty,
            Some(size) if core.broker.down_for(&size.node).is_some() => {
                left(size.node, Some(size.messages), Some(since(size.oldest)))
            }
            Some(size) => {
                by_node.entry(size.node).or_default().push((chat, size.messages));
                continue;
            }
        };
        core.sending.relay.outbox.checked(chat, checked, Instant::now());
    }
    let nodes = by_node.into_iter().map(|(node, chats)| async move {
        let slots = slots.of(&node);
        stream::iter(chats)
            .for_each_concurrent(OF_A_NODE, |(chat, messages)| {
                let slots = &slots;
                async move {
                    let mut messages = messages;
                    let checked = loop {
                        // Never closed. First come, first served: a chat with more than a turn's worth goes to the end.
                        let _place = slots.acquire().await;
                        match empty_outbox(core, chat, messages).await {
                            Emptied::All(_) => break Checked::Empty,
                            Emptied::More(_, left) => messages = left,
                            Emptied::Some(_, left) => break Checked::Left(left),
                        }
                    };
                    core.sending.relay.outbox.checked(chat, checked, Instant::now());
                }
            })
            .await;
    });
    join_all(nodes).await;
}

/// Returns the sizes of these outboxes, in their order; none: unknown.
pub(super) async fn sizes(core: &Core, chats: &[ChatId]) -> Vec<Option<OutboxSize>> {
    let chunks: Vec<_> = chats
        .chunks(SIZES)
        .map(|chunk| async move {
            match core.store.outbox_sizes(chunk).await {
                Ok(sizes) => sizes.into_iter().map(Some).collect(),
                Err(error) => {
                    tracing::debug!(%error, "outboxes not read; will retry");
                    vec![None; chunk.len()]
                }
            }
        })
        .collect();
    stream::iter(chunks).buffered(SIZES_AT_ONCE).concat().await
}

/// A drained outbox: how many messages have left it.
#[derive(Debug)]
pub(super) enum Emptied {
    /// It is empty.
    All(usize),
    /// So many were published, so many are left, without a refusal: other outboxes have their turn.
    More(usize, usize),
    /// Something is left, or another edge does it.
    Some(usize, Left),
}

/// Drains an outbox of `messages`, in turn with other edges.
pub(super) async fn empty_outbox(core: &Core, chat: ChatId, messages: usize) -> Emptied {
    let work = format!("relay.{}", chat.hex());
    // The page is valid only under the lease: so both are requested at once.
    let (taken, page) =
        join(core.store.try_acquire_lease(&work, &core.edge.name, TURN), core.store.outbox(chat, PAGE)).await;
    if !taken.is_ok_and(|taken| taken) {
        return Emptied::Some(0, Left::default());
    }
    let emptied = publish_outbox(core, chat, messages, page.ok()).await;
    // If this fails, it expires.
    let _ = core.store.release_lease(&work, &core.edge.name).await;
    emptied
}

/// Publishes an outbox of `expected` messages; its first page may have been read.
pub(super) async fn publish_outbox(
    core: &Core,
    chat: ChatId,
    expected: usize,
    mut first: Option<OutboxPage>,
) -> Emptied {
    let mut gone = 0;
    for _ in 0..PAGES {
        let page = match first.take() {
            Some(page) => page,
            None => match core.store.outbox(chat, PAGE).await {
                Ok(page) => page,
                Err(_) => break,
            },
        };
        let OutboxPage { node, held, messages } = page;
        if messages.is_empty() {
            return Emptied::All(gone);
        }
        if held && !let_arrive(core, chat).await {
            return Emptied::Some(
                gone,
                Left { messages: Some(expected.saturating_sub(gone)), ..Left::default() },
            );
        }
        let asked = messages.len();
        let at = messages.first().and_then(|(_, frame)| accepted_at(frame));
        let sent = publish_page(core, &node, chat, messages).await;
        let noted = sent.is_empty() || core.store.published(chat, &sent).await.is_ok();
        // Devices may have them from the log by now, and then nothing else would empty their queues.
        if !sent.is_empty() {
            let _ = core.store.publish_queued(chat, &[]).await;
        }
        gone += if noted { sent.len() } else { 0 };
        let left = expected.saturating_sub(gone);
        if sent.len() < asked || !noted {
            // At least those that were asked for.
            let messages = Some(left.max(asked - if noted { sent.len() } else { 0 }));
            return Emptied::Some(gone, Left { node, messages, since: Some(since(at)) });
        }
        // Later messages are being published by their senders.
        if left == 0 {
            return Emptied::All(gone);
        }
    }
    match expected.saturating_sub(gone) {
        left if gone > 0 => Emptied::More(gone, left),
        left => Emptied::Some(gone, Left { messages: Some(left), ..Left::default() }),
    }
}

/// Creates the queues of arriving members. If the adding edge couldn't, because nsqd was away or it died, this does it now: an
/// earlier publication is in no queue of theirs, and NSQ confirms it all the same. True: all exist. (A member who joined since
/// receives only what is after the page.)
async fn let_arrive(core: &Core, chat: ChatId) -> bool {
    let Ok(arriving) = core.store.arriving(chat).await else { return false };
    for (user, _) in arriving {
        if let Err(problem) = provision_member(core, chat, &user).await {
            tracing::debug!(%chat, %user, error = %problem, "queues of a new member not created yet: nothing is published");
        }
    }
    core.store.arriving(chat).await.is_ok_and(|left| left.is_empty())
}

/// Publishes a page in order, without waiting in between; returns what needs no further publication.
async fn publish_page(core: &Core, node: &str, chat: ChatId, messages: Vec<(Seq, Bytes)>) -> Vec<Seq> {
    // Polled first, and thereby given to the node's connection, in the order of the list.
    let published: FuturesUnordered<_> = messages
        .into_iter()
        .map(|(seq, frame)| async move {
            (seq, timeout(PUBLISHED_WITHIN, core.broker.publish(node, chat, frame)).await)
        })
        .collect();
    let done = published.filter_map(|(seq, result)| async move {
        match result {
            Ok(Ok(())) => {
                core.metrics.relayed.inc();
                Some(seq)
            }
            Ok(Err(error)) => core.sending.relay.gives_up(core, chat, seq, &error).then_some(seq),
            Err(_elapsed) => None,
        }
    });
    done.collect().await
}
