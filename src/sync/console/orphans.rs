//! Orphan queues, for admins: found by the reconciler's `reconcile::diff`, removed by its `reconcile::remove`, but on request, and
//! including those of devices that this store never knew. The reconciler leaves these alone because they may belong to another
//! deployment.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    order::{self, Key, Listing},
    snapshot::Lines,
};
use crate::{
    broker::QueueAt,
    domain::{
        Millis,
        id::{ChatId, DeviceId, UserId},
        names, now_millis,
    },
    protocol::{ErrorCode, Problem},
    store::Owner,
    sync::{Core, reconcile, registration::no_queue},
};

/// The most that are listed.
const MOST: usize = 10_000;
/// Chats whose registrations are read.
const REGISTRATIONS: usize = 10_000;
const PARALLEL: usize = 32;
/// nsqd removes one after the other anyway.
const REMOVALS: usize = 4;
/// One sweep at a time, over all edges; the length of its lease.
const WORK: &str = "sweep";
const WORK_FOR: Duration = Duration::from_secs(60);
/// How long a sweep removes; the rest is left.
const BUDGET: Duration = Duration::from_secs(10);

/// Why a queue is an orphan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Its device was terminated.
    Terminated,
    /// Its device's user isn't in the chat.
    NotAMember,
    /// The chat is on another server.
    Moved,
    /// This store never knew the device.
    UnknownDevice,
}

/// All orphans found.
#[derive(Debug)]
pub struct Orphans {
    as_of: Millis,
    all: Vec<Orphan>,
    truncated: bool,
    unreachable: Vec<String>,
}

/// An orphan queue.
#[derive(Debug, Clone)]
struct Orphan {
    queue: QueueAt,
    user: Option<UserId>,
    reason: Reason,
    /// This store never knew the device nor the chat.
    foreign: bool,
}

/// The same on the wire; see docs/protocol.md, `GET /admin/v1/channels/orphans`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct OrphanLine {
    pub node: String,
    pub topic: String,
    pub channel: String,
    pub chat: ChatId,
    pub device: DeviceId,
    pub user: Option<UserId>,
    pub reason: Reason,
    pub foreign: bool,
    pub depth: Option<u64>,
    pub in_flight: Option<u64>,
}

/// The options of a sweep.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    /// Changes nothing.
    pub dry_run: bool,
    /// Includes those that may be another deployment's.
    pub foreign: bool,
    /// At most this many.
    pub limit: usize,
}

/// The result of a sweep; see docs/protocol.md, `POST /admin/v1/channels/sweep`.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct Swept {
    pub dry_run: bool,
    pub items: Vec<SweptLine>,
    pub removed: usize,
    pub kept: usize,
    pub failed: usize,
    pub left: usize,
    pub foreign: usize,
    pub truncated: bool,
    pub unreachable: Vec<String>,
    pub at: Millis,
}

/// The result for one queue.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md")]
pub struct SweptLine {
    #[serde(flatten)]
    pub orphan: OrphanLine,
    pub result: &'static str,
    pub detail: Option<String>,
}

/// Returns one page of one check.
///
/// # Errors
/// `bad_field`, `unavailable`.
pub async fn orphans(core: &Arc<Core>, listing: &Listing) -> Result<Lines<OrphanLine>, Problem> {
    let orphans = core.console.orphans.get(core, |core| async move { look(&core).await }).await?;
    let wanted = orphans.all.iter().filter(|Orphan { queue, user, .. }| {
        listing.search.as_deref().is_none_or(|search| {
            order::id_has(queue.device.as_bytes(), search)
                || order::id_has(queue.chat.as_bytes(), search)
                || order::has(&queue.node, search)
                || user.as_ref().is_some_and(|user| order::has(user.as_str(), search))
        })
    });
    let page = order::page(listing, wanted, |orphan| Key {
        // Groups those of one chat.
        number: order::by_id(orphan.queue.chat.as_bytes()),
        text: &orphan.queue.node,
        id: *orphan.queue.device.as_bytes(),
    })?;
    let lines: Vec<_> = page.rows.into_iter().map(|orphan| line(core, orphan)).collect();
    Ok(Lines {
        items: stream::iter(lines).buffered(PARALLEL).collect().await,
        next: page.next,
        total: page.total,
        as_of: orphans.as_of,
        truncated: orphans.truncated,
        unreachable: orphans.unreachable.clone(),
    })
}

/// Checks twice, and removes what is an orphan both times, each after a last check.
///
/// # Errors
/// `conflict` while another sweep runs, `unavailable`.
pub async fn sweep(core: &Core, wanted: Sweep) -> Result<Swept, Problem> {
    let holder = format!("{}.{}", core.edge.name, crate::rng::uuid().simple());
    take_turn(core, &holder).await?;
    let swept = sweep_in_turn(core, &holder, wanted).await;
    // If this fails, it expires.
    let _ = core.store.release_lease(WORK, &holder).await;
    swept
}

async fn take_turn(core: &Core, holder: &str) -> Result<(), Problem> {
    if core.store.try_acquire_lease(WORK, holder, WORK_FOR).await? {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::Conflict, "another sweep is under way: wait for its end, at most a minute"))
}

async fn sweep_in_turn(core: &Core, holder: &str, wanted: Sweep) -> Result<Swept, Problem> {
    let before: HashSet<QueueAt> = look(core).await?.all.into_iter().map(|orphan| orphan.queue).collect();
    tokio::time::sleep(reconcile::SOON).await;
    let now = look(core).await?;
    take_turn(core, holder).await?;
    let twice: Vec<Orphan> = now.all.into_iter().filter(|orphan| before.contains(&orphan.queue)).collect();
    let (spared, mut orphans): (Vec<_>, Vec<_>) =
        twice.into_iter().partition(|orphan| orphan.foreign && !wanted.foreign);
    let beyond = orphans.len().saturating_sub(wanted.limit);
    orphans.truncate(wanted.limit);
    let until = Instant::now() + BUDGET;
    let work: Vec<_> = orphans.iter().map(|orphan| sweep_one(core, orphan, wanted, until)).collect();
    let items: Vec<SweptLine> = stream::iter(work).buffered(REMOVALS).collect().await;
    let count = |results: &[&str]| items.iter().filter(|item| results.contains(&item.result)).count();
    Ok(Swept {
        dry_run: wanted.dry_run,
        removed: count(&["removed"]),
        kept: count(&["kept", "gone"]),
        failed: count(&["failed"]),
        left: beyond + count(&["later"]),
        foreign: spared.len(),
        truncated: now.truncated,
        items,
        unreachable: now.unreachable,
        at: now_millis(),
    })
}

async fn sweep_one(core: &Core, orphan: &Orphan, wanted: Sweep, until: Instant) -> SweptLine {
    let (shown, queue) = (line(core, orphan).await, &orphan.queue);
    let done = |result, detail| SweptLine { orphan: shown, result, detail };
    if wanted.dry_run {
        return done("would_remove", None);
    }
    // A stop waits for removals in progress, and their audit entry; not for all.
    if Instant::now() >= until || core.drain.has_begun() {
        return done("later", None);
    }
    let removed = match orphan.reason {
        Reason::UnknownDevice => remove_unknown(core, queue, wanted.foreign).await,
        _ => reconcile::remove(core, queue).await,
    };
    match removed {
        Ok(true) => {
            tracing::info!(chat = %queue.chat, device = %queue.device, node = %queue.node, "sweep removed a queue");
            done("removed", None)
        }
        Ok(false)
            if *queue.node != *reconcile::DIRECTORY
                && matches!(core.broker.queue_at(queue).await, Ok(None)) =>
        {
            done("gone", None)
        }
        Ok(false) => done("kept", None),
        Err(problem) => done("failed", Some(problem.detail.into_owned())),
    }
}

/// Checks a queue of an unknown device once more, and removes it. Ids of devices are written before their queues are created, so
/// it isn't a new one.
async fn remove_unknown(core: &Core, queue: &QueueAt, foreign: bool) -> Result<bool, Problem> {
    let is_ours =
        core.store.owner(queue.device).await?.is_none() && (foreign || knows(core, queue.chat).await?);
    if is_ours { reconcile::take_away(core, queue, None).await } else { Ok(false) }
}

async fn knows(core: &Core, chat: ChatId) -> Result<bool, Problem> {
    Ok(core.store.chat(chat).await?.is_some() || core.store.was_deleted(chat).await?)
}

async fn line(core: &Core, orphan: &Orphan) -> OrphanLine {
    let Orphan { queue, user, reason, foreign } = orphan;
    let state = match *queue.node == *reconcile::DIRECTORY {
        true => None,
        false => core.broker.queue_at(queue).await.map_err(no_queue).ok().flatten(),
    };
    OrphanLine {
        node: queue.node.to_string(),
        topic: names::topic(queue.chat),
        channel: names::channel(queue.device),
        chat: queue.chat,
        device: queue.device,
        user: user.clone(),
        reason: *reason,
        foreign: *foreign,
        depth: state.as_ref().map(|state| state.depth),
        in_flight: state.as_ref().map(|state| state.in_flight),
    }
}

/// Checks everything once; changes nothing.
async fn look(core: &Core) -> Result<Orphans, Problem> {
    let as_of = now_millis();
    // What exists before what should: see `reconcile`.
    let registered = core.broker.registrations(REGISTRATIONS).await;
    let present = core.broker.queues().await;
    let mut unreachable = [present.silent.clone(), registered.silent].concat();
    unreachable.sort_unstable();
    let only_registered = reconcile::shown_by_none(registered.queues, &present);
    let mut asked: HashSet<(ChatId, DeviceId)> =
        only_registered.iter().map(|queue| (queue.chat, queue.device)).collect();
    let mut wanted_queue = |chat, device| {
        asked.remove(&(chat, device));
    };
    let wrong = reconcile::diff_all(core, reconcile::BRISK, present, &mut wanted_queue).await?;
    let registered_only =
        only_registered.into_iter().filter(|queue| asked.contains(&(queue.chat, queue.device)));
    let mut queues: Vec<QueueAt> = wrong.orphans.into_iter().chain(registered_only).collect();
    queues.sort_unstable_by(|a, b| (a.chat, &a.node, a.device).cmp(&(b.chat, &b.node, b.device)));
    let truncated = registered.truncated || queues.len() > MOST;
    queues.truncate(MOST);
    let work: Vec<_> = queues.into_iter().map(|queue| explain(core, queue)).collect();
    let mut found = stream::iter(work).buffered(PARALLEL);
    let mut all = Vec::new();
    while let Some(orphan) = found.next().await {
        all.extend(orphan?);
    }
    Ok(Orphans { as_of, all, truncated, unreachable })
}

/// Returns why it is an orphan; none: it isn't (any more).
async fn explain(core: &Core, queue: QueueAt) -> Result<Option<Orphan>, Problem> {
    let (user, reason, foreign) = match core.store.owner(queue.device).await? {
        None => (None, Reason::UnknownDevice, !knows(core, queue.chat).await?),
        Some(Owner { user, terminated: Some(_) }) => (Some(user), Reason::Terminated, false),
        Some(Owner { user, terminated: None }) => match core.store.chat_of_member(queue.chat, &user).await? {
            None => (Some(user), Reason::NotAMember, false),
            Some((chat, _)) if chat.node != *queue.node && *queue.node != *reconcile::DIRECTORY => {
                (Some(user), Reason::Moved, false)
            }
            Some(_) => return Ok(None),
        },
    };
    Ok(Some(Orphan { queue, user, reason, foreign }))
}
