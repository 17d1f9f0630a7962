//! Devices and sessions.

use std::time::Duration;

use tokio::time::Instant;

use super::{EmbeddedStore, Row, State, edges::Edge, millis};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState, Lease},
        id::{DeviceId, UserId},
    },
    store::{
        ExpiredSession, NewDevice, Opened, Owner, Read, Registered, RegisteredSession, Renewed, Result,
        StoreError,
        bounds::{AT_ONCE, SET_BACK},
    },
};

impl EmbeddedStore {
    /// See [`crate::store::Store::register_device`].
    pub async fn register_device(&self, new: &NewDevice) -> Result<Registered> {
        let (mut state, now) = (self.state(), self.now());
        state.tidy();
        if let Some(owner) = state.owners.get(&new.id)
            && (owner.user != new.user || owner.terminated.is_some())
        {
            return Ok(Registered::Conflict);
        }
        let user = state.user(&new.user);
        if let Some(row) = user.devices.get(&new.id) {
            return Ok(if row.device.kind == new.kind {
                Registered::Existing(row.seen(now))
            } else {
                Registered::Conflict
            });
        }
        let living = || user.devices.values().filter(|row| row.device.state != DeviceState::Terminating);
        match new.kind {
            DeviceKind::Main => {
                if let Some(main) = living().find(|row| row.device.kind == DeviceKind::Main) {
                    return Ok(Registered::MainExists(main.device.id));
                }
            }
            DeviceKind::Sub => {
                let subs = living().filter(|row| row.device.kind == DeviceKind::Sub).count();
                if subs >= self.limits().subs_per_user as usize {
                    return Ok(Registered::LimitReached);
                }
            }
        }
        user.generations = 2.max(user.generations + 1);
        let device = Device {
            id: new.id,
            user: new.user.clone(),
            kind: new.kind,
            name: new.name.clone(),
            platform: new.platform.clone(),
            created: new.created,
            last_seen: new.created,
            state: DeviceState::Registering,
            generation: user.generations,
            session: 0,
            lease: None,
            unrenewed: false,
            expires: None,
            history: new.history,
        };
        let (until, there, begun, due) = (0, 0, 0, 0);
        let row = Row { device: device.clone(), until, there, begun, warned: Some(Instant::now()), due };
        user.devices.insert(new.id, row);
        state.owners.insert(new.id, Owner { user: new.user.clone(), terminated: None });
        Ok(Registered::Created(device))
    }

    /// See [`crate::store::Store::activate_device`].
    pub async fn activate_device(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        let mut state = self.state();
        let Some(row) = state.row(user, device) else { return Ok(false) };
        if row.device.state == DeviceState::Registering {
            row.device.state = DeviceState::Active;
        }
        Ok(row.device.state == DeviceState::Active)
    }

    /// See [`crate::store::Store::device`].
    pub async fn device(&self, user: &UserId, device: DeviceId) -> Result<Option<Device>> {
        Ok(self.device_at(user, device).await?.map(|(device, _)| device))
    }

    /// See [`crate::store::Store::device_at`].
    pub async fn device_at(&self, user: &UserId, device: DeviceId) -> Result<Option<(Device, Millis)>> {
        let now = self.now();
        Ok(self.state().row(user, device).map(|row| (row.seen(now), now)))
    }

    /// See [`crate::store::Store::devices`].
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        let (state, now) = (self.state(), self.now());
        let rows = state.users.get(user).into_iter().flat_map(|user| user.devices.values());
        let mut devices: Vec<_> = rows.map(|row| row.seen(now)).collect();
        devices.sort_by_key(|device| (device.created, device.id));
        Ok(devices)
    }

    /// See [`crate::store::Store::owner`].
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        let mut state = self.state();
        state.tidy();
        Ok(state.owners.get(&device).cloned())
    }

    /// See [`crate::store::Store::open_session`].
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        after: Read,
        edge: &str,
        ttl: Duration,
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
        let previous = row.device.lease.replace(Lease { edge: edge.to_owned(), session });
        row.until = now.saturating_add(millis(ttl));
        row.device.last_seen = now;
        (row.device.expires, row.warned) = (None, None);
        let device_now = row.seen(now);
        let noted = RegisteredSession { user: user.clone(), device, session };
        state.edges.entry(edge.to_owned()).or_insert_with(|| Edge::new(now)).sessions.insert(noted);
        Ok(Opened::Session { session, previous, device: Box::new(device_now) })
    }

    /// See [`crate::store::Store::confirm_session`].
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        let renewed = self.renew_session(user, device, session, edge, ttl).await?;
        if let Some(row) = self.state().row(user, device).filter(|row| row.device.session == session) {
            row.there = session;
        }
        Ok(renewed)
    }

    /// See [`crate::store::Store::renew_session`].
    pub async fn renew_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        let (mut state, now) = (self.state(), self.now());
        let terminated = state.terminated(user, device);
        let Some(row) = state.row(user, device) else {
            return if terminated { Ok(Renewed::Terminated) } else { Err(gone(device)) };
        };
        if row.device.state == DeviceState::Terminating {
            return Ok(Renewed::Terminated);
        }
        let newest = row.device.session;
        if newest < session {
            return Err(gone(device));
        }
        if newest > session {
            let replaced = row.there == newest && row.device.lease.is_some() && row.until > now;
            return Ok(if replaced { Renewed::Replaced } else { Renewed::Unconfirmed });
        }
        let lease = Lease { edge: edge.to_owned(), session };
        let expired = row.device.lease.replace(lease).is_none();
        if expired {
            (row.device.expires, row.warned) = (None, None);
        }
        row.until = now.saturating_add(millis(ttl));
        row.device.last_seen = now;
        if expired {
            let noted = RegisteredSession { user: user.clone(), device, session };
            let edge = state.edges.entry(edge.to_owned()).or_insert_with(|| Edge::new(now));
            edge.sessions.insert(noted);
            return Ok(Renewed::Revived);
        }
        Ok(Renewed::Held)
    }

    /// See [`crate::store::Store::close_session`].
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
    ) -> Result<bool> {
        let (mut state, now) = (self.state(), self.now());
        if let Some(edge) = state.edges.get_mut(edge) {
            edge.sessions.remove(&RegisteredSession { user: user.clone(), device, session });
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
        let expired =
            state.row(&session.user, session.device).map(|row| row.expire(session.session, edge, now));
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
    fn forget(&mut self, edge: &str, session: &RegisteredSession, now: Millis, silence: Duration) {
        if let Some(edge) = self.edges.get_mut(edge).filter(|edge| !edge.is_heard(now, silence)) {
            edge.sessions.remove(session);
        }
    }
}

fn gone(device: DeviceId) -> StoreError {
    StoreError::Corrupt(format!("device {device} or this session of it is gone without a trace"))
}

impl Row {
    /// Returns the device as others see it.
    pub(super) fn seen(&self, now: Millis) -> Device {
        let mut device = self.device.clone();
        let runs = now < self.until && device.last_seen <= now.saturating_add(SET_BACK);
        device.unrenewed = device.lease.is_some() && !runs;
        device.lease = device.lease.filter(|_| runs);
        device.last_seen = if device.lease.is_some() { now } else { device.last_seen.min(now) };
        device
    }

    // Releases the lease of a session if it has run out.
    fn expire(&mut self, session: u64, edge: &str, now: Millis) -> ExpiredSession {
        let device = &mut self.device;
        if device.lease.is_none() && device.session == session + 1 {
            // Its own edge released it, and perhaps couldn't notify anyone.
            return ExpiredSession::Now(device.last_seen);
        }
        if device.session < session || (device.session == session && device.lease.is_none()) {
            return ExpiredSession::Coming;
        }
        if device.session != session || device.lease.as_ref().is_none_or(|lease| lease.edge != edge) {
            return ExpiredSession::Before;
        }
        if device.last_seen > now {
            // The clock was set back since: the lease lasts from now on as long as it was granted for.
            self.until = now.saturating_add(self.until.saturating_sub(device.last_seen));
            device.last_seen = now;
            return ExpiredSession::Held;
        }
        if self.until > now {
            return ExpiredSession::Held;
        }
        device.lease = None;
        ExpiredSession::Now(device.last_seen)
    }
}
