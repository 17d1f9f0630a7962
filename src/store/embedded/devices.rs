//! Devices.

use tokio::time::Instant;

use super::{EmbeddedStore, Row, State};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState},
        id::{DeviceId, UserId},
    },
    store::{NewDevice, Owner, Registered, Result},
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
        if let Some(is) = state.shown(&new.user, new.id, now) {
            let same = is.kind == new.kind;
            return Ok(if same { Registered::Existing(is) } else { Registered::Conflict });
        }
        let user = state.user(&new.user);
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
        let (incarnation, warned) = (String::new(), Some(Instant::now()));
        let row = Row { device: device.clone(), incarnation, there: 0, begun: 0, warned, due: 0 };
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
        Ok(self.state().shown(user, device, now).map(|device| (device, now)))
    }

    /// See [`crate::store::Store::devices`].
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        let (state, now) = (self.state(), self.now());
        let rows = state.users.get(user).into_iter().flat_map(|user| user.devices.values());
        let mut devices: Vec<_> = rows.map(|row| state.seen(row, now)).collect();
        devices.sort_by_key(|device| (device.created, device.id));
        Ok(devices)
    }

    /// See [`crate::store::Store::owner`].
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        let mut state = self.state();
        state.tidy();
        Ok(state.owners.get(&device).cloned())
    }
}

impl State {
    /// Returns a device as others see it.
    pub(super) fn shown(&self, user: &UserId, device: DeviceId, now: Millis) -> Option<Device> {
        let row = self.users.get(user)?.devices.get(&device)?;
        Some(self.seen(row, now))
    }

    fn seen(&self, row: &Row, now: Millis) -> Device {
        let mut device = row.device.clone();
        let Some(lease) = device.lease.take() else {
            device.last_seen = device.last_seen.min(now);
            return device;
        };
        if self.lives(&lease.edge, &row.incarnation) {
            (device.lease, device.last_seen) = (Some(lease), now);
        } else {
            let heard = self.last_heard(&lease.edge, &row.incarnation);
            (device.unrenewed, device.last_seen) = (true, device.last_seen.max(heard).min(now));
        }
        device
    }
}
