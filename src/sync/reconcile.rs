//! Compares the queues that exist with those that should, and repairs the drift. NSQ saves its lists of channels late, remembers
//! deleted ones in nsqlookupd, and has no subscribe-if-exists; an edge may die between any two steps of a leave.
//!
//! A round goes over all chats at the rate of the sweep (`budget`), in slices of some seconds:
//!
//! 1. Read what exists, on every server that answers (`listing`).
//! 2. Look again at the drift that the slice before has found, and repair what both have found, each item after a last check, in
//!    turn with joins and leaves: orphan queues, missing queues, and unsubscribed devices of members whose adding edge died.
//! 3. Read what should exist, of the next chats of the round: the live devices of the members of each (`diff`). In this order,
//!    because a membership is written before its queues are created: an unwanted queue that existed before is an orphan.
//! 4. Relocate chats whose node is away for good (`placement`). Trim logs that have something to trim (`trim`).
//!
//! Topics of deleted chats, queues that only nsqlookupd remembers, and ids of chats that were never created are handled alike.
//!
//! Events don't wait for the round. A server that was restarted, or answers again, has its chats compared at once, and no others:
//! those that it shows, and those that it showed before. So have chats that it shows no more. Only if such a server has lost chats,
//! or one is away for good whose chats nobody knows, all chats are looked at urgently.
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

use super::Core;
use crate::{broker::Restarts, spans};

mod diff;
mod listing;
mod mending;
mod repair;
mod round;
mod slices;

pub(super) use diff::{Speed, diff_all, shown_by_none};
pub(super) use repair::{remove, restore, take_away};
use slices::Reconciler;

/// The name of this leased work.
const WORK: &str = "reconcile";
/// Another edge takes it over from a dead one after this …
const LEASE: Duration = Duration::from_secs(6);
/// … because a live one renews this often.
const RENEWAL: Duration = Duration::from_secs(2);
/// After an event: the time between the two comparisons that a repair takes.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// The pause between the pages of a comparison that an admin asks for: it is urgent, and may be noticed.
pub(super) const BRISK: Duration = Duration::from_millis(2);
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
    let mut ticks = interval(Reconciler::period(core));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut restarts, mut work) = (Restarts::new(), None::<Reconciler<'_>>);
    loop {
        let pause = work.as_ref().and_then(Reconciler::pause);
        let mut is_time = false;
        tokio::select! {
            biased;
            found = core.broker.restarted(&restarts) => {
                let nodes = changed(&mut restarts, found);
                work.iter_mut().for_each(|work| work.on_restart(&nodes));
            }
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            _ = ticks.tick(), if pause.is_none() => is_time = true,
            // Not only at the next tick.
            () = tokio::time::sleep(RENEWAL), if work.is_none() => {}
        }
        if !chosen.load(Ordering::Relaxed) {
            // Another edge does it.
            work = None;
            continue;
        }
        if work.is_none() {
            work = Some(Reconciler::take_over(core).await);
        }
        let Some(work) = &mut work else { continue };
        if is_time {
            work.begin_round();
        }
        let slice = async {
            let listed = work.look_and_mend().await;
            tokio::select! {
                biased;
                slice = work.go_on(&listed) => {
                    work.end_slice(slice).await;
                    None
                }
                // Observations of that server are outdated: this slice comes again.
                found = core.broker.restarted(&restarts) => Some(found),
            }
        };
        if let Some(found) = slice.instrument(spans::round(WORK)).await {
            work.on_restart(&changed(&mut restarts, found));
        }
    }
}

/// Takes the new counts; returns the servers that were restarted since.
fn changed(known: &mut Restarts, found: Restarts) -> Vec<String> {
    let nodes = found.iter().filter(|(node, count)| known.get(*node) != Some(count));
    let nodes = nodes.map(|(node, _)| node.clone()).collect();
    *known = found;
    nodes
}
