//! Role: the edges themselves: their names, whether they live, and to which chats each appends. (The sessions role
//! registers the sessions of each edge.) These registrations let other edges find what a dead edge leaves.

use std::time::Duration;

use super::{Result, Store};
use crate::domain::{Millis, id::ChatId};

/// A chat registered for an edge as sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisteredSender {
    /// The chat.
    pub chat: ChatId,
    /// A new token for each registration; 0 in a registration of an older build.
    pub token: u64,
}

/// One life of an edge: from the start of its process, or from its recovery after its lease had run out. Records of
/// devices name it, and the heartbeats of the edge are its lease. An incarnation that has ended doesn't come back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The edge's name.
    pub edge: String,
    /// The edge's process: letters, digits and dashes.
    pub process: String,
    /// How often the lease of this process had run out before.
    pub term: u64,
}

impl Incarnation {
    /// Returns `<process>.<term>`, as records name it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}.{}", self.process, self.term)
    }
}

/// Another edge, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherEdge {
    /// The edge's name.
    pub name: String,
    /// The time of the edge's last heartbeat, by the store's clock. The edge lives as long as this moves on.
    pub alive: Millis,
    /// Whether that heartbeat is older than the time asked about, by the same clock.
    pub silent: bool,
    /// Whether chats or sessions are registered for the edge.
    pub noted: bool,
    /// The holder of the edge's name, if it has one.
    pub holder: Option<Holder>,
}

/// The result of [`Store::edge_alive`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// All other edges.
    Heard(Vec<OtherEdge>),
    /// This process goes on under a later term by now: the call was executed late, and nothing changed.
    Lapsed,
    /// Another process has the edge's name by now.
    NameTaken,
}

/// The holder of a name: a process, and how many heartbeats it has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Distinguishes the process from others under the name: its id, or, after its first heartbeat, the id of its
    /// incarnation ([`Incarnation::id`]).
    pub incarnation: String,
    /// The process lives as long as this moves on.
    pub beat: u64,
}

impl Holder {
    /// Returns the process.
    #[must_use]
    pub fn process(&self) -> &str {
        self.incarnation.split_once('.').map_or(&self.incarnation, |(process, _)| process)
    }

    /// Returns the term; 0 before the first heartbeat.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.incarnation.split_once('.').and_then(|(_, term)| term.parse().ok()).unwrap_or(0)
    }
}

/// The result of [`Store::claim_edge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// This process holds the name.
    Ours,
    /// Another process holds the name.
    Held(Holder),
}

impl Store {
    /// Claims the name `edge` for a process: if the name is free, is its own already, or still has the holder `dead`,
    /// which was seen to send no more heartbeats.
    pub async fn claim_edge(&self, edge: &str, process: &str, dead: Option<&Holder>) -> Result<Claimed> {
        each!(self.claim_edge(edge, process, dead))
    }

    /// Releases the name if this process holds it.
    pub async fn release_edge(&self, edge: &str, process: &str) -> Result<()> {
        each!(self.release_edge(edge, process))
    }

    /// Sends the heartbeat of this incarnation under its edge's name (and claims the name if nobody holds it): its lease
    /// lasts for `dead_after`, and ends when a later term begins. Returns the other edges; an edge without a heartbeat
    /// for `dead_after` is marked silent. By these answers this handle knows which incarnations live, so a read of a
    /// device costs no further call.
    pub async fn edge_alive(&self, by: &Incarnation, dead_after: Duration) -> Result<Beat> {
        each!(self.edge_alive(by, dead_after))
    }

    /// Returns whether an incarnation lives, as of the newest answer to a heartbeat of this handle.
    #[must_use]
    pub fn lives(&self, edge: &str, incarnation: &str) -> bool {
        now!(self.lives(edge, incarnation))
    }

    /// Deletes a dead edge from the list, unless it has registrations or sent a heartbeat since the caller read it.
    /// Also releases its name, unless the name's holder has changed.
    pub async fn forget_edge(&self, dead: &OtherEdge) -> Result<()> {
        each!(self.forget_edge(dead))
    }

    /// Registers durably that this edge appends to this chat, so that another edge finds its outbox if this edge dies.
    /// Call it once per edge and chat, before the first append. The call also counts as a heartbeat.
    pub async fn register_sender(&self, edge: &str, chat: ChatId) -> Result<RegisteredSender> {
        each!(self.register_sender(edge, chat))
    }

    /// Returns the chats registered for an edge.
    pub async fn registered_senders(&self, edge: &str) -> Result<Vec<RegisteredSender>> {
        each!(self.registered_senders(edge))
    }

    /// Deletes sender registrations, once the chats' outboxes are empty and the edge doesn't send there. Keeps a
    /// registration that was renewed since. No-op if the edge sent a heartbeat within `silence`, because it may rely on
    /// the registration again. Each deletion is one step.
    pub async fn unregister_senders(
        &self,
        edge: &str,
        notes: &[RegisteredSender],
        silence: Duration,
    ) -> Result<()> {
        each!(self.unregister_senders(edge, notes, silence))
    }
}
