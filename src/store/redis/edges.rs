//! The edges: the holder of each name, which edges live, to which chats each appends and which sessions it has; so
//! others find what a dead edge leaves. All of it is one slot, touched once per edge and chat, and at both ends of a
//! session.

use std::{collections::HashMap, time::Duration};

use redis::Value;
use tokio::time::Instant;

use super::{
    RedisStore,
    error::corrupt,
    liveness::BeatTimes,
    millis,
    script::{self, Call},
    value,
};
use crate::{
    domain::id::ChatId,
    store::{
        Beat, Claimed, ExpiredSession, Holder, Incarnation, OtherEdge, RegisteredSender, RegisteredSession,
        Result,
    },
};

impl RedisStore {
    /// See [`crate::store::Store::claim_edge`].
    pub async fn claim_edge(&self, edge: &str, process: &str, dead: Option<&Holder>) -> Result<Claimed> {
        let dead = dead.map_or(String::new(), record);
        let call = script::CLAIM_EDGE.call().arg(self.keys().edge_names()).arg(edge).arg(process).arg(dead);
        let stands = value::text(self.commands().eval(&call).await?)?;
        let (holder, beat) =
            stands.split_once(' ').ok_or_else(|| corrupt("an edge's name of another shape"))?;
        let holder = Holder { incarnation: holder.to_owned(), beat: value::parse(beat)? };
        Ok(if holder.process() == process { Claimed::Ours } else { Claimed::Held(holder) })
    }

    /// See [`crate::store::Store::release_edge`].
    pub async fn release_edge(&self, edge: &str, process: &str) -> Result<()> {
        let call = script::RELEASE_EDGE.call().arg(self.keys().edge_names()).arg(edge).arg(process);
        self.commands().eval(&call).await.map(drop)
    }

    /// See [`crate::store::Store::register_sender`].
    pub async fn register_sender(&self, edge: &str, chat: ChatId) -> Result<RegisteredSender> {
        let keys = self.keys();
        let call =
            script::REGISTER_SENDER.call().arg(keys.edges()).arg(keys.note_counts()).arg(keys.notes(edge));
        let call = call.arg(keys.note_tokens(edge)).arg(keys.last_token()).arg(edge).arg(chat.hex());
        let token = value::number(self.commands().eval(&call).await?)?;
        Ok(RegisteredSender { chat, token })
    }

    /// Returns the call that deletes a registration. `silence`: only if the edge sent no heartbeat for so long; zero:
    /// always.
    fn unnote(&self, edge: &str, list: String, what: String, token: u64, silence: Duration) -> Call {
        let (edges, counts) = (self.keys().edges(), self.keys().note_counts());
        // `millis` has no zero: a registration would outlive its session if both fell into one millisecond.
        let silence = if silence.is_zero() { 0 } else { millis(silence) };
        let call = script::UNREGISTER.call();
        let call = call.arg(edges).arg(counts).arg(list).arg(self.keys().note_tokens(edge));
        call.arg(edge).arg(what).arg(silence).arg(token)
    }

    // Returns true if it wasn't registered yet.
    pub(super) async fn register_session(&self, edge: &str, session: &RegisteredSession) -> Result<bool> {
        let (edges, counts) = (self.keys().edges(), self.keys().note_counts());
        let call = script::REGISTER.call().arg(edges).arg(counts).arg(self.keys().sessions(edge));
        Ok(value::number(self.commands().eval(&call.arg(edge).arg(member(session))).await?)? == 1)
    }

    /// See [`crate::store::Store::forget_session`].
    pub async fn forget_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<()> {
        let call = self.unnote(edge, self.keys().sessions(edge), member(session), 0, silence);
        self.commands().eval(&call).await.map(drop)
    }

    /// See [`crate::store::Store::registered_sessions`].
    pub async fn registered_sessions(&self, edge: &str) -> Result<Vec<RegisteredSession>> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.keys().sessions(edge));
        let sessions = value::list(self.bulk().run(&read).await?)?.into_iter();
        let session = |text: String| {
            let mut parts = text.split(' ');
            let mut part = || parts.next().ok_or_else(|| corrupt("a noted session of another shape"));
            let (device, session) = (value::device(part()?)?, value::parse(part()?)?);
            let user = value::user(part()?)?;
            // An older build wrote none.
            let incarnation = parts.next().unwrap_or_default().to_owned();
            Ok(RegisteredSession { user, device, session, incarnation })
        };
        sessions.map(|noted| session(value::text(noted)?)).collect()
    }

    /// See [`crate::store::Store::expire_session`].
    pub async fn expire_session(
        &self,
        edge: &str,
        session: &RegisteredSession,
        silence: Duration,
    ) -> Result<ExpiredSession> {
        let devices = self.keys().devices(&session.user);
        let call = script::EXPIRE_SESSION.call().arg(devices).arg(session.device.hex());
        let last = self.liveness().last_heard(edge, &session.incarnation);
        let call = call.arg(session.session).arg(edge).arg(&session.incarnation).arg(last);
        let answer = value::some(self.commands().eval(&call).await?).map(value::text).transpose()?;
        let expired = match answer.as_deref() {
            Some("held") => return Ok(ExpiredSession::Held),
            Some("coming") => return Ok(ExpiredSession::Coming),
            Some(seen) => ExpiredSession::Now(value::parse(seen)?),
            None => ExpiredSession::Before,
        };
        if let Err(error) = self.forget_session(edge, session, silence).await {
            // The device was released, which happens once, and the releaser must notify. The next pass deletes the
            // registration.
            tracing::debug!(device = %session.device, %error, "the note of a session that expired stays for now");
        }
        Ok(expired)
    }

    /// See [`crate::store::Store::registered_senders`].
    pub async fn registered_senders(&self, edge: &str) -> Result<Vec<RegisteredSender>> {
        let mut pipeline = redis::pipe();
        // Reads the tokens first: a registration that comes in between is listed with an older token, which can't
        // delete it.
        pipeline.cmd("HGETALL").arg(self.keys().note_tokens(edge));
        pipeline.cmd("SMEMBERS").arg(self.keys().notes(edge));
        let mut answers = self.bulk().run_all(&pipeline).await?.into_iter();
        let mut tokens = HashMap::new();
        for (chat, token) in value::pairs(value::next(&mut answers)?)? {
            tokens.insert(value::chat(&chat)?, value::number(token)?);
        }
        let noted = |chat| {
            let chat = value::chat(&value::text(chat)?)?;
            Ok(RegisteredSender { chat, token: tokens.get(&chat).copied().unwrap_or(0) })
        };
        let chats = value::list(value::next(&mut answers)?)?.into_iter();
        let mut chats = chats.map(noted).collect::<Result<Vec<_>>>()?;
        chats.sort_unstable_by_key(|noted| noted.chat);
        Ok(chats)
    }

    /// See [`crate::store::Store::unregister_senders`].
    pub async fn unregister_senders(
        &self,
        edge: &str,
        notes: &[RegisteredSender],
        silence: Duration,
    ) -> Result<()> {
        let list = self.keys().notes(edge);
        let calls =
            notes.iter().map(|note| self.unnote(edge, list.clone(), note.chat.hex(), note.token, silence));
        self.commands().eval_all(&calls.collect::<Vec<_>>()).await.map(drop)
    }

    /// See [`crate::store::Store::edge_alive`].
    pub async fn edge_alive(&self, by: &Incarnation, dead_after: Duration) -> Result<Beat> {
        let (keys, asked) = (self.keys(), Instant::now());
        let call = script::EDGE_ALIVE.call().arg(keys.edges()).arg(keys.note_counts()).arg(keys.edge_names());
        let call = call.arg(&by.edge).arg(millis(dead_after)).arg(&by.process).arg(by.term);
        let mut answer = match value::some(self.commands().eval(&call).await?) {
            Some(Value::Array(answer)) => answer.into_iter(),
            Some(_) => return Ok(Beat::Lapsed),
            None => return Ok(Beat::NameTaken),
        };
        let (now, before) =
            (value::number(value::next(&mut answer)?)?, value::number(value::next(&mut answer)?)?);
        let others = answer.map(|other| other_edge(&value::text(other)?)).collect::<Result<Vec<_>>>()?;
        self.liveness().heard(by, (asked, dead_after), BeatTimes { now, before }, &others);
        Ok(Beat::Heard(others))
    }

    /// See [`crate::store::Store::lives`].
    #[must_use]
    pub fn lives(&self, edge: &str, incarnation: &str) -> bool {
        self.liveness().lives(edge, incarnation)
    }

    /// See [`crate::store::Store::forget_edge`].
    pub async fn forget_edge(&self, dead: &OtherEdge) -> Result<()> {
        let keys = self.keys();
        let call = script::FORGET_EDGE.call().arg(keys.edges()).arg(keys.note_counts());
        let call = call.arg(keys.edge_names()).arg(keys.note_tokens(&dead.name));
        let holder = dead.holder.as_ref().map_or(String::new(), record);
        self.commands().eval(&call.arg(&dead.name).arg(dead.alive).arg(holder)).await.map(drop)
    }
}

// The format of `lua/edge_alive.lua`.
fn other_edge(text: &str) -> Result<OtherEdge> {
    let mut parts = text.split(' ');
    let mut part = || parts.next().ok_or_else(|| corrupt("an edge of another shape"));
    let (name, alive) = (part()?.to_owned(), value::parse(part()?)?);
    let (silent, noted) = (part()? == "silent", part()? == "noted");
    let holder = match (parts.next(), parts.next()) {
        (Some(incarnation), Some(beat)) => {
            Some(Holder { incarnation: incarnation.to_owned(), beat: value::parse(beat)? })
        }
        _ => None,
    };
    Ok(OtherEdge { name, alive, silent, noted, holder })
}

// The format of `names`.
fn record(holder: &Holder) -> String {
    format!("{} {}", holder.incarnation, holder.beat)
}

fn member(session: &RegisteredSession) -> String {
    let RegisteredSession { user, device, session, incarnation } = session;
    let member = format!("{} {session} {user} {incarnation}", device.hex());
    member.trim_end().to_owned()
}
