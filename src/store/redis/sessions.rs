//! Sessions: which one has a device, and whether it still has it.

use std::time::Duration;

use redis::Value;

use super::{
    RedisStore,
    devices::server_time,
    error::later,
    script::{self, Call},
    value,
};
use crate::{
    domain::{
        Millis,
        device::Lease,
        id::{DeviceId, UserId},
    },
    store::{
        Incarnation, Opened, Read, RegisteredSession, Result, SessionCheck, StoreError, bounds::AT_ONCE,
    },
};

impl RedisStore {
    /// See [`crate::store::Store::open_session`]. The device and its edge are in different slots. The registration
    /// comes first: the second step may be executed when its caller has given up, or its edge is dead.
    pub async fn open_session(
        &self,
        user: &UserId,
        id: DeviceId,
        generation: u32,
        after: Read,
        by: &Incarnation,
    ) -> Result<Opened> {
        let call = script::OPEN_SESSION.call();
        let call = call
            .arg(self.keys().devices(user))
            .arg(id.hex())
            .arg(generation)
            .arg(&by.edge)
            .arg(by.id())
            .arg(after.session)
            .arg(after.at)
            .arg(AT_ONCE);
        // The session gets this number or none.
        let noted = registered(user, id, after.session.saturating_add(1), by);
        let edge = &by.edge;
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
        let device = Box::new(self.device_from(user, id, now, answer.collect())?);
        Ok((Opened::Session { session, previous, device }, Note::Needed))
    }

    /// See [`crate::store::Store::confirm_session`].
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        let session = registered(user, device, session, by);
        self.in_time(async {
            if let Some(found) = self.confirmed(&session, by, "there", "").await? {
                return Ok(found);
            }
            self.taken_back(&session, by, "there").await
        })
        .await
    }

    /// See [`crate::store::Store::check_session`].
    pub async fn check_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<SessionCheck> {
        let session = registered(user, device, session, by);
        self.in_time(async {
            match self.read_session(&session).await? {
                Some(found) => Ok(found),
                None => self.taken_back(&session, by, "").await,
            }
        })
        .await
    }

    // Returns none if the session is the newest, and its device was released.
    async fn read_session(&self, session: &RegisteredSession) -> Result<Option<SessionCheck>> {
        let RegisteredSession { user, device, session: mine, .. } = session;
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys().devices(user));
        for field in ["state", "session", "edge", "incarnation", "until", "there"] {
            read.arg(format!("{}.{field}", device.hex()));
        }
        let answer = value::list(self.commands().run(&read).await?)?.into_iter();
        let fields = answer.map(|field| value::some(field).map(value::text).transpose());
        let mut fields = fields.collect::<Result<Vec<_>>>()?.into_iter();
        let mut field = || fields.next().flatten();
        let Some(state) = field() else { return self.without_a_record(user, *device).await.map(Some) };
        if state == "terminating" {
            return Ok(Some(SessionCheck::Terminated));
        }
        let newest: u64 = value::parse(&field().unwrap_or_default())?;
        let (edge, incarnation, until) = (field(), field(), field());
        let is_there = field().is_some_and(|there| there == newest.to_string());
        if newest <= *mine {
            return match edge {
                _ if newest < *mine => Err(gone(*device)),
                edge => Ok(edge.map(|_| SessionCheck::Held)),
            };
        }
        let serves = match (edge, incarnation, until) {
            (Some(edge), Some(incarnation), _) => is_there && self.liveness().lives(&edge, &incarnation),
            // An older build wrote it.
            (Some(_), None, Some(until)) if is_there => value::parse::<Millis>(&until)? > self.now().await?,
            _ => false,
        };
        Ok(Some(if serves { SessionCheck::Replaced } else { SessionCheck::Unconfirmed }))
    }

    async fn now(&self) -> Result<Millis> {
        server_time(self.commands().run(&redis::cmd("TIME")).await?)
    }

    // Returns none if the device was released.
    async fn confirmed(
        &self,
        session: &RegisteredSession,
        by: &Incarnation,
        there: &str,
        revive: &str,
    ) -> Result<Option<SessionCheck>> {
        let RegisteredSession { user, device, session: number, incarnation } = session;
        let call = script::CONFIRM_SESSION.call();
        let call = call.arg(self.keys().devices(user)).arg(device.hex()).arg(*number);
        let call = call.arg(&by.edge).arg(incarnation).arg(there).arg(revive);
        let answer = value::some(self.commands().eval(&call).await?).map(value::text).transpose()?;
        match answer.as_deref() {
            Some("held") => Ok(Some(SessionCheck::Held)),
            Some("terminated") => Ok(Some(SessionCheck::Terminated)),
            Some("released") => Ok(None),
            // Whether the newer one serves the device isn't this script's to say.
            Some(_) => self.read_session(session).await.map_err(later),
            None => self.without_a_record(user, *device).await.map(Some),
        }
    }

    // The registration first: should the edge die in between, others find the session, and there is nothing to release.
    async fn taken_back(
        &self,
        session: &RegisteredSession,
        by: &Incarnation,
        there: &str,
    ) -> Result<SessionCheck> {
        self.register_session(&by.edge, session).await?;
        match self.confirmed(session, by, there, "revive").await.map_err(later)? {
            Some(SessionCheck::Held) => Ok(SessionCheck::Revived),
            Some(found) => Ok(found),
            None => Err(StoreError::Unknown("a device was released just now".to_owned())),
        }
    }

    async fn without_a_record(&self, user: &UserId, device: DeviceId) -> Result<SessionCheck> {
        if self.terminated(user, device).await? {
            return Ok(SessionCheck::Terminated);
        }
        // An older or an empty Redis. "Terminated" would make the client delete its messages.
        Err(gone(device))
    }

    /// See [`crate::store::Store::close_session`].
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        by: &Incarnation,
    ) -> Result<bool> {
        let call = script::CLOSE_SESSION.call();
        let call = call.arg(self.keys().devices(user)).arg(device.hex()).arg(session);
        self.in_time(async {
            let closed = value::number(self.commands().eval(&call).await?)? == 1;
            let noted = registered(user, device, session, by);
            if let Err(error) = self.forget_session(&by.edge, &noted, Duration::ZERO).await {
                // The next pass over the registrations finds that it is over.
                tracing::debug!(%device, %error, "the note of a session that is over stays for now");
            }
            Ok(closed)
        })
        .await
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

fn registered(user: &UserId, device: DeviceId, session: u64, by: &Incarnation) -> RegisteredSession {
    RegisteredSession { user: user.clone(), device, session, incarnation: by.id() }
}

fn gone(device: DeviceId) -> StoreError {
    StoreError::Corrupt(format!("device {device} or this session of it is gone without a trace"))
}
