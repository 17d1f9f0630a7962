//! Devices. All devices of a user are one hash, `<device>.<field>`, so that a list of them is one read.

use redis::Value;

use super::{
    RedisStore,
    error::{corrupt, later},
    script, value,
};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState, Lease},
        id::{DeviceId, UserId},
    },
    store::{NewDevice, Owner, Registered, Result, bounds::SET_BACK},
};

/// The fields of a device, in the order in which scripts return them too.
const FIELDS: [&str; 13] = [
    "kind",
    "name",
    "platform",
    "created",
    "seen",
    "state",
    "generation",
    "session",
    "edge",
    "until",
    "expires",
    "history",
    "incarnation",
];

/// Further fields that only scripts read: the newest session that served the device, when the newest began, and the
/// store's clock when the device was warned, or written.
const SCRIPTS_FIELDS: [&str; 3] = ["there", "begun", "warned"];

impl RedisStore {
    /// See [`crate::store::Store::register_device`].
    ///
    /// The user's devices and the id's owner are in different slots. So it checks and leaves a mark (a minute), claims
    /// the id, checks again and writes. A termination in between deletes the mark, and the write starts over.
    pub async fn register_device(&self, new: &NewDevice) -> Result<Registered> {
        self.in_time(async {
            loop {
                if let Some(found) = self.register_step(new, "intend").await? {
                    return Ok(found);
                }
                let claim = script::CLAIM_DEVICE.call().arg(self.keys().owner(new.id)).arg(new.user.as_str());
                if value::number(self.commands().eval(&claim).await.map_err(later)?)? == 0 {
                    return Ok(Registered::Conflict);
                }
                // Between the two: whoever checks sees from the claim that the device is just being registered.
                self.due_at_once(&new.user, new.id).await?;
                if let Some(found) = self.register_step(new, "write").await.map_err(later)? {
                    return Ok(found);
                }
            }
        })
        .await
    }

    // Returns none to continue (after `intend`), or to start again (after `write`).
    async fn register_step(&self, new: &NewDevice, step: &str) -> Result<Option<Registered>> {
        let call = script::REGISTER_DEVICE
            .call()
            .arg(self.keys().devices(&new.user))
            .arg(self.keys().intent(&new.user, new.id))
            .arg(self.keys().generations(&new.user))
            .arg(step)
            .arg(new.id.hex())
            .arg(new.kind.as_str())
            .arg(self.limits().subs_per_user)
            .arg(&new.name)
            .arg(&new.platform)
            .arg(new.created)
            .arg(new.history.map_or(String::new(), |most| most.to_string()))
            .arg(self.clock());
        let mut answer = value::list(self.commands().eval(&call).await?)?.into_iter();
        let found = match value::text(value::next(&mut answer)?)?.as_str() {
            "ok" if step == "intend" => return Ok(None),
            "lost" => return Ok(None),
            "ok" => Registered::Created(fresh(new, value::parse(&value::text(value::next(&mut answer)?)?)?)),
            "existing" => {
                let now = value::number(value::next(&mut answer)?)?;
                Registered::Existing(self.device_from(&new.user, new.id, now, answer.collect())?)
            }
            "main" => Registered::MainExists(value::device(&value::text(value::next(&mut answer)?)?)?),
            "full" => Registered::LimitReached,
            _ => Registered::Conflict,
        };
        Ok(Some(found))
    }

    /// See [`crate::store::Store::activate_device`].
    pub async fn activate_device(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        let call = script::ACTIVATE_DEVICE.call().arg(self.keys().devices(user)).arg(device.hex());
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::device`].
    pub async fn device(&self, user: &UserId, id: DeviceId) -> Result<Option<Device>> {
        Ok(self.device_at(user, id).await?.map(|(device, _)| device))
    }

    /// See [`crate::store::Store::device_at`].
    pub async fn device_at(&self, user: &UserId, id: DeviceId) -> Result<Option<(Device, Millis)>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("HMGET").arg(self.keys().devices(user)).arg(fields(id));
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let now = server_time(value::next(&mut answers)?)?;
        let values = value::list(value::next(&mut answers)?)?;
        if values.first().is_none_or(|kind| *kind == Value::Nil) {
            return Ok(None);
        }
        Ok(Some((self.device_from(user, id, now, values)?, now)))
    }

    /// See [`crate::store::Store::devices`].
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("HGETALL").arg(self.keys().devices(user));
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let now = server_time(value::next(&mut answers)?)?;
        let mut found: Vec<(DeviceId, Vec<Value>)> = Vec::new();
        for (key, value) in value::pairs(value::next(&mut answers)?)? {
            let (id, field) = key.split_once('.').ok_or_else(|| corrupt("a device's field without a dot"))?;
            let id = value::device(id)?;
            let Some(place) = FIELDS.iter().position(|name| *name == field) else { continue };
            let at = found.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
                found.push((id, vec![Value::Nil; FIELDS.len()]));
                found.len() - 1
            });
            found[at].1[place] = value;
        }
        let devices = found.into_iter().map(|(id, values)| self.device_from(user, id, now, values));
        let mut devices = devices.collect::<Result<Vec<_>>>()?;
        devices.sort_by_key(|device| (device.created, device.id));
        Ok(devices)
    }

    /// See [`crate::store::Store::owner`].
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys().owner(device)).arg("user").arg("terminated");
        let mut answer = value::list(self.commands().run(&read).await?)?.into_iter();
        let Some(user) = value::some(value::next(&mut answer)?) else { return Ok(None) };
        let terminated = value::some(value::next(&mut answer)?);
        let terminated = terminated.map(|id| value::termination(&value::text(id)?)).transpose()?;
        Ok(Some(Owner { user: value::user(&value::text(user)?)?, terminated }))
    }

    /// Returns a device from the values of its fields, as it is to others now.
    pub(super) fn device_from(
        &self,
        user: &UserId,
        id: DeviceId,
        now: Millis,
        values: Vec<Value>,
    ) -> Result<Device> {
        let mut values = values.into_iter();
        let mut text = || value::text(value::next(&mut values)?);
        let kind = match text()?.as_str() {
            "main" => DeviceKind::Main,
            "sub" => DeviceKind::Sub,
            other => return Err(corrupt(format!("a device of kind {other:?}"))),
        };
        let (name, platform, created, seen): (_, _, _, Millis) =
            (text()?, text()?, value::parse(&text()?)?, value::parse(&text()?)?);
        let state = match text()?.as_str() {
            "registering" => DeviceState::Registering,
            "active" => DeviceState::Active,
            "terminating" => DeviceState::Terminating,
            other => return Err(corrupt(format!("a device in state {other:?}"))),
        };
        let (generation, session) = (value::parse(&text()?)?, value::parse(&text()?)?);
        let edge = values.next().and_then(value::some).map(value::text).transpose()?;
        let until = values.next().and_then(value::some).map(value::number).transpose()?;
        let expires = values.next().and_then(value::some).map(value::number).transpose()?;
        let history = values.next().and_then(value::some).map(value::number).transpose()?;
        let incarnation = values.next().and_then(value::some).map(value::text).transpose()?;
        let (runs, heard) = match (&edge, &incarnation) {
            (Some(edge), Some(incarnation)) => {
                let liveness = self.liveness();
                (liveness.lives(edge, incarnation), liveness.last_heard(edge, incarnation))
            }
            // An older build wrote it.
            _ => (until.is_some_and(|until| until > now) && seen <= now.saturating_add(SET_BACK), 0),
        };
        let unrenewed = edge.is_some() && !runs;
        let lease = edge.filter(|_| runs).map(|edge| Lease { edge, session });
        // No device was seen in the future: the clock was set back since.
        let last_seen = if lease.is_some() { now } else { seen.max(heard).min(now) };
        let user = user.clone();
        Ok(Device {
            id,
            user,
            kind,
            name,
            platform,
            created,
            last_seen,
            state,
            generation,
            session,
            lease,
            unrenewed,
            expires,
            history,
        })
    }

    pub(super) async fn terminated(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        Ok(self.owner(device).await?.is_some_and(|owner| owner.user == *user && owner.terminated.is_some()))
    }
}

/// Returns the names of a device's fields in its user's hash.
pub(super) fn fields(device: DeviceId) -> Vec<String> {
    let device = device.hex();
    FIELDS.iter().map(|field| format!("{device}.{field}")).collect()
}

/// Returns the names of all fields of a device.
pub(super) fn all_fields(device: DeviceId) -> Vec<String> {
    let more = SCRIPTS_FIELDS.iter().map(|field| format!("{}.{field}", device.hex()));
    fields(device).into_iter().chain(more).collect()
}

fn fresh(new: &NewDevice, generation: u32) -> Device {
    Device {
        id: new.id,
        user: new.user.clone(),
        kind: new.kind,
        name: new.name.clone(),
        platform: new.platform.clone(),
        created: new.created,
        last_seen: new.created,
        state: DeviceState::Registering,
        generation,
        session: 0,
        lease: None,
        unrenewed: false,
        expires: None,
        history: new.history,
    }
}

// Seconds and microseconds.
pub(super) fn server_time(value: Value) -> Result<Millis> {
    let mut parts = value::list(value)?.into_iter();
    let (seconds, micros) =
        (value::number(value::next(&mut parts)?)?, value::number(value::next(&mut parts)?)?);
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}
