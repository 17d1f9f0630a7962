//! Renews the leases of all connected devices in one task, so that an idle session costs no timer, and closes sessions that
//! have lost their device: 4409 ("replaced": don't come back) only if a newer session serves the device, otherwise 4304 (come
//! back).

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Core, connect, spread};
use crate::{
    hub::SessionHandle,
    protocol::{CloseCode, DeviceEvent},
    store::{Renewed, Result},
};

/// Pause before a failed renewal is retried, as a part of the renewal interval.
const AGAIN: f64 = 0.125;

pub(super) async fn run(core: Arc<Core>) {
    let every = core.timing.lease_renewal;
    rounds(every, || core.hub.sessions(), |session| renew(&core, session)).await;
}

/// Goes round all items, again and again. A round starts on time, even while items of the previous one are pending: otherwise
/// a silent store would cost the others their leases. Few rounds overlap, because a renewal takes no longer than the store's
/// deadline and one interval.
async fn rounds<T, F: Future<Output = ()>>(
    every: Duration,
    all: impl Fn() -> Vec<T>,
    renew: impl Fn(T) -> F,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => under_way.push(spread(all(), every.mul_f64(0.75), usize::MAX, &renew)),
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

/// Renews one session's lease, or closes the session if it has lost its device. If the store doesn't answer, retries until the
/// next round.
pub async fn renew(core: &Core, session: SessionHandle) {
    let (begun, every) = (Instant::now(), core.timing.lease_renewal);
    let again = every.mul_f64(AGAIN);
    let ended = || session.mailbox.close_signal.code().is_some();
    let mut held = holds(core, &session).await;
    while held.is_err() && !session.lease.expired() && !ended() && begun.elapsed() + again < every {
        sleep(again).await;
        held = holds(core, &session).await;
    }
    // While the lease lasts, there is time for a retry.
    if !session.lease.expired() || ended() {
        return;
    }
    match held {
        Ok(true) => return,
        Ok(false) => tracing::info!(
            device = %session.device, session = session.session,
            "lease expired and a newer session was opened: closing the socket"
        ),
        Err(error) => {
            tracing::warn!(device = %session.device, %error, "lease expired: closing the socket");
        }
    }
    session.mailbox.close_signal.close(CloseCode::BackendUnavailable);
}

/// Returns whether the session still has its device, and renews the lease. A session that has lost it is closed.
///
/// # Errors
/// When the store fails: then it is unknown.
pub async fn holds(core: &Core, session: &SessionHandle) -> Result<bool> {
    let SessionHandle { user, device, session: number, .. } = session;
    let asked = Instant::now();
    let renewed =
        core.store.renew_session(user, *device, *number, &core.edge.name, core.timing.lease).await?;
    Ok(heed(core, session, renewed, asked).await)
}

/// Records that the session serves its device from now on. False: it has lost it already.
///
/// # Errors
/// When the store fails: then it is unknown.
pub(super) async fn confirm(core: &Core, session: &SessionHandle) -> Result<bool> {
    let SessionHandle { user, device, session: number, .. } = session;
    let asked = Instant::now();
    let renewed =
        core.store.confirm_session(user, *device, *number, &core.edge.name, core.timing.lease).await?;
    Ok(heed(core, session, renewed, asked).await)
}

async fn heed(core: &Core, session: &SessionHandle, renewed: Renewed, asked: Instant) -> bool {
    match renewed {
        Renewed::Held | Renewed::Revived => {
            // From the time of the request: the store's lease began no earlier.
            session.lease.renewed(asked, core.timing.lease);
            if renewed == Renewed::Revived {
                // Whoever released it has reported the device as offline.
                tracing::info!(device = %session.device, "lease was released by another edge: acquired again");
                connect::publish_event(core, &session.user, session.device, DeviceEvent::Online).await;
            }
            return true;
        }
        // The newer session may still confirm, or never: the next renewal asks again, while this lease lasts.
        Renewed::Unconfirmed => {}
        Renewed::Replaced => session.mailbox.close_signal.close(CloseCode::Replaced),
        Renewed::Terminated => session.mailbox.close_signal.close(CloseCode::Terminated),
    }
    false
}

#[cfg(test)]
#[path = "../../tests/unit/sync/leases.rs"]
mod tests;
