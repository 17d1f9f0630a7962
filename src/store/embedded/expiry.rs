//! Expiry of devices that are offline for long.

use std::time::Duration;

use tokio::time::Instant;

use super::EmbeddedStore;
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceState},
        id::{DeviceId, UserId},
    },
    store::Result,
};

impl EmbeddedStore {
    /// See [`crate::store::Store::due_devices`].
    pub async fn due_devices(&self, count: usize) -> Result<(Millis, Vec<(UserId, DeviceId)>)> {
        let (state, now) = (self.state(), self.now());
        let rows = state
            .users
            .iter()
            .flat_map(|(user, rows)| rows.devices.iter().map(move |(id, row)| (row.due, user, *id)));
        let mut due: Vec<_> = rows.filter(|(due, ..)| *due <= now).collect();
        due.sort_unstable_by_key(|(due, ..)| *due);
        Ok((now, due.into_iter().take(count).map(|(_, user, device)| (user.clone(), device)).collect()))
    }

    /// See [`crate::store::Store::put_off`].
    pub async fn put_off(&self, user: &UserId, device: DeviceId, until: Option<Millis>) -> Result<()> {
        if let Some(row) = self.state().row(user, device) {
            row.due = until.unwrap_or(Millis::MAX);
        }
        Ok(())
    }

    /// See [`crate::store::Store::warn_device`].
    pub async fn warn_device(&self, device: &Device, at: Millis) -> Result<bool> {
        let (mut state, now) = (self.state(), self.now());
        let Some(is) = state.shown(&device.user, device.id, now) else { return Ok(false) };
        let Some(row) = state.row(&device.user, device.id) else { return Ok(false) };
        let first = is.state == DeviceState::Active
            && is.last_seen == device.last_seen
            && row.device.lease.is_none()
            && is.expires.is_none();
        if first {
            (row.device.expires, row.warned) = (Some(at), Some(Instant::now()));
        }
        Ok(first)
    }

    /// See [`crate::store::Store::expire_device`].
    pub async fn expire_device(&self, device: &Device, notice: Duration) -> Result<bool> {
        let (mut state, now) = (self.state(), self.now());
        let Some(is) = state.shown(&device.user, device.id, now) else { return Ok(false) };
        let Some(row) = state.row(&device.user, device.id) else { return Ok(false) };
        if is.state == DeviceState::Terminating {
            return Ok(true);
        }
        let same = is.state == device.state && is.last_seen == device.last_seen && row.device.lease.is_none();
        let given = row.warned.is_none_or(|warned| warned.elapsed() >= notice);
        if same && given {
            row.device.state = DeviceState::Terminating;
            row.device.generation += 1;
        }
        Ok(same && given)
    }
}
