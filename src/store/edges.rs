//! The edges themselves: their names, whether they live, and to which chats each appends. (Which sessions each has is noted
//! with the sessions.) So what a dead edge leaves is found.

use std::time::Duration;

use super::{Result, Store};
use crate::domain::{Millis, id::ChatId};

/// A chat noted for an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedChat {
    /// Which.
    pub chat: ChatId,
    /// New each time that it is noted; 0 in a note of an older build.
    pub token: u64,
}

/// Another edge, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEdge {
    /// Its name.
    pub name: String,
    /// When it last said that it lives, by the store's clock: as long as that moves on, it does.
    pub alive: Millis,
    /// Whether that is longer ago than was asked about, by the same clock.
    pub silent: bool,
    /// Whether chats or sessions are noted for it.
    pub noted: bool,
    /// Who has its name, if anybody has.
    pub holder: Option<Holder>,
}

/// What [`Store::edge_alive`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// All other edges.
    Heard(Vec<OtherEdge>),
    /// Another process has the edge's name by now.
    NameTaken,
}

/// Who has a name: a process, and how often it has said that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Tells the process from others under the name.
    pub incarnation: String,
    /// As long as this moves on, it lives.
    pub beat: u64,
}

/// What [`Store::claim_edge`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The name is this process's.
    Ours,
    /// It is another's.
    Held(Holder),
}

impl Store {
    /// Takes the name `edge` for the process `incarnation`: if it is free, is its own already, or still is as `dead` says, a
    /// holder that was seen to say nothing any more.
    pub async fn claim_edge(&self, edge: &str, incarnation: &str, dead: Option<&Holder>) -> Result<Claimed> {
        each!(self.claim_edge(edge, incarnation, dead))
    }

    /// Gives the name back, if it is this process's.
    pub async fn release_edge(&self, edge: &str, incarnation: &str) -> Result<()> {
        each!(self.release_edge(edge, incarnation))
    }

    /// Says that this process lives under its name (which it takes if nobody has it), and answers the other edges, each
    /// silent if it hasn't said so for `dead_after`.
    pub async fn edge_alive(&self, edge: &str, incarnation: &str, dead_after: Duration) -> Result<Beat> {
        each!(self.edge_alive(edge, incarnation, dead_after))
    }

    /// Takes a dead edge off the list, unless it has notes, or has said that it lives since it was read; with its name, unless
    /// that isn't held as it was any more.
    pub async fn forget_edge(&self, dead: &OtherEdge) -> Result<()> {
        each!(self.forget_edge(dead))
    }

    /// Notes durably that this edge appends to this chat, so that another edge finds its outbox should this one die.
    /// Called once per edge and chat, before the first append. The edge lives by that, too.
    pub async fn note_sender(&self, edge: &str, chat: ChatId) -> Result<NotedChat> {
        each!(self.note_sender(edge, chat))
    }

    /// The chats noted for an edge.
    pub async fn noted_chats(&self, edge: &str) -> Result<Vec<NotedChat>> {
        each!(self.noted_chats(edge))
    }

    /// Forgets notes, once the chats' outboxes are empty and the edge doesn't send there; not what was noted again since, and
    /// not of an edge that said within `silence` that it lives, because it may rely on it again. Each is one step.
    pub async fn forget_notes(&self, edge: &str, notes: &[NotedChat], silence: Duration) -> Result<()> {
        each!(self.forget_notes(edge, notes, silence))
    }
}
