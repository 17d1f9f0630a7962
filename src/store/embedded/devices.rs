//! Devices and sessions.

use std::time::Duration;

use super::{Edge, EmbeddedStore, Row};
use crate::{
    chance::{store_instant, store_millis},
    domain::{
        device::{Device, DeviceKind, DeviceState, Lease},
        id::{DeviceId, UserId},
    },
    store::{Lapsed, NewDevice, NotedSession, Opened, Owner, Registered, Renewed, Result, StoreError},
};

impl EmbeddedStore {
    /// See [`crate::store::Store::register_device`].
    pub async fn register_device(&self, new: &NewDevice) -> Result<Registered> {
        let mut state = self.state();
        if let Some(owner) = state.owners.get(&new.id)
            && (owner.user != new.user || owner.terminated.is_some())
        {
            return Ok(Registered::Conflict);
        }
        let user = state.user(&new.user);
        if let Some(row) = user.devices.get(&new.id) {
            return Ok(if row.device.kind == new.kind {
                Registered::Existing(row.seen())
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
        let device = Device {
            id: new.id,
            user: new.user.clone(),
            kind: new.kind,
            name: new.name.clone(),
            platform: new.platform.clone(),
            created: new.created,
            last_seen: new.created,
            state: DeviceState::Registering,
            generation: 1,
            lease: None,
            expires: None,
            history: new.history,
        };
        let row = Row { device: device.clone(), session: 0, until: store_instant(), due: 0 };
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
        Ok(self.state().row(user, device).map(|row| row.seen()))
    }

    /// See [`crate::store::Store::devices`].
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        let state = self.state();
        let rows = state.users.get(user).into_iter().flat_map(|user| user.devices.values());
        let mut devices: Vec<_> = rows.map(Row::seen).collect();
        devices.sort_by_key(|device| (device.created, device.id));
        Ok(devices)
    }

    /// See [`crate::store::Store::owner`].
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        Ok(self.state().owners.get(&device).cloned())
    }

    /// See [`crate::store::Store::open_session`].
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        edge: &str,
        ttl: Duration,
    ) -> Result<Opened> {
        let mut state = self.state();
        let terminated = state.terminated(user, device);
        let Some(row) = state.row(user, device) else {
            return Ok(if terminated { Opened::Terminated } else { Opened::Unknown });
        };
        if planted!(NoTombstoneCheck) {
            row.device.generation = generation;
            row.device.state = DeviceState::Active;
        }
        if row.device.state == DeviceState::Terminating || generation < row.device.generation {
            return Ok(Opened::Terminated);
        }
        if row.device.state != DeviceState::Active || generation > row.device.generation {
            return Ok(Opened::Unknown);
        }
        let previous = row.seen().lease;
        row.session += 1;
        row.device.lease = Some(Lease { edge: edge.to_owned(), session: row.session });
        row.until = store_instant() + ttl;
        row.device.last_seen = store_millis();
        row.device.expires = None;
        let (session, device_now) = (row.session, row.seen());
        let noted = NotedSession { user: user.clone(), device, session };
        state.edges.entry(edge.to_owned()).or_insert_with(Edge::new).sessions.insert(noted);
        Ok(Opened::Session { session, previous, device: Box::new(device_now) })
    }

    /// See [`crate::store::Store::renew_session`].
    pub async fn renew_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        ttl: Duration,
    ) -> Result<Renewed> {
        let mut state = self.state();
        let terminated = state.terminated(user, device);
        match state.row(user, device) {
            None if terminated => Ok(Renewed::Terminated),
            None => Err(gone(device)),
            Some(row) if row.device.state == DeviceState::Terminating => Ok(Renewed::Terminated),
            Some(row) if row.session < session => Err(gone(device)),
            Some(row) if row.session == session && row.device.lease.is_some() => {
                row.until = store_instant() + ttl;
                row.device.last_seen = store_millis();
                Ok(Renewed::Held)
            }
            Some(_) => Ok(Renewed::Replaced),
        }
    }

    /// See [`crate::store::Store::close_session`].
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
    ) -> Result<bool> {
        let mut state = self.state();
        if let Some(edge) = state.edges.get_mut(edge) {
            edge.sessions.remove(&NotedSession { user: user.clone(), device, session });
        }
        let Some(row) = state.row(user, device).filter(|row| row.session == session) else {
            return Ok(false);
        };
        if row.device.lease.take().is_none() {
            return Ok(false);
        }
        row.device.last_seen = store_millis();
        Ok(true)
    }

    /// See [`crate::store::Store::noted_sessions`].
    pub async fn noted_sessions(&self, edge: &str) -> Result<Vec<NotedSession>> {
        let state = self.state();
        Ok(state.edges.get(edge).map(|edge| edge.sessions.iter().cloned().collect()).unwrap_or_default())
    }

    /// See [`crate::store::Store::lapse_session`].
    pub async fn lapse_session(&self, edge: &str, session: &NotedSession) -> Result<Lapsed> {
        let mut state = self.state();
        let row = state.row(&session.user, session.device).filter(|row| row.session == session.session);
        let lapsed = match row {
            Some(row) if row.seen().online() => return Ok(Lapsed::Held),
            Some(row) => {
                row.device.lease.take().map_or(Lapsed::Before, |_| Lapsed::Now(row.device.last_seen))
            }
            None => Lapsed::Before,
        };
        if let Some(edge) = state.edges.get_mut(edge) {
            edge.sessions.remove(session);
        }
        Ok(lapsed)
    }
}

fn gone(device: DeviceId) -> StoreError {
    StoreError::Corrupt(format!("device {device} or this session of it is gone without a trace"))
}

impl Row {
    /// The device as others see it now.
    pub(super) fn seen(&self) -> Device {
        let mut device = self.device.clone();
        device.lease = device.lease.filter(|_| store_instant() < self.until);
        if device.lease.is_some() {
            device.last_seen = store_millis();
        }
        device
    }
}
