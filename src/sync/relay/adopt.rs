//! Adopts the outboxes of dead edges. Every live edge does, each in its own order, so that they share the work; and this edge
//! adopts those of an earlier edge of its own name.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::join_all,
    stream::{self, FuturesUnordered},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::instrument::Instrument;

use super::{
    super::{Core, outbox::since, session_expiry},
    HEAL,
    heal::{Emptied, OF_A_NODE, SIZES, TURN, publish_outbox, sizes},
};
use crate::{
    domain::id::ChatId,
    spans,
    store::{RegisteredSender, Result},
};

/// The outboxes of one node are split into this many shards; this many of these are drained at a time.
const SHARDS: usize = 16;
const SHARDS_AT_ONCE: usize = 4;
/// Retry interval while a node is down.
const WHILE_DOWN: Duration = Duration::from_secs(5);
/// Registry entries of this edge that are kept although no session follows the chat, and how many are checked per pass.
const KEEP: usize = 10_000;
const PRUNED: usize = 256;

/// The result of adopting a dead edge's outboxes.
#[derive(Debug, Default)]
struct Adopted {
    // Nothing of it is left.
    all: bool,
    // The rest is of these nodes alone, which are down.
    down: HashSet<String>,
}

enum Done {
    Dead(Result<Vec<String>>),
    Adopted(String, Adopted),
    Own(Result<()>),
}

type UnderWay<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send + 'a>>>;

/// Adopts the outboxes of dead edges, as long as this one lives.
pub(in crate::sync) async fn adopt(core: Arc<Core>) {
    let core = &*core;
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = UnderWay::new();
    let (mut asking, mut own) = (false, false);
    let mut busy: HashSet<String> = HashSet::new();
    // Edges whose rest waits for nodes that are down, and when they are checked all the same.
    let mut parked: HashMap<String, (HashSet<String>, Instant)> = HashMap::new();
    loop {
        tokio::select! {
            biased;
            Some(done) = under_way.next(), if !under_way.is_empty() => match done {
                Done::Dead(Ok(dead)) => {
                    asking = false;
                    if !core.edge.claim.waits() && !std::mem::replace(&mut own, true) {
                        under_way.push(Box::pin(async move { Done::Own(take_own(core).await) }));
                    }
                    core.sending.relay.outbox.retain_dead(&dead);
                    parked.retain(|edge, _| dead.contains(edge));
                    for edge in dead {
                        let is_parked = parked.get(&edge).is_some_and(|(nodes, until)| {
                            *until > Instant::now() && nodes.iter().all(|node| core.broker.down_for(node).is_some())
                        });
                        if !is_parked && busy.insert(edge.clone()) {
                            under_way.push(Box::pin(async move {
                                let adopted = look_after(core, &edge).instrument(spans::adoption(&edge)).await;
                                Done::Adopted(edge, adopted)
                            }));
                        }
                    }
                }
                Done::Dead(Err(error)) => {
                    asking = false;
                    tracing::debug!(%error, "other edges not checked; will retry");
                }
                Done::Adopted(edge, adopted) => {
                    busy.remove(&edge);
                    parked.remove(&edge);
                    if adopted.all {
                        core.sending.relay.outbox.dead(&edge, None);
                    } else if !adopted.down.is_empty() {
                        parked.insert(edge, (adopted.down, Instant::now() + WHILE_DOWN));
                    }
                }
                Done::Own(Ok(())) => {}
                Done::Own(Err(error)) => {
                    own = false;
                    tracing::debug!(%error, "this edge's earlier outboxes not read; will retry");
                }
            },
            _ = ticks.tick(), if !asking => {
                asking = true;
                under_way.push(Box::pin(async move { Done::Dead(session_expiry::dead_edges(core)) }));
            }
        }
    }
}

/// An edge of this name may have died: no other takes it for dead, because the name is alive again.
async fn take_own(core: &Core) -> Result<()> {
    let forgotten = core.sending.senders.forgotten();
    let notes = core.store.registered_senders(&core.edge.name).await?;
    for notes in notes.chunks(SIZES) {
        let chats: Vec<ChatId> = notes.iter().map(|note| note.chat).collect();
        for (note, size) in notes.iter().zip(core.store.outbox_sizes(&chats).await?) {
            if !core.sending.senders.has(note.chat) {
                core.sending.senders.add(*note, forgotten);
            }
            // Its last calls to the store may still be executed.
            core.sending.relay.outbox.check_soon(note.chat, Instant::now());
            if size.messages > 0 {
                core.sending.relay.outbox.leave(note.chat, size.node, size.messages, since(size.oldest));
            }
        }
    }
    Ok(())
}

/// Publishes the outboxes of a dead edge, as far as possible.
async fn look_after(core: &Core, edge: &str) -> Adopted {
    let Ok(mut notes) = core.store.registered_senders(edge).await else { return Adopted::default() };
    shuffle(&mut notes);
    let chats: Vec<ChatId> = notes.iter().map(|note| note.chat).collect();
    let sizes = sizes(core, &chats).await;
    let (mut empty, mut by_node) = (Vec::new(), HashMap::<String, Vec<(RegisteredSender, usize)>>::new());
    let (mut messages, mut oldest, mut unknown) = (0, None::<Instant>, false);
    for (note, size) in notes.into_iter().zip(sizes) {
        match size {
            None => unknown = true,
            Some(size) if size.messages == 0 => empty.push(note),
            Some(size) => {
                messages += size.messages;
                let waits = since(size.oldest);
                oldest = Some(oldest.map_or(waits, |oldest| oldest.min(waits)));
                by_node.entry(size.node).or_default().push((note, size.messages));
            }
        }
    }
    if messages > 0 && core.sending.relay.outbox.dead(edge, Some((messages, oldest))) {
        let chats = by_node.values().map(Vec::len).sum::<usize>();
        tracing::info!(edge, chats, messages, "taking over the outboxes of a dead edge");
    }
    let works = by_node.into_iter().map(|(node, notes)| async move {
        let is_down = core.broker.down_for(&node).is_some();
        let emptied = if is_down { Vec::new() } else { empty_all(core, edge, &node, &notes).await };
        let left = notes.len() - emptied.len();
        (node, emptied, left)
    });
    let mut adopted = Adopted { all: !unknown, down: HashSet::new() };
    let mut others = unknown;
    for (node, emptied, left) in join_all(works).await {
        empty.extend(emptied);
        if left > 0 {
            adopted.all = false;
            if core.broker.down_for(&node).is_some() {
                adopted.down.insert(node);
            } else {
                others = true;
            }
        }
    }
    if others {
        adopted.down.clear();
    }
    let silence = session_expiry::dead_after(&core.timing);
    for notes in empty.chunks(SIZES) {
        if core.store.unregister_senders(edge, notes, silence).await.is_ok() {
            // Its last calls to the store may still be executed, and nobody is notified.
            notes.iter().for_each(|note| core.sending.relay.outbox.check_soon(note.chat, Instant::now()));
            let count = core.metrics.reconciler_actions.with_label_values(&["outbox_adopted"]);
            count.inc_by(notes.len() as u64);
        } else {
            adopted.all = false;
        }
    }
    adopted
}

/// Drains these outboxes, all of one node, with so many messages in each; returns those that are empty now. In shards, each leased
/// to one edge at a time: a lease for each chat would be two of three writes.
async fn empty_all(
    core: &Core,
    edge: &str,
    node: &str,
    notes: &[(RegisteredSender, usize)],
) -> Vec<RegisteredSender> {
    let mut shards: Vec<Vec<(RegisteredSender, usize)>> = vec![Vec::new(); SHARDS];
    for (note, messages) in notes {
        shards[usize::from(note.chat.as_bytes()[0]) % SHARDS].push((*note, *messages));
    }
    let mut shards: Vec<_> = shards.into_iter().enumerate().filter(|(_, notes)| !notes.is_empty()).collect();
    shuffle(&mut shards);
    let works = shards.into_iter().map(|(shard, notes)| async move {
        let work = format!("adopt.{edge}.{node}.{shard}");
        if !core.store.try_acquire_lease(&work, &core.edge.name, TURN).await.is_ok_and(|taken| taken) {
            return Vec::new();
        }
        let renewed = async {
            loop {
                sleep(TURN / 2).await;
                // If it is lost meanwhile, two edges do it: that is harmless.
                let _ = core.store.try_acquire_lease(&work, &core.edge.name, TURN).await;
            }
        };
        let emptied = tokio::select! {
            biased;
            emptied = empty_shard(core, edge, &notes) => emptied,
            never = renewed => never,
        };
        // If this fails, it expires.
        let _ = core.store.release_lease(&work, &core.edge.name).await;
        emptied
    });
    let works: Vec<_> = works.collect();
    stream::iter(works).buffer_unordered(SHARDS_AT_ONCE).concat().await
}

async fn empty_shard(core: &Core, edge: &str, notes: &[(RegisteredSender, usize)]) -> Vec<RegisteredSender> {
    let chats: Vec<ChatId> = notes.iter().map(|(note, _)| note.chat).collect();
    // Read again: others may have been faster.
    let sizes = sizes(core, &chats).await;
    let works: Vec<_> = notes
        .iter()
        .zip(sizes)
        .filter_map(|((note, before), size)| Some((*note, *before, size?.messages)))
        .map(|(note, before, messages)| async move {
            core.sending.relay.outbox.dead_published(edge, before.saturating_sub(messages));
            let emptied = match messages {
                0 => Emptied::All(0),
                _ => publish_outbox(core, note.chat, messages, None).await,
            };
            let (Emptied::All(gone) | Emptied::More(gone, _) | Emptied::Some(gone, _)) = emptied;
            core.sending.relay.outbox.dead_published(edge, gone);
            matches!(emptied, Emptied::All(_)).then_some(note)
        })
        .collect();
    let done: Vec<_> = stream::iter(works).buffer_unordered(OF_A_NODE / SHARDS_AT_ONCE).collect().await;
    done.into_iter().flatten().collect()
}

fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = (crate::rng::fraction() * (last + 1) as f64) as usize;
        items.swap(last, other.min(last));
    }
}

/// Bounds this edge's registry, which would grow with every chat it ever sent to.
pub(in crate::sync) async fn prune(core: Arc<Core>) {
    let mut ticks = interval(HEAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let forgotten = core.sending.senders.forgotten();
        let chats = core.sending.senders.beyond(KEEP, PRUNED, |chat| core.hub.has_chat(chat));
        // Out of our own list first: a later sender registers it again, and this can't undo that.
        let notes: Vec<_> = chats.into_iter().filter_map(|chat| core.sending.senders.forget(chat)).collect();
        if notes.is_empty() {
            continue;
        }
        let chats: Vec<ChatId> = notes.iter().map(|note| note.chat).collect();
        let mut unused = Vec::new();
        for (note, size) in notes.into_iter().zip(sizes(&core, &chats).await) {
            if size.is_some_and(|size| size.messages == 0) {
                unused.push(note);
            } else if !core.sending.senders.has(note.chat) {
                core.sending.senders.add(note, forgotten);
            }
        }
        let _ = core.store.unregister_senders(&core.edge.name, &unused, Duration::ZERO).await;
    }
}
