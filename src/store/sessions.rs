//! Role: which session serves a device. The device's record names the session's number, which only rises, so a newer
//! session fences older ones, and the incarnation of its edge: the session has its device while that incarnation lives
//! ([`Store::edge_alive`]), so nothing is renewed for a session that is idle. Each session is registered with its edge,
//! so that other edges can find and expire the sessions of a dead edge.

use std::time::Duration;

use super::{ExpiredSession, Incarnation, Opened, Read, RegisteredSession, Result, SessionCheck, Store};
use crate::domain::id::{DeviceId, UserId};

impl Store {
    /// Registers the session with its edge, then gives the incarnation `by` an active device whose generation is
    /// `generation`. In this order the session can be found whatever becomes of the call. Changes nothing if another
    /// session was opened since the caller read the newest one (`after`), so a late or repeated call takes the device
    /// from nobody.
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        after: Read,
        by: &Incarnation,
    ) -> Result<Opened> {
        each!(self.open_session(user, device, generation, after, by))
    }

    /// Confirms that a session serves its device from now on. Only a confirmed session replaces older ones.
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        each!(self.confirm_session(user, device, session, by))
    }

    /// Checks whether a session still has its device. This reads, and writes only if the device was released meanwhile
    /// and `session` is the newest: then the session takes the device back, and is registered with its edge again.
    pub async fn check_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        each!(self.check_session(user, device, session, by))
    }

    /// Releases the device and uses up the session number if `session` is the newest; otherwise changes nothing. Returns
    /// true if the session had the device. Also works while the device is terminating.
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<bool> {
        each!(self.close_session(user, device, session, by))
    }

    /// Returns the sessions that were opened for an edge and not closed, or that are about to be opened.
    pub async fn registered_sessions(&self, edge: &str) -> Result<Vec<RegisteredSession>> {
        each!(self.registered_sessions(edge))
    }

    /// Releases the device of an edge's session, once. The caller knows that the session is over: its incarnation is
    /// dead, or its own edge no longer has it. (The lease that an older build gave a session must have run out.) The
    /// device was last seen when the incarnation was last heard of. Deletes the session's registration when the session
    /// is over, unless the edge sent a heartbeat within `silence`: that edge may have taken the device back. Keeps the
    /// registration of a session that may still get a device ([`ExpiredSession::Coming`]); the caller deletes it when
    /// the session can't get one any more.
    pub async fn expire_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<ExpiredSession> {
        each!(self.expire_session(edge, session, silence))
    }

    /// Deletes the registration of a session that can't get a device any more. No-op if the edge sent a heartbeat within
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
