//! Role: which session serves a device. A session holds a lease with a session number that only rises, so a newer
//! session fences older ones. Each session is registered with its edge, so that other edges can find and expire the
//! sessions of a dead edge.

use std::time::Duration;

use super::{ExpiredSession, Opened, Read, RegisteredSession, Renewed, Result, Store};
use crate::domain::id::{DeviceId, UserId};

impl Store {
    /// Registers the session with its edge, then gives `edge` the lease of an active device whose generation is
    /// `generation`, for `ttl` from now. In this order the lease can be found whatever becomes of the call. Changes
    /// nothing if another session was opened since the caller read the newest one (`after`), so a late or repeated call
    /// takes the device from nobody.
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        after: Read,
        edge: &str,
        ttl: Duration,
    ) -> Result<Opened> {
        each!(self.open_session(user, device, generation, after, edge, ttl))
    }

    /// Confirms that a session serves its device from now on, and holds the lease for `ttl`. Only a confirmed session
    /// replaces older ones.
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        each!(self.confirm_session(user, device, session, edge, ttl))
    }

    /// Renews the device's lease for `ttl` from now if `session` is the newest, and moves `last_seen`. If the lease was
    /// released meanwhile, acquires the lease again and registers the session with its edge again.
    pub async fn renew_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        each!(self.renew_session(user, device, session, edge, ttl))
    }

    /// Releases the lease and uses up the session number if `session` is the newest; otherwise changes nothing. Returns
    /// true if there was a lease. Also works while the device is terminating.
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
    ) -> Result<bool> {
        each!(self.close_session(user, device, session, edge))
    }

    /// Returns the sessions that were opened for an edge and not closed, or that are about to be opened.
    pub async fn registered_sessions(&self, edge: &str) -> Result<Vec<RegisteredSession>> {
        each!(self.registered_sessions(edge))
    }

    /// Releases the lease of an edge's session if the lease has run out, once. Deletes the session's registration when
    /// the session is over, unless the edge sent a heartbeat within `silence`: that edge may have acquired the lease
    /// again. Keeps the registration of a session that may still get a lease ([`ExpiredSession::Coming`]); the caller
    /// deletes it when the session can't get one any more.
    pub async fn expire_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<ExpiredSession> {
        each!(self.expire_session(edge, session, silence))
    }

    /// Deletes the registration of a session that can't get a lease any more. No-op if the edge sent a heartbeat within
    /// `silence`.
    pub async fn forget_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<()> {
        each!(self.forget_session(edge, session, silence))
    }
}
