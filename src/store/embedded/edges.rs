//! The edges: the holder of each name, which edges live, and to which chats each appends.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::{EmbeddedStore, State, millis};
use crate::{
    domain::{Millis, id::ChatId},
    store::{Beat, Claimed, Holder, OtherEdge, RegisteredSender, RegisteredSession, Result},
};

pub(super) struct Edge {
    alive: Millis,
    // The registered chats, each with the token of its newest registration.
    notes: BTreeMap<ChatId, u64>,
    pub(super) sessions: HashSet<RegisteredSession>,
}

impl Edge {
    pub(super) fn new(now: Millis) -> Self {
        Self { alive: now, notes: BTreeMap::new(), sessions: HashSet::new() }
    }

    fn has_notes(&self) -> bool {
        !self.notes.is_empty() || !self.sessions.is_empty()
    }

    /// Returns whether the edge sent a heartbeat within `silence`.
    pub(super) fn is_heard(&self, now: Millis, silence: Duration) -> bool {
        !silence.is_zero() && now.saturating_sub(self.alive) < millis(silence)
    }
}

impl EmbeddedStore {
    /// See [`crate::store::Store::claim_edge`].
    pub async fn claim_edge(&self, edge: &str, incarnation: &str, dead: Option<&Holder>) -> Result<Claimed> {
        let mut state = self.state();
        if let Some(holder) = state.names.get(edge)
            && Some(holder) != dead
            && holder.incarnation != incarnation
        {
            return Ok(Claimed::Held(holder.clone()));
        }
        let ours = Holder { incarnation: incarnation.to_owned(), beat: 0 };
        state.names.insert(edge.to_owned(), ours);
        Ok(Claimed::Ours)
    }

    /// See [`crate::store::Store::release_edge`].
    pub async fn release_edge(&self, edge: &str, incarnation: &str) -> Result<()> {
        let mut state = self.state();
        if state.names.get(edge).is_some_and(|holder| holder.incarnation == incarnation) {
            state.names.remove(edge);
        }
        Ok(())
    }

    /// See [`crate::store::Store::edge_alive`].
    pub async fn edge_alive(&self, edge: &str, incarnation: &str, dead_after: Duration) -> Result<Beat> {
        let (mut state, now) = (self.state(), self.now());
        let free = || Holder { incarnation: incarnation.to_owned(), beat: 0 };
        let holder = state.names.entry(edge.to_owned()).or_insert_with(free);
        if holder.incarnation != incarnation {
            return Ok(Beat::NameTaken);
        }
        holder.beat += 1;
        state.edges.entry(edge.to_owned()).or_insert_with(|| Edge::new(now)).alive = now;
        let State { edges, names, .. } = &mut *state;
        let others = edges.iter_mut().filter(|(name, _)| *name != edge);
        let mut others: Vec<_> = others
            .map(|(name, other)| {
                // The clock was set back since: the edge's silence begins now.
                other.alive = other.alive.min(now);
                let silent = now.saturating_sub(other.alive) >= millis(dead_after);
                let (noted, holder) = (other.has_notes(), names.get(name).cloned());
                OtherEdge { name: name.clone(), alive: other.alive, silent, noted, holder }
            })
            .collect();
        others.sort_unstable_by(|one, other| (one.alive, &one.name).cmp(&(other.alive, &other.name)));
        Ok(Beat::Heard(others))
    }

    /// See [`crate::store::Store::forget_edge`].
    pub async fn forget_edge(&self, dead: &OtherEdge) -> Result<()> {
        let mut state = self.state();
        let is = state.edges.get(&dead.name);
        if is.is_none_or(|is| !is.has_notes() && is.alive == dead.alive) {
            state.edges.remove(&dead.name);
            // Another process may hold the name by now.
            if state.names.get(&dead.name) == dead.holder.as_ref() {
                state.names.remove(&dead.name);
            }
        }
        Ok(())
    }

    /// See [`crate::store::Store::register_sender`].
    pub async fn register_sender(&self, edge: &str, chat: ChatId) -> Result<RegisteredSender> {
        let (mut state, now) = (self.state(), self.now());
        state.last_token += 1;
        let token = state.last_token;
        let edge = state.edges.entry(edge.to_owned()).or_insert_with(|| Edge::new(now));
        edge.alive = now;
        edge.notes.insert(chat, token);
        Ok(RegisteredSender { chat, token })
    }

    /// See [`crate::store::Store::registered_senders`].
    pub async fn registered_senders(&self, edge: &str) -> Result<Vec<RegisteredSender>> {
        let state = self.state();
        let notes = state.edges.get(edge).map(|edge| &edge.notes);
        let noted =
            notes.into_iter().flatten().map(|(chat, token)| RegisteredSender { chat: *chat, token: *token });
        Ok(noted.collect())
    }

    /// See [`crate::store::Store::unregister_senders`].
    pub async fn unregister_senders(
        &self,
        edge: &str,
        notes: &[RegisteredSender],
        silence: Duration,
    ) -> Result<()> {
        let (mut state, now) = (self.state(), self.now());
        let Some(edge) = state.edges.get_mut(edge).filter(|edge| !edge.is_heard(now, silence)) else {
            return Ok(());
        };
        for note in notes {
            if edge.notes.get(&note.chat) == Some(&note.token) {
                edge.notes.remove(&note.chat);
            }
        }
        Ok(())
    }
}
