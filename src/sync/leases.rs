//! Holding on to the devices that are connected here. One task renews all leases of the edge, so that an idle session
//! costs no timer; a session that has lost its device is ended here.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Core, spread};
use crate::{
    hub::SessionHandle,
    protocol::CloseCode,
    store::{Renewed, Result},
};

pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(core.timing.lease_renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // However many are under way: waiting for others would cost leases when the store is slow.
        let over = core.timing.lease_renewal.mul_f64(0.75);
        spread(core.hub.sessions(), over, usize::MAX, |session| renew(&core, session)).await;
    }
}

/// Renews one session's lease, or ends the session if it has lost its device.
pub async fn renew(core: &Core, session: SessionHandle) {
    // As long as the lease lasts, there is time for another try.
    if let Err(error) = holds(core, &session).await
        && session.lease.expired()
    {
        tracing::warn!(device = %session.device, %error, "a lease ran out: closing its socket");
        session.mailbox.doom.seal(CloseCode::BackendUnavailable);
    }
}

/// Whether the session still has its device; its lease is renewed by that. One that has lost it is ended.
///
/// # Errors
/// When the store fails: then it isn't known.
pub async fn holds(core: &Core, session: &SessionHandle) -> Result<bool> {
    // The clock counts from when the renewal was asked for: the store's lease began no earlier than that.
    let asked = Instant::now();
    let ended = match core
        .store
        .renew_session(&session.user, session.device, session.session, core.timing.lease)
        .await?
    {
        Renewed::Held => {
            session.lease.renewed(asked, core.timing.lease);
            return Ok(true);
        }
        // It ran out before (this edge was frozen), and was taken away.
        Renewed::Replaced if session.lease.expired() => CloseCode::BackendUnavailable,
        Renewed::Replaced => CloseCode::Replaced,
        Renewed::Terminated => CloseCode::Terminated,
    };
    session.mailbox.doom.seal(ended);
    Ok(false)
}
