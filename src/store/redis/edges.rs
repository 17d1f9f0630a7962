//! Which edge appends to which chats, and which sessions it has: how what a dead edge leaves is found. All of it is one slot,
//! touched once per edge and chat, and at the two ends of a session.

use std::time::Duration;

use super::{
    RedisStore,
    error::{corrupt, later},
    millis, script, value,
};
use crate::{
    domain::id::ChatId,
    store::{Lapsed, NotedSession, Result},
};

impl RedisStore {
    /// See [`crate::store::Store::note_sender`].
    pub async fn note_sender(&self, edge: &str, chat: ChatId) -> Result<()> {
        self.note(edge, self.keys().notes(edge), chat.hex()).await
    }

    async fn note(&self, edge: &str, list: String, what: String) -> Result<()> {
        let (edges, counts) = (self.keys().edges(), self.keys().note_counts());
        let call = script::NOTE.call().arg(edges).arg(counts).arg(list).arg(edge).arg(what);
        self.commands().eval(&call).await.map(drop)
    }

    /// `silence`: only if the edge hasn't said for so long that it lives; zero: whatever it said.
    async fn unnote(&self, edge: &str, list: String, what: String, silence: Duration) -> Result<()> {
        let (edges, counts) = (self.keys().edges(), self.keys().note_counts());
        // `millis` knows no zero: a note would outlive its session if both fell into one millisecond.
        let silence = if silence.is_zero() { 0 } else { millis(silence) };
        let call = script::FORGET_NOTE.call().arg(edges).arg(counts).arg(list);
        self.commands().eval(&call.arg(edge).arg(what).arg(silence)).await.map(drop)
    }

    pub(super) async fn note_session(&self, edge: &str, session: &NotedSession) -> Result<()> {
        self.note(edge, self.keys().sessions(edge), member(session)).await
    }

    pub(super) async fn forget_session(&self, edge: &str, session: &NotedSession) -> Result<()> {
        self.unnote(edge, self.keys().sessions(edge), member(session), Duration::ZERO).await
    }

    /// See [`crate::store::Store::noted_sessions`].
    pub async fn noted_sessions(&self, edge: &str) -> Result<Vec<NotedSession>> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.keys().sessions(edge));
        let sessions = value::list(self.bulk().run(&read).await?)?.into_iter();
        let session = |text: String| {
            let mut parts = text.split(' ');
            let mut part = || parts.next().ok_or_else(|| corrupt("a noted session of another shape"));
            let (device, session) = (value::device(part()?)?, value::parse(part()?)?);
            Ok(NotedSession { user: value::user(part()?)?, device, session })
        };
        sessions.map(|noted| session(value::text(noted)?)).collect()
    }

    /// See [`crate::store::Store::lapse_session`].
    pub async fn lapse_session(&self, edge: &str, session: &NotedSession) -> Result<Lapsed> {
        let devices = self.keys().devices(&session.user);
        let call = script::LAPSE_SESSION.call().arg(devices).arg(session.device.hex()).arg(session.session);
        let answer = value::some(self.commands().eval(&call).await?).map(value::text).transpose()?;
        let lapsed = match answer.as_deref() {
            Some("held") => return Ok(Lapsed::Held),
            Some(seen) => Lapsed::Now(value::parse(seen)?),
            None => Lapsed::Before,
        };
        self.forget_session(edge, session).await.map_err(later)?;
        Ok(lapsed)
    }

    /// See [`crate::store::Store::noted_chats`].
    pub async fn noted_chats(&self, edge: &str) -> Result<Vec<ChatId>> {
        let mut read = redis::cmd("SMEMBERS");
        read.arg(self.keys().notes(edge));
        let chats = value::list(self.bulk().run(&read).await?)?.into_iter();
        let mut chats = chats.map(|chat| value::chat(&value::text(chat)?)).collect::<Result<Vec<_>>>()?;
        chats.sort_unstable();
        Ok(chats)
    }

    /// See [`crate::store::Store::forget_note`].
    pub async fn forget_note(&self, edge: &str, chat: ChatId, silence: Duration) -> Result<()> {
        self.unnote(edge, self.keys().notes(edge), chat.hex(), silence).await
    }

    /// See [`crate::store::Store::forget_notes`].
    pub async fn forget_notes(&self, edge: &str, chats: &[ChatId], silence: Duration) -> Result<()> {
        let (edges, counts, list) = (self.keys().edges(), self.keys().note_counts(), self.keys().notes(edge));
        let silence = if silence.is_zero() { 0 } else { millis(silence) };
        let calls = chats.iter().map(|chat| {
            let call = script::FORGET_NOTE.call().arg(&edges).arg(&counts).arg(&list);
            call.arg(edge).arg(chat.hex()).arg(silence)
        });
        self.commands().eval_all(&calls.collect::<Vec<_>>()).await.map(drop)
    }

    /// See [`crate::store::Store::edge_alive`].
    pub async fn edge_alive(&self, edge: &str, dead_after: Duration) -> Result<Vec<String>> {
        let call = script::EDGE_ALIVE
            .call()
            .arg(self.keys().edges())
            .arg(self.keys().note_counts())
            .arg(edge)
            .arg(millis(dead_after));
        value::list(self.commands().eval(&call).await?)?.into_iter().map(value::text).collect()
    }

    /// See [`crate::store::Store::forget_edge`].
    pub async fn forget_edge(&self, edge: &str) -> Result<()> {
        let call =
            script::FORGET_EDGE.call().arg(self.keys().edges()).arg(self.keys().note_counts()).arg(edge);
        self.commands().eval(&call).await.map(drop)
    }
}

fn member(session: &NotedSession) -> String {
    format!("{} {} {}", session.device.hex(), session.session, session.user)
}
