//! Devices and sessions. All devices of a user are one hash, `<device>.<field>`, so that a list of them is one read.

use std::time::Duration;

use redis::Value;

use super::{
    RedisStore,
    error::{corrupt, later},
    millis,
    script::{self, Call},
    value,
};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState, Lease},
        id::{DeviceId, UserId},
    },
    store::{
        NewDevice, Opened, Owner, Read, Registered, RegisteredSession, Renewed, Result, StoreError,
        bounds::{AT_ONCE, SET_BACK},
    },
};

/// The fields of a device, in the order in which scripts return them too.
const FIELDS: [&str; 12] = [
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
                Registered::Existing(device(&new.user, new.id, now, answer.collect())?)
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
        Ok(Some((device(user, id, now, values)?, now)))
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
        let devices = found.into_iter().map(|(id, values)| device(user, id, now, values));
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

    /// See [`crate::store::Store::open_session`]. The device and its edge are in different slots. The registration
    /// comes first: the second step may be executed when its caller has given up, or its edge is dead.
    pub async fn open_session(
        &self,
        user: &UserId,
        id: DeviceId,
        generation: u32,
        after: Read,
        edge: &str,
        ttl: Duration,
    ) -> Result<Opened> {
        let call = script::OPEN_SESSION.call();
        let call = call
            .arg(self.keys().devices(user))
            .arg(id.hex())
            .arg(generation)
            .arg(edge)
            .arg(millis(ttl))
            .arg(after.session)
            .arg(after.at)
            .arg(AT_ONCE);
        // The session gets this number or none.
        let noted =
            RegisteredSession { user: user.clone(), device: id, session: after.session.saturating_add(1) };
        self.in_time(async {
            let is_new = self.register_session(edge, &noted).await?;
            let (opened, note) = self.opened(&noted, edge, call).await?;
            let again = match note {
                // An earlier caller may have deleted its registration in between, because its own call failed.
                Note::Needed if !is_new => self.register_session(edge, &noted).await.map(drop),
                Note::Needed | Note::Doubtful => Ok(()),
                Note::Needless => self.forget_session(edge, &noted, Duration::ZERO).await,
            };
            match again {
                Err(error) if note == Note::Needed => return Err(later(error)),
                // The next pass over the registrations finds that it is over.
                Err(error) => tracing::debug!(device = %id, %error, "the note of no session stays for now"),
                Ok(()) => {}
            }
            Ok(opened)
        })
        .await
    }

    async fn opened(&self, noted: &RegisteredSession, edge: &str, call: Call) -> Result<(Opened, Note)> {
        let (user, id) = (&noted.user, noted.device);
        let answer = match value::some(self.commands().eval(&call).await?) {
            Some(Value::Array(answer)) => answer,
            Some(word) => {
                let ended = value::text(word)? == "terminated";
                return Ok((if ended { Opened::Terminated } else { Opened::Unknown }, Note::Needless));
            }
            // Deleted after its termination, or never registered.
            None if self.terminated(user, id).await? => return Ok((Opened::Terminated, Note::Needless)),
            None => return Ok((Opened::Unknown, Note::Needless)),
        };
        let mut answer = answer.into_iter();
        let first = value::text(value::next(&mut answer)?)?;
        if let Some(refused) = [("changed", Opened::Changed), ("late", Opened::Late)]
            .into_iter()
            .find_map(|(word, refused)| (first == word).then_some(refused))
        {
            let newest: u64 = value::number(value::next(&mut answer)?)?;
            let holder = value::text(value::next(&mut answer)?)?;
            // Another call of this edge may have the same number, or still get it.
            let elsewhere = newest == noted.session && !holder.is_empty() && holder != edge;
            let note = if newest > noted.session || elsewhere { Note::Needless } else { Note::Doubtful };
            return Ok((refused, note));
        }
        let session = value::parse(&first)?;
        let before = value::text(value::next(&mut answer)?)?;
        let its_session = value::number(value::next(&mut answer)?)?;
        let previous = (!before.is_empty()).then_some(Lease { edge: before, session: its_session });
        let now = value::number(value::next(&mut answer)?)?;
        let device = Box::new(device(user, id, now, answer.collect())?);
        Ok((Opened::Session { session, previous, device }, Note::Needed))
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
        let session = RegisteredSession { user: user.clone(), device, session };
        self.in_time(self.renewed(&session, edge, ttl, "there")).await
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
        let session = RegisteredSession { user: user.clone(), device, session };
        self.in_time(self.renewed(&session, edge, ttl, "")).await
    }

    async fn renewed(
        &self,
        session: &RegisteredSession,
        edge: &str,
        ttl: Duration,
        there: &str,
    ) -> Result<Renewed> {
        let RegisteredSession { user, device, session: number } = session;
        let renew = async |revive: &str| {
            let call = script::RENEW_SESSION.call();
            let call = call.arg(self.keys().devices(user)).arg(device.hex()).arg(*number).arg(millis(ttl));
            let answer = self.commands().eval(&call.arg(edge).arg(there).arg(revive)).await?;
            value::some(answer).map(value::text).transpose()
        };
        let mut answer = renew("").await?;
        let expired = answer.as_deref() == Some("expired");
        if expired {
            // The registration first: should the edge die in between, others find the session, and there is no lease to
            // release.
            self.register_session(edge, session).await?;
            answer = renew("revive").await.map_err(later)?;
        }
        match answer.as_deref() {
            Some("held") if expired => Ok(Renewed::Revived),
            Some("held") => Ok(Renewed::Held),
            Some("terminated") => Ok(Renewed::Terminated),
            Some("replaced") => Ok(Renewed::Replaced),
            Some(_) => Ok(Renewed::Unconfirmed),
            None if self.terminated(user, *device).await? => Ok(Renewed::Terminated),
            // An older or an empty Redis. "Terminated" would make the client delete its messages.
            None => Err(StoreError::Corrupt(format!(
                "device {device} or this session of it is gone without a trace"
            ))),
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
        let call = script::CLOSE_SESSION.call();
        let call = call.arg(self.keys().devices(user)).arg(device.hex()).arg(session);
        self.in_time(async {
            let closed = value::number(self.commands().eval(&call).await?)? == 1;
            let noted = RegisteredSession { user: user.clone(), device, session };
            if let Err(error) = self.forget_session(edge, &noted, Duration::ZERO).await {
                // The next pass over the registrations finds that it is over.
                tracing::debug!(%device, %error, "the note of a session that is over stays for now");
            }
            Ok(closed)
        })
        .await
    }

    async fn terminated(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        Ok(self.owner(device).await?.is_some_and(|owner| owner.user == *user && owner.terminated.is_some()))
    }
}

/// What a result means for the registration that was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    /// Needed: its session is open.
    Needed,
    /// Not needed: its number is assigned, or never will be, and not to this edge.
    Needless,
    /// It may belong to another session of this edge: a pass over the registrations decides.
    Doubtful,
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

fn device(user: &UserId, id: DeviceId, now: Millis, values: Vec<Value>) -> Result<Device> {
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
    let runs = until.is_some_and(|until| until > now) && seen <= now.saturating_add(SET_BACK);
    let unrenewed = edge.is_some() && !runs;
    let lease = edge.filter(|_| runs).map(|edge| Lease { edge, session });
    // No device was seen in the future: the clock was set back since.
    let last_seen = if lease.is_some() { now } else { seen.min(now) };
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

// Seconds and microseconds.
pub(super) fn server_time(value: Value) -> Result<Millis> {
    let mut parts = value::list(value)?.into_iter();
    let (seconds, micros) =
        (value::number(value::next(&mut parts)?)?, value::number(value::next(&mut parts)?)?);
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}
