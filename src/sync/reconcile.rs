//! Compares the queues that exist with those that should, and repairs the drift. NSQ saves its lists of channels late, remembers
//! deleted ones in nsqlookupd, and has no subscribe-if-exists; an edge may die between any two steps of a leave.
//!
//! 1. Read what exists, on every server that answers.
//! 2. Then read what should exist: the live devices of the members of each chat. In this order, because a membership is written
//!    before its queues are created: an unwanted queue that existed before is an orphan.
//! 3. Relocate chats whose node is away for good (`placement`).
//! 4. Repair drift that is found twice in a row, each item after a last check, in turn with joins and leaves: orphan queues,
//!    missing queues, and unsubscribed devices of members whose adding edge died.
//!
//! Topics of deleted chats, queues that only nsqlookupd remembers, and ids of chats that were never created are handled alike. A
//! restart of an nsqd starts a comparison at once.
//!
//! Queues of devices that this store never knew are left alone: they may belong to another deployment.
//!
//! One live edge does it for all. Every step may be repeated, or done by two edges. `diff` finds drift, `repair` repairs single
//! items.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tracing::instrument::Instrument;

use super::{Core, placement, registration::complete_member};
use crate::{
    broker::QueueAt,
    spans,
    store::{Result as Stored, UNBORN},
};

mod diff;
mod repair;

use diff::Drift;
pub(super) use diff::{diff, shown_by_none};
pub(super) use repair::{remove, restore, take_away};
use repair::{remove_chat, remove_topic};

/// The name of this leased work.
const WORK: &str = "reconcile";
/// Another edge takes it over from a dead one after this …
const LEASE: Duration = Duration::from_secs(6);
/// … because a live one renews this often.
const RENEWAL: Duration = Duration::from_secs(2);
/// The pages (256 of them) are spread over three quarters of the time between two comparisons, so that they delay no sends.
const PAUSES: u32 = 340;

/// After a restart of a server: the time between the two comparisons that a repair takes.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// And the pause between their pages: they are urgent, and may be noticed.
pub(super) const BRISK: Duration = Duration::from_millis(2);
/// The leave of the last member mostly deletes the chat within this time. (If both do it, nothing is lost.)
const LEAVING: Duration = Duration::from_secs(5);
/// The node of a queue that only nsqlookupd remembers.
pub(super) const DIRECTORY: &str = "nsqlookupd";

pub(super) async fn run(core: Arc<Core>) {
    let chosen = AtomicBool::new(false);
    tokio::select! {
        biased;
        () = keep(&core, &chosen) => {}
        () = compare_all(&core, &chosen) => {}
    }
}

/// Acquires the lease of the work when it is free, and keeps it.
async fn keep(core: &Core, chosen: &AtomicBool) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = core.store.try_acquire_lease(WORK, &core.edge.name, LEASE).await;
        // Without an answer two edges may work for a while: each step checks again before it changes anything.
        if let Ok(taken) = taken {
            chosen.store(taken, Ordering::Relaxed);
        }
    }
}

async fn compare_all(core: &Arc<Core>, chosen: &AtomicBool) {
    let mut ticks = interval(core.timing.reconcile);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Drift::default();
    // A restarted server may have lost queues, or restored some: compare twice, without the usual pauses.
    let (mut restarts, mut hurry, mut was_chosen) = (0, 0u32, false);
    loop {
        tokio::select! {
            biased;
            count = core.broker.restarted(restarts) => (restarts, hurry) = (count, 2),
            () = tokio::time::sleep(SOON), if hurry > 0 => {}
            _ = ticks.tick() => {}
            // Not only at the next tick.
            () = tokio::time::sleep(RENEWAL), if !was_chosen => {}
        }
        // The previous holder may have left something half done.
        let is_chosen = chosen.load(Ordering::Relaxed);
        if is_chosen && !was_chosen {
            hurry = 2;
        }
        was_chosen = is_chosen;
        let leisurely = hurry == 0;
        let pause = (core.timing.reconcile / PAUSES).min(if leisurely { Duration::MAX } else { BRISK });
        hurry = hurry.saturating_sub(1);
        let span = spans::round(WORK);
        let look = async {
            match is_chosen {
                true => compare(core, pause).await,
                // Another edge does it.
                false => Ok(Drift::default()),
            }
        };
        let look = look.instrument(span.clone());
        let found = tokio::select! {
            biased;
            found = look => found,
            // Observations of that server are outdated.
            count = core.broker.restarted(restarts), if leisurely => {
                (restarts, hurry) = (count, 2);
                continue;
            }
        };
        let mend = async {
            match found {
                Ok(mut found) => {
                    found.go_on_from(&before);
                    placement::relocate_all(core, &found.unplaced).await;
                    repair(core, &before, &found).await;
                    before = found;
                }
                Err(error) => tracing::debug!(%error, "queues can't be compared now"),
            }
        };
        mend.instrument(span).await;
    }
}

async fn compare(core: &Core, pause: Duration) -> Stored<Drift> {
    let remembered = core.broker.remembered().await;
    let present = core.broker.queues().await;
    // At once, without a second comparison: nobody loses anything by it, and an nsqd that creates a topic again creates all
    // remembered channels.
    for queue in shown_by_none(remembered, &present) {
        remove_orphan(core, &queue).await;
    }
    diff(core, pause, present, &mut |_, _| {}).await
}

async fn remove_orphan(core: &Core, queue: &QueueAt) {
    let QueueAt { node, chat, device } = queue;
    match remove(core, queue).await {
        Ok(true) => {
            core.metrics.reconciler_actions.with_label_values(&["orphan_removed"]).inc();
            tracing::info!(%chat, %device, %node, "orphan queue removed");
        }
        Ok(false) => {}
        Err(problem) => {
            tracing::warn!(%chat, %device, %node, error = %problem, "orphan queue removal failed; will retry")
        }
    }
}

async fn repair(core: &Core, before: &Drift, now: &Drift) {
    let count = |action: &str| core.metrics.reconciler_actions.with_label_values(&[action]).inc();
    for queue in now.orphans.intersection(&before.orphans) {
        remove_orphan(core, queue).await;
    }
    for queue in now.missing.intersection(&before.missing) {
        let QueueAt { node, chat, device } = queue;
        match restore(core, queue).await {
            Ok(true) => {
                count("queue_restored");
                tracing::warn!(%chat, %device, %node, "missing queue created again: the log fills its gap");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %device, %node, error = %problem, "creating a missing queue failed; will retry")
            }
        }
    }
    for (chat, user) in now.unsubscribed.intersection(&before.unsubscribed) {
        // It logs what it has done.
        if let Err(problem) = complete_member(core, *chat, user).await {
            tracing::warn!(%chat, %user, error = %problem, "subscribing a member's devices failed; will retry");
        }
    }
    // Their edge died after the others had already dropped it, because it had been silent before.
    for (chat, _) in now.unconfirmed.intersection(&before.unconfirmed) {
        count("outbox_found");
        core.sending.relay.behind(*chat);
    }
    for (chat, since) in &now.empty_chats {
        if since.elapsed() < LEAVING {
            continue;
        }
        match remove_chat(core, *chat).await {
            Ok(true) => {
                count("chat_removed");
                tracing::info!(%chat, "empty chat removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, error = %problem, "empty chat removal failed; will retry")
            }
        }
    }
    for (chat, since) in &now.absent {
        if since.elapsed() < UNBORN {
            continue;
        }
        match core.store.unlist_unborn(*chat).await {
            Ok(true) => tracing::debug!(%chat, "the id of a chat that never came to be is forgotten"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%chat, %error, "id of a chat that was never created not removed; will retry")
            }
        }
    }
    for (node, chat) in now.topics.intersection(&before.topics) {
        match remove_topic(core, node, *chat).await {
            Ok(true) => {
                count("topic_removed");
                tracing::info!(%chat, %node, "stale placement of a chat removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %node, error = %problem, "stale placement of a chat not removed; will retry")
            }
        }
    }
}
