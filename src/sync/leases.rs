//! Holding on to the devices that are connected here. One task renews all leases of the edge, so that an idle session
//! costs no timer; a session that has lost its device is ended here.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Core, paced};
use crate::{hub::SessionHandle, protocol::CloseCode, store::Renewed};

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
    // The clock counts from when the renewal was asked for: the store's lease began no earlier than that.
    let asked = Instant::now();
    match core.store.renew_session(&session.user, session.device, session.session, core.timing.lease).await {
        Ok(Renewed::Held) => session.lease.renewed(asked, core.timing.lease),
        // It ran out before (this edge was frozen), and was taken away.
        Ok(Renewed::Replaced) if session.lease.expired() => {
            session.mailbox.doom.seal(CloseCode::BackendUnavailable);
        }
        Ok(Renewed::Replaced) => session.mailbox.doom.seal(CloseCode::Replaced),
        Ok(Renewed::Terminated) => session.mailbox.doom.seal(CloseCode::Terminated),
        Err(error) if session.lease.expired() => {
            tracing::warn!(device = %session.device, %error, "a lease ran out: closing its socket");
            session.mailbox.doom.seal(CloseCode::BackendUnavailable);
        }
        // There is time for another try.
        Err(_) => {}
    }
}
