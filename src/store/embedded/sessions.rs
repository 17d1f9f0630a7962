//! Sessions: which one has a device, and whether it still has it.

use std::time::Duration;

use super::{EmbeddedStore, Row, State, edges::Edge};
use crate::{
    domain::{
        Millis,
        device::{DeviceState, Lease},
        id::{DeviceId, UserId},
    },
    store::{
        ExpiredSession, Incarnation, Opened, Read, RegisteredSession, Result, SessionCheck, StoreError,
        bounds::AT_ONCE,
    },
};

impl EmbeddedStore {
    /// See [`crate::store::Store::open_session`].
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        after: Read,
        by: &Incarnation,
    ) -> Result<Opened> {
        let (mut state, now) = (self.state(), self.now());
        let terminated = state.terminated(user, device);
        let Some(row) = state.row(user, device) else {
            return Ok(if terminated { Opened::Terminated } else { Opened::Unknown });
        };
        if row.device.state == DeviceState::Terminating || generation < row.device.generation {
            return Ok(Opened::Terminated);
        }
        if row.device.state != DeviceState::Active || generation > row.device.generation {
            return Ok(Opened::Unknown);
        }
        if row.begun <= now && after.at.saturating_add(AT_ONCE) < row.begun {
            return Ok(Opened::Late);
        }
        if row.device.session != after.session {
            return Ok(Opened::Changed);
        }
        row.begun = after.at;
        let session = row.device.session + 1;
        row.device.session = session;
        let previous = row.device.lease.replace(Lease { edge: by.edge.clone(), session });
        row.incarnation = by.id();
        row.device.last_seen = now;
        (row.device.expires, row.warned) = (None, None);
        state.register(user, device, session, by, now);
        let Some(device) = state.shown(user, device, now) else { return Ok(Opened::Unknown) };
        Ok(Opened::Session { session, previous, device: Box::new(device) })
    }

    /// See [`crate::store::Store::confirm_session`].
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        let (mut state, now) = (self.state(), self.now());
        let found = state.check(user, device, session, by, now)?;
        if matches!(found, SessionCheck::Held | SessionCheck::Revived)
            && let Some(row) = state.row(user, device)
        {
            (row.there, row.device.last_seen) = (session, now);
        }
        Ok(found)
    }

    /// See [`crate::store::Store::check_session`].
    pub async fn check_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        let (mut state, now) = (self.state(), self.now());
        state.check(user, device, session, by, now)
    }

    /// See [`crate::store::Store::close_session`].
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<bool> {
        let (mut state, now) = (self.state(), self.now());
        if let Some(edge) = state.edges.get_mut(&by.edge) {
            edge.sessions.remove(&registered(user, device, session, by));
        }
        let Some(row) = state.row(user, device).filter(|row| row.device.session == session) else {
            return Ok(false);
        };
        row.device.session += 1;
        if row.device.lease.take().is_none() {
            return Ok(false);
        }
        row.device.last_seen = now;
        Ok(true)
    }

    /// See [`crate::store::Store::registered_sessions`].
    pub async fn registered_sessions(&self, edge: &str) -> Result<Vec<RegisteredSession>> {
        let state = self.state();
        Ok(state.edges.get(edge).map(|edge| edge.sessions.iter().cloned().collect()).unwrap_or_default())
    }

    /// See [`crate::store::Store::expire_session`].
    pub async fn expire_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<ExpiredSession> {
        let (mut state, now) = (self.state(), self.now());
        let last = state.last_heard(edge, &session.incarnation);
        let expired =
            state.row(&session.user, session.device).map(|row| row.expire(edge, session, (last, now)));
        let expired = expired.unwrap_or(ExpiredSession::Before);
        if !matches!(expired, ExpiredSession::Held | ExpiredSession::Coming) {
            state.forget(edge, session, now, silence);
        }
        Ok(expired)
    }

    /// See [`crate::store::Store::forget_session`].
    pub async fn forget_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<()> {
        let now = self.now();
        self.state().forget(edge, session, now, silence);
        Ok(())
    }
}

impl State {
    fn register(&mut self, user: &UserId, device: DeviceId, session: u64, by: &Incarnation, now: Millis) {
        let edge = self.edges.entry(by.edge.clone()).or_insert_with(|| Edge::new(now));
        edge.sessions.insert(registered(user, device, session, by));
    }

    fn check(
        &mut self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
        now: Millis,
    ) -> Result<SessionCheck> {
        let terminated = self.terminated(user, device);
        let Some(row) = self.row(user, device) else {
            return if terminated { Ok(SessionCheck::Terminated) } else { Err(gone(device)) };
        };
        if row.device.state == DeviceState::Terminating {
            return Ok(SessionCheck::Terminated);
        }
        let newest = row.device.session;
        if newest < session {
            return Err(gone(device));
        }
        if newest > session {
            let (is_there, incarnation) = (row.there == newest, row.incarnation.clone());
            let edge = row.device.lease.as_ref().map(|lease| lease.edge.clone());
            let replaced = is_there && edge.is_some_and(|edge| self.lives(&edge, &incarnation));
            return Ok(if replaced { SessionCheck::Replaced } else { SessionCheck::Unconfirmed });
        }
        if row.device.lease.is_some() {
            return Ok(SessionCheck::Held);
        }
        (row.device.expires, row.warned) = (None, None);
        (row.device.lease, row.incarnation) = (Some(Lease { edge: by.edge.clone(), session }), by.id());
        row.device.last_seen = now;
        self.register(user, device, session, by, now);
        Ok(SessionCheck::Revived)
    }

    fn forget(&mut self, edge: &str, session: &RegisteredSession, now: Millis, silence: Duration) {
        if let Some(edge) = self.edges.get_mut(edge).filter(|edge| !edge.is_heard(now, silence)) {
            edge.sessions.remove(session);
        }
    }
}

fn gone(device: DeviceId) -> StoreError {
    StoreError::Corrupt(format!("device {device} or this session of it is gone without a trace"))
}

fn registered(user: &UserId, device: DeviceId, session: u64, by: &Incarnation) -> RegisteredSession {
    RegisteredSession { user: user.clone(), device, session, incarnation: by.id() }
}

impl Row {
    // Releases the device of a session that is over.
    fn expire(
        &mut self,
        edge: &str,
        over: &RegisteredSession,
        (last, now): (Millis, Millis),
    ) -> ExpiredSession {
        let (device, session) = (&mut self.device, over.session);
        if device.lease.is_none() && device.session == session + 1 {
            // Its own edge released it, and perhaps couldn't notify anyone.
            return ExpiredSession::Now(device.last_seen);
        }
        if device.session < session || (device.session == session && device.lease.is_none()) {
            return ExpiredSession::Coming;
        }
        let has_it = device.lease.as_ref().is_some_and(|lease| lease.edge == edge);
        if device.session != session || !has_it || self.incarnation != over.incarnation {
            return ExpiredSession::Before;
        }
        device.lease = None;
        // No device was seen in the future: the clock was set back since.
        device.last_seen = device.last_seen.max(last).min(now);
        ExpiredSession::Now(device.last_seen)
    }
}
