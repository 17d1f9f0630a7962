//! Which edge appends to which chats: how the outbox of a dead edge is found. All of it is one slot, touched once per
//! edge and chat.

use std::time::Duration;

use super::{RedisStore, millis, script, value};
use crate::{domain::id::ChatId, store::Result};

impl RedisStore {
    /// See [`crate::store::Store::note_sender`].
    pub async fn note_sender(&self, edge: &str, chat: ChatId) -> Result<()> {
        let call = script::NOTE_SENDER
            .call()
            .arg(self.keys().edges())
            .arg(self.keys().note_counts())
            .arg(self.keys().notes(edge))
            .arg(edge)
            .arg(chat.hex());
        self.commands().eval(&call).await.map(drop)
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
    pub async fn forget_note(&self, edge: &str, chat: ChatId) -> Result<()> {
        let (counts, notes) = (self.keys().note_counts(), self.keys().notes(edge));
        let call = script::FORGET_NOTE.call().arg(counts).arg(notes).arg(edge).arg(chat.hex());
        self.commands().eval(&call).await.map(drop)
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
