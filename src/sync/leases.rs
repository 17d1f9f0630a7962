//! Holding on to the devices that are connected here. One task renews all leases of the edge, so that an idle session
//! costs no timer; a session that has lost its device is ended here. 4409 ("replaced": the client shall stay away) only where a
//! newer session really serves the device; in every other case 4304 (come back).

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Core, connect, paced};
use crate::{
    hub::SessionHandle,
    protocol::{CloseCode, DeviceEvent},
    store::{Renewed, Result},
};

pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(core.timing.lease_renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        paced(core.hub.sessions(), core.timing.lease_renewal, |session| renew(&core, session)).await;
    }
}

/// Renews one session's lease, or ends the session if it has lost its device.
pub async fn renew(core: &Core, session: SessionHandle) {
    let held = holds(core, &session).await;
    // As long as the lease lasts, there is time for another try.
    if !session.lease.expired() || session.mailbox.doom.code().is_some() {
        return;
    }
    match held {
        Ok(true) => return,
        Ok(false) => tracing::info!(
            device = %session.device, session = session.session,
            "a lease ran out, and a newer session was opened that isn't there: closing the socket"
        ),
        Err(error) => {
            tracing::warn!(device = %session.device, %error, "a lease ran out: closing its socket");
        }
    }
    session.mailbox.doom.seal(CloseCode::BackendUnavailable);
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
            let asked = if planted!(LeaseFromAnswer) { Instant::now() } else { asked };
            session.lease.renewed(asked, core.timing.lease);
            if renewed == Renewed::Revived {
                // Whoever gave it back has told the others that the device went.
                tracing::info!(device = %session.device, "a lease that somebody gave back is taken again");
                connect::told(core, &session.user, session.device, DeviceEvent::Online).await;
            }
            return true;
        }
        // Whoever opened it may still come, or never: the next renewal asks again, as long as this lease lasts.
        Renewed::Unconfirmed => {}
        Renewed::Replaced => session.mailbox.doom.seal(CloseCode::Replaced),
        Renewed::Terminated => session.mailbox.doom.seal(CloseCode::Terminated),
    }
    false
}
