//! Holding on to the devices that are connected here. One task renews all leases of the edge, so that an idle session
//! costs no timer; a session that has lost its device is ended here. 4409 ("replaced": the client shall stay away) only where a
//! newer session really serves the device; in every other case 4304 (come back).

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Core, connect, spread};
use crate::{
    hub::SessionHandle,
    protocol::{CloseCode, DeviceEvent},
    store::{Renewed, Result},
};

/// After which part of the time between two renewals one that failed is tried again: the store may be back by then.
const AGAIN: f64 = 0.125;

pub(super) async fn run(core: Arc<Core>) {
    let every = core.timing.lease_renewal;
    rounds(every, || core.hub.sessions(), |session| renew(&core, session)).await;
}

/// Goes round all items, again and again. A round begins when it is time, also while items of the one before are under way:
/// those that the store doesn't answer would cost the others their leases. There are few rounds at a time, because a renewal
/// takes no longer than the store's deadline and the time between two.
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

/// Renews one session's lease, or ends the session if it has lost its device. A store that gives no answer is asked again, until
/// the next round does that.
pub async fn renew(core: &Core, session: SessionHandle) {
    let (begun, every) = (Instant::now(), core.timing.lease_renewal);
    let again = every.mul_f64(AGAIN);
    let ended = || session.mailbox.close_signal.code().is_some();
    let mut held = holds(core, &session).await;
    while held.is_err() && !session.lease.expired() && !ended() && begun.elapsed() + again < every {
        sleep(again).await;
        held = holds(core, &session).await;
    }
    // As long as the lease lasts, there is time for another try.
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

/// Whether the session still has its device; its lease is renewed by that. One that has lost it is ended.
///
/// # Errors
/// When the store fails: then it isn't known.
pub async fn holds(core: &Core, session: &SessionHandle) -> Result<bool> {
    let SessionHandle { user, device, session: number, .. } = session;
    let asked = Instant::now();
    let renewed = core.store.renew_session(user, *device, *number, &core.edge, core.timing.lease).await?;
    Ok(heed(core, session, renewed, asked).await)
}

/// Says that the session serves its device from now on. False: it has lost it already.
///
/// # Errors
/// When the store fails: then it isn't known.
pub(super) async fn confirm(core: &Core, session: &SessionHandle) -> Result<bool> {
    let SessionHandle { user, device, session: number, .. } = session;
    let asked = Instant::now();
    let renewed = core.store.confirm_session(user, *device, *number, &core.edge, core.timing.lease).await?;
    Ok(heed(core, session, renewed, asked).await)
}

async fn heed(core: &Core, session: &SessionHandle, renewed: Renewed, asked: Instant) -> bool {
    match renewed {
        Renewed::Held | Renewed::Revived => {
            // From when it was asked for: the store's lease began no earlier than that.
            session.lease.renewed(asked, core.timing.lease);
            if renewed == Renewed::Revived {
                // Whoever gave it back has told the others that the device went.
                tracing::info!(device = %session.device, "lease was released by another edge: acquired again");
                connect::told(core, &session.user, session.device, DeviceEvent::Online).await;
            }
            return true;
        }
        // Whoever opened it may still come, or never: the next renewal asks again, as long as this lease lasts.
        Renewed::Unconfirmed => {}
        Renewed::Replaced => session.mailbox.close_signal.close(CloseCode::Replaced),
        Renewed::Terminated => session.mailbox.close_signal.close(CloseCode::Terminated),
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn whoever_gets_no_answer_holds_up_no_other() {
        let (times, asked) = (Mutex::new([0; 3]), tokio::sync::Notify::new());
        let renew = async |n: usize| {
            times.lock().unwrap()[n] += 1;
            asked.notify_one();
            if n == 1 {
                std::future::pending::<()>().await;
            }
        };
        let others_go_on = async {
            while times.lock().unwrap()[0] < 3 || times.lock().unwrap()[2] < 3 {
                asked.notified().await;
            }
        };
        tokio::select! {
            () = rounds(Duration::from_millis(20), || vec![0, 1, 2], renew) => {}
            gone_on = timeout(Duration::from_secs(20), others_go_on) => gone_on.expect("the others are renewed"),
        }
    }
}
