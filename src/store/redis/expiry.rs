//! Devices by due expiry check: one sorted set, in which each check moves its device on. So a pass costs what is due,
//! not what exists.

use std::time::Duration;

use super::{
    RedisStore,
    error::{corrupt, later},
    script, value,
};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceState},
        id::{DeviceId, UserId},
    },
    store::Result,
};

impl RedisStore {
    /// See [`crate::store::Store::due_devices`].
    pub async fn due_devices(&self, count: usize) -> Result<(Millis, Vec<(UserId, DeviceId)>)> {
        let call = script::DUE_DEVICES.call().arg(self.keys().due()).arg(count);
        let mut answer = value::list(self.bulk().eval(&call).await?)?.into_iter();
        let now = value::number(value::next(&mut answer)?)?;
        Ok((now, answer.map(due_from).collect::<Result<_>>()?))
    }

    /// See [`crate::store::Store::put_off`].
    pub async fn put_off(&self, user: &UserId, device: DeviceId, until: Option<Millis>) -> Result<()> {
        let mut command = match until {
            Some(_) => redis::cmd("ZADD"),
            None => redis::cmd("ZREM"),
        };
        command.arg(self.keys().due());
        if let Some(until) = until {
            // Only an existing entry: the device may be deleted in this moment.
            command.arg("XX").arg(until);
        }
        command.arg(due_member(user, device));
        self.commands().run(&command).await.map(drop)
    }

    /// See [`crate::store::Store::warn_device`].
    pub async fn warn_device(&self, device: &Device, at: Millis) -> Result<bool> {
        let call = script::WARN_DEVICE.call().arg(self.keys().devices(&device.user)).arg(device.id.hex());
        let call = call.arg(device.last_seen).arg(at).arg(self.clock());
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::expire_device`].
    pub async fn expire_device(&self, device: &Device, notice: Duration) -> Result<bool> {
        let state = match device.state {
            DeviceState::Registering => "registering",
            DeviceState::Active => "active",
            DeviceState::Terminating => return Ok(true),
        };
        let call = script::EXPIRE_DEVICE.call().arg(self.keys().devices(&device.user)).arg(device.id.hex());
        let call = call.arg(state).arg(device.last_seen).arg(self.clock()).arg(notice.as_secs());
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// Schedules a check before a device is written, so that each existing device is checked.
    pub(super) async fn due_at_once(&self, user: &UserId, device: DeviceId) -> Result<()> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys().due()).arg("NX").arg(0).arg(due_member(user, device));
        self.commands().run(&add).await.map(drop).map_err(later)
    }
}

/// Returns the device and user of an index entry.
pub(super) fn due_from(member: redis::Value) -> Result<(UserId, DeviceId)> {
    let member = value::text(member)?;
    let (device, user) = member.split_once(' ').ok_or_else(|| corrupt("a due device of another shape"))?;
    Ok((value::user(user)?, value::device(device)?))
}

fn due_member(user: &UserId, device: DeviceId) -> String {
    format!("{} {user}", device.hex())
}
