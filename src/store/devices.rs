//! Role: device records. A device id belongs to one user as long as the device or its tombstone exists. A device is
//! written as `registering` before any of its queues is created, and is served only when it is `active`.

use std::time::Duration;

use super::{NewDevice, Owner, Registered, Result, Store};
use crate::domain::{
    Millis,
    device::{Device, DeviceState},
    id::{ChatId, DeviceId, UserId},
};

impl Store {
    /// Registers a device: claims the id for the user, then writes the device as `registering` with a generation that
    /// no earlier device of the user had. Ids are global; an id isn't reused while its tombstone exists.
    pub async fn register_device(&self, new: &NewDevice) -> Result<Registered> {
        each!(self.register_device(new))
    }

    /// Activates a device (`registering` -> `active`). Returns false if the device is being terminated or doesn't
    /// exist.
    pub async fn activate_device(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        each!(self.activate_device(user, device))
    }

    /// Returns one device. Returns none if it doesn't exist (any more).
    pub async fn device(&self, user: &UserId, device: DeviceId) -> Result<Option<Device>> {
        each!(self.device(user, device))
    }

    /// Returns one device and the time of this read, by the store's clock.
    pub async fn device_at(&self, user: &UserId, device: DeviceId) -> Result<Option<(Device, Millis)>> {
        each!(self.device_at(user, device))
    }

    /// Returns all devices of a user, in any state, by creation.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        each!(self.devices(user))
    }

    /// Returns the devices of each of these users with their states, in the order of `users`.
    pub async fn device_states(&self, users: &[UserId]) -> Result<Vec<Vec<(DeviceId, DeviceState)>>> {
        each!(self.device_states(users))
    }

    /// Returns the owner of a device id, also of a terminated device.
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        each!(self.owner(device))
    }

    /// Returns up to `count` devices whose check is due, the longest overdue first, and the current time. A device is
    /// due at once when it is registered, and then at the time set by [`Store::put_off`].
    pub async fn due_devices(&self, count: usize) -> Result<(Millis, Vec<(UserId, DeviceId)>)> {
        each!(self.due_devices(count))
    }

    /// Schedules the device's next check at `until`. With none, removes the device from the schedule.
    pub async fn put_off(&self, user: &UserId, device: DeviceId, until: Option<Millis>) -> Result<()> {
        each!(self.put_off(user, device, until))
    }

    /// Records that an active device expires at `at`. Changes nothing if that is recorded already, or if the device was
    /// seen after the caller read it. Returns true if this call recorded it.
    pub async fn warn_device(&self, device: &Device, at: Millis) -> Result<bool> {
        each!(self.warn_device(device, at))
    }

    /// Fences a device (`terminating`, the next generation) if it is unchanged since the caller read it: in the same
    /// state, offline, and not seen since. The clock for `notice`, which nobody sets, must show that `notice` has
    /// passed since the warning (or, while the device registers, since it was written). Returns false, and changes
    /// nothing, if any of this doesn't hold.
    pub async fn expire_device(&self, device: &Device, notice: Duration) -> Result<bool> {
        each!(self.expire_device(device, notice))
    }

    /// Deletes every key of the device except its tombstone: from its user, and from each of these chats. The tombstone
    /// expires after [`super::StoreLimits::tombstones`].
    pub async fn forget_device(&self, user: &UserId, device: DeviceId, chats: &[ChatId]) -> Result<()> {
        each!(self.forget_device(user, device, chats))
    }
}
