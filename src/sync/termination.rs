//! Terminates a device, so that nothing of it is left anywhere. The order makes it safe:
//!
//! 1. The durable fence. From here on every edge refuses the device, and any edge can finish the rest.
//! 2. All edges are notified; each closes the socket and drops the consumers, then releases the lease (or it expires).
//! 3. Only then the queues are deleted, on every server, both those of its chats and those that the servers show.
//! 4. After more than a second, again, until a pass finds nothing: a consumer that was attaching may have created one again.
//! 5. A server that doesn't answer keeps the termination `pending`; it continues when the server is back.
//! 6. Last, the device's keys are deleted. Its tombstone stays for a while, to report the termination. None of its tokens is ever
//!    valid again, even if the id is used again: each device of a user has a generation of its own.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::instrument::Instrument;

use super::{
    Core, connect,
    signal::{self, Signal},
};
use crate::{
    broker::{Flow, Removal, RemovalScope},
    domain::{
        id::{ChatId, DeviceId, TerminationId, UserId},
        names, now_millis,
        termination::{Receipt, ReceiptLine, Termination, TerminationState},
    },
    metrics::whole,
    protocol::{DeviceEvent, ErrorCode, Problem},
    spans,
    store::Result as Stored,
};

/// A leased termination of a dead edge is taken over after this.
const WORK: Duration = Duration::from_secs(10);
/// Time between two passes: longer than a client needs to attach.
const SECOND_LOOK: Duration = Duration::from_millis(1100);
/// Pause between attempts while a server doesn't answer.
const RETRY: Duration = Duration::from_secs(2);

/// Fences the device (durable when this returns) and finishes in the background.
///
/// # Errors
/// `not_found` when the user has no such device, `unavailable`.
pub async fn begin(
    core: &Arc<Core>,
    user: &UserId,
    device: DeviceId,
    by: &str,
) -> Result<Termination, Problem> {
    let new = Termination {
        id: TerminationId::random(),
        user: user.clone(),
        device,
        by: by.to_owned(),
        state: TerminationState::Accepted,
        accepted_at: now_millis(),
        unreachable: Vec::new(),
        receipt: Receipt::default(),
    };
    let Some(termination) = core.store.begin_termination(&new).await? else {
        return Err(Problem::new(ErrorCode::NotFound, "there is no such device for you"));
    };
    if termination.id == new.id {
        core.metrics.terminations.with_label_values(&["accepted"]).inc();
        connect::publish_event(core, user, device, DeviceEvent::Terminated).await;
    }
    if termination.state != TerminationState::Done {
        signal::publish(core, user, &Signal::Ended(device)).await;
        spawn(core, termination.id, false);
    }
    Ok(termination)
}

/// Resumes terminations that other edges, or this one before a restart, left unfinished.
pub(super) async fn resume(core: Arc<Core>) {
    let mut ticks = interval(Duration::from_secs(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match core.store.unfinished_terminations().await {
            Ok(unfinished) => {
                core.metrics.terminations_unfinished.set(whole(unfinished.len()));
                unfinished.into_iter().for_each(|id| spawn(&core, id, true));
            }
            Err(error) => tracing::debug!(%error, "unfinished terminations not read; will retry"),
        }
    }
}

fn spawn(core: &Arc<Core>, id: TerminationId, resumed: bool) {
    let (core, drain) = (core.clone(), core.drain.clone());
    let run = async move {
        let work = format!("termination.{}", id.hex());
        let holder = format!("{}.{}", core.edge.name, crate::rng::uuid().simple());
        match core.store.try_acquire_lease(&work, &holder, WORK).await {
            Ok(true) if resumed => {
                core.metrics.reconciler_actions.with_label_values(&["termination_resumed"]).inc();
            }
            Ok(true) => {}
            // Another edge, or another task of this one, does it.
            Ok(false) => return,
            Err(error) => return tracing::debug!(%id, %error, "a termination waits for the store"),
        }
        if let Err(error) = finish(&core, id).await {
            tracing::warn!(%id, %error, "termination was interrupted: resuming");
        }
        // If this fails, it expires.
        let _ = core.store.release_lease(&work, &holder).await;
    };
    drain.spawn_background(run.instrument(spans::termination(id)));
}

/// One attempt: at most [`WORK`] long, then any edge may take it.
async fn finish(core: &Core, id: TerminationId) -> Stored<()> {
    let until = Instant::now() + WORK;
    let Some(mut termination) = core.store.termination(id).await? else { return Ok(()) };
    if termination.state == TerminationState::Done {
        // A late write put it back on the list. Saving it again removes it.
        return core.store.save_termination(&termination).await;
    }
    // A crash may have come between the record and the fence: begin again, which is idempotent.
    if core.store.begin_termination(&termination).await?.is_some_and(|stands| stands.id != id) {
        // Another termination has the device, and this one is dropped.
        return Ok(());
    }
    let (user, device) = (termination.user.clone(), termination.device);
    spans::terminated_device_is(device);
    signal::publish(core, &user, &Signal::Ended(device)).await;
    while core.store.device(&user, device).await?.is_some_and(|device| device.online()) {
        if Instant::now() > until {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // Whether all servers were checked, more than a second before. One more pass always follows such a check, however long it took:
    // otherwise a termination with slow passes would never see one that finds nothing.
    let (mut looked, mut one_more) = (false, true);
    while Instant::now() + SECOND_LOOK < until || (looked && std::mem::take(&mut one_more)) {
        let chats = core.store.chats_of(&user).await?;
        let look = core
            .broker
            .remove_queues(&Flow::of("devices", &user), device, &chats, RemovalScope::WholeDevice)
            .await;
        note(&mut termination, &look);
        let whole = look.unreachable.is_empty();
        // A removed queue may have been created again by a consumer that does so once more: the last pass finds nothing.
        if whole && looked && look.removed.is_empty() {
            let (left, silent) = core.broker.queues_of(device).await;
            termination.receipt.remaining = left.len() as u64;
            if left.is_empty() && silent.is_empty() {
                return done(core, termination, &chats).await;
            }
            termination.unreachable = silent;
        }
        looked = whole;
        let pending = !termination.unreachable.is_empty();
        if pending {
            if termination.state != TerminationState::Pending {
                core.metrics.terminations.with_label_values(&["pending"]).inc();
            }
            termination.state = TerminationState::Pending;
        }
        // Deleted queues are recorded before the wait: people watch it, and if this edge dies now, the next one finds no queue to
        // report.
        core.store.save_termination(&termination).await?;
        tokio::time::sleep(if pending { RETRY } else { SECOND_LOOK }).await;
    }
    Ok(())
}

async fn done(core: &Core, mut termination: Termination, chats: &[ChatId]) -> Stored<()> {
    core.store.forget_device(&termination.user, termination.device, chats).await?;
    termination.state = TerminationState::Done;
    termination.receipt.verified_at = Some(now_millis());
    core.store.save_termination(&termination).await?;
    core.metrics.terminations.with_label_values(&["done"]).inc();
    tracing::info!(
        device = %termination.device,
        channels = termination.receipt.channels.len(),
        "device terminated: nothing of it is left"
    );
    Ok(())
}

fn note(termination: &mut Termination, removal: &Removal) {
    termination.unreachable.clone_from(&removal.unreachable);
    for queue in &removal.removed {
        termination.receipt.channels.push(ReceiptLine {
            node: queue.node.clone(),
            topic: names::topic(queue.chat),
            channel: names::channel(queue.device),
            depth: queue.depth + queue.in_flight,
        });
    }
}
