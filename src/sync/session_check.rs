//! Checks whether sessions still have their devices, in case the signal that says otherwise was lost: a sweep with a fixed
//! budget, and whatever else has a doubt. A check reads and writes nothing. A session that has lost its device is closed:
//! 4409 ("replaced": don't come back) only if a newer session serves the device, otherwise 4304 (come back).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Core, connect, lock, spread};
use crate::{
    domain::id::DeviceId,
    hub::SessionHandle,
    protocol::{CloseCode, DeviceEvent},
    store::{Result, SessionCheck, StoreError},
};

/// How many sessions the sweep checks a second, one command each. A round over fewer takes `lease_renewal`.
const BUDGET: f64 = 100.0;
/// Sessions that are checked at a time.
const PARALLEL: usize = 64;

/// Sessions that may have lost their device, and since when: a newer number was assigned, and no session is known to serve
/// with it; or the store has no trace of them. Bounded by this edge's sessions.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<(DeviceId, u64), Instant>>);

impl Doubts {
    /// Returns since when there is a doubt.
    fn about(&self, session: &SessionHandle) -> Instant {
        *lock(&self.0).entry((session.device, session.session)).or_insert_with(Instant::now)
    }

    fn none(&self, session: &SessionHandle) {
        lock(&self.0).remove(&(session.device, session.session));
    }

    /// Returns those of all sessions that are in doubt, and forgets all others. Mostly there is no doubt, and nothing is
    /// listed.
    fn among(&self, all: impl FnOnce() -> Vec<SessionHandle>) -> Vec<SessionHandle> {
        let mut doubts = lock(&self.0);
        if doubts.is_empty() {
            return Vec::new();
        }
        let mut sessions = all();
        sessions.retain(|session| doubts.contains_key(&(session.device, session.session)));
        doubts.retain(|id, _| sessions.iter().any(|session| (session.device, session.session) == *id));
        sessions
    }
}

/// The sweep over all sessions.
pub(super) async fn run(core: Arc<Core>) {
    let shortest = core.timing.lease_renewal;
    loop {
        let sessions = core.hub.sessions();
        let takes = round(sessions.len(), shortest);
        let begun = Instant::now();
        spread(sessions, takes, PARALLEL, |session| check(&core, session)).await;
        sleep_until(begun + takes).await;
    }
}

/// Returns how long a round over so many sessions takes.
fn round(sessions: usize, shortest: Duration) -> Duration {
    shortest.max(Duration::from_secs_f64(sessions as f64 / BUDGET))
}

/// Checks the sessions in doubt again, until they are sure of their device, or it is too late.
pub(super) async fn doubts(core: Arc<Core>) {
    let every = core.timing.lease_renewal;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sessions = core.edge.doubts.among(|| core.hub.sessions());
        spread(sessions, every.mul_f64(0.5), PARALLEL, |session| check(&core, session)).await;
    }
}

/// Checks one session, and closes it if it has lost its device. If the store doesn't answer, a later check decides.
pub async fn check(core: &Core, session: SessionHandle) {
    if session.mailbox.close_signal.code().is_some() {
        return;
    }
    if let Err(error) = holds(core, &session).await {
        tracing::debug!(device = %session.device, %error, "a session isn't checked; will retry");
    }
}

/// Returns whether the session still has its device. A session that has lost it is closed.
///
/// # Errors
/// When the store fails: then it is unknown.
pub async fn holds(core: &Core, session: &SessionHandle) -> Result<bool> {
    if session.lease.expired() {
        // Nothing is taken back under an old incarnation.
        return Ok(false);
    }
    let SessionHandle { user, device, session: number, lease, .. } = session;
    let found = core.store.check_session(user, *device, *number, &lease.incarnation).await;
    heed(core, session, found).await
}

/// Records that the session serves its device from now on. False: it has lost it already.
///
/// # Errors
/// When the store fails: then it is unknown.
pub(super) async fn confirm(core: &Core, session: &SessionHandle) -> Result<bool> {
    let SessionHandle { user, device, session: number, lease, .. } = session;
    let found = core.store.confirm_session(user, *device, *number, &lease.incarnation).await;
    heed(core, session, found).await
}

async fn heed(core: &Core, session: &SessionHandle, found: Result<SessionCheck>) -> Result<bool> {
    match found {
        Ok(found @ (SessionCheck::Held | SessionCheck::Revived)) => {
            core.edge.doubts.none(session);
            if found == SessionCheck::Revived {
                // Whoever released it has reported the device as offline.
                tracing::info!(device = %session.device, "device was released by another edge: taken back");
                connect::publish_event(core, &session.user, session.device, DeviceEvent::Online).await;
            }
            return Ok(true);
        }
        // The newer session may still confirm, or never.
        Ok(SessionCheck::Unconfirmed) => doubt(core, session),
        Ok(SessionCheck::Replaced) => session.mailbox.close_signal.close(CloseCode::Replaced),
        Ok(SessionCheck::Terminated) => session.mailbox.close_signal.close(CloseCode::Terminated),
        Err(error) => {
            if matches!(error, StoreError::Corrupt(_)) {
                doubt(core, session);
            }
            return Err(error);
        }
    }
    Ok(false)
}

// A doubt may last for a lease; then the client comes back, and has the newest number.
fn doubt(core: &Core, session: &SessionHandle) {
    if core.edge.doubts.about(session).elapsed() >= core.timing.lease {
        tracing::info!(
            device = %session.device, session = session.session,
            "a newer session was opened, and none serves the device: closing the socket"
        );
        session.mailbox.close_signal.close(CloseCode::BackendUnavailable);
    }
}

#[cfg(test)]
#[path = "../../tests/unit/sync/session_check.rs"]
mod tests;
