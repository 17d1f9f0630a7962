//! The edges: the holder of each name, which edges live, and to which chats each appends.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{EmbeddedStore, State, millis};
use crate::{
    domain::{Millis, id::ChatId},
    store::{Beat, Claimed, Holder, Incarnation, OtherEdge, RegisteredSender, RegisteredSession, Result},
};

pub(super) struct Edge {
    alive: Millis,
    // The newest heartbeat, and how long it is good.
    beat: Option<(Instant, Duration)>,
    // The incarnation before, and its last heartbeat.
    before: Option<(String, Millis)>,
    // The registered chats, each with the token of its newest registration.
    notes: BTreeMap<ChatId, u64>,
    pub(super) sessions: HashSet<RegisteredSession>,
}

impl Edge {
    pub(super) fn new(now: Millis) -> Self {
        Self { alive: now, beat: None, before: None, notes: BTreeMap::new(), sessions: HashSet::new() }
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
    pub async fn claim_edge(&self, edge: &str, process: &str, dead: Option<&Holder>) -> Result<Claimed> {
        let mut state = self.state();
        if let Some(holder) = state.names.get(edge)
            && Some(holder) != dead
            && holder.process() != process
        {
            return Ok(Claimed::Held(holder.clone()));
        }
        state.hold(edge, Holder { incarnation: process.to_owned(), beat: 0 });
        Ok(Claimed::Ours)
    }

    /// See [`crate::store::Store::release_edge`].
    pub async fn release_edge(&self, edge: &str, process: &str) -> Result<()> {
        let mut state = self.state();
        if state.names.get(edge).is_some_and(|holder| holder.process() == process) {
            state.names.remove(edge);
        }
        Ok(())
    }

    /// See [`crate::store::Store::edge_alive`].
    pub async fn edge_alive(&self, by: &Incarnation, dead_after: Duration) -> Result<Beat> {
        let (mut state, now) = (self.state(), self.now());
        let holder = state.names.get(&by.edge);
        if holder.is_some_and(|holder| holder.process() != by.process) {
            return Ok(Beat::NameTaken);
        }
        if holder.is_some_and(|holder| holder.term() > by.term) {
            return Ok(Beat::Lapsed);
        }
        let beat = holder.map_or(0, |holder| holder.beat) + 1;
        state.hold(&by.edge, Holder { incarnation: by.id(), beat });
        let edge = state.edges.entry(by.edge.clone()).or_insert_with(|| Edge::new(now));
        (edge.alive, edge.beat) = (now, Some((Instant::now(), dead_after)));
        let State { edges, names, .. } = &mut *state;
        let others = edges.iter_mut().filter(|(name, _)| **name != by.edge);
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

    /// See [`crate::store::Store::lives`].
    #[must_use]
    pub fn lives(&self, edge: &str, incarnation: &str) -> bool {
        self.state().lives(edge, incarnation)
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

impl State {
    fn hold(&mut self, edge: &str, holder: Holder) {
        let was = self.names.insert(edge.to_owned(), holder);
        let Some(was) = was.filter(|was| self.names[edge].incarnation != was.incarnation) else { return };
        if let Some(edge) = self.edges.get_mut(edge) {
            (edge.before, edge.beat) = (Some((was.incarnation, edge.alive)), None);
        }
    }

    /// Returns whether an incarnation lives: by this table, and by the monotonic clock.
    pub(super) fn lives(&self, edge: &str, incarnation: &str) -> bool {
        let is_its = |holder: &Holder| holder.incarnation == incarnation;
        let beat = self.edges.get(edge).and_then(|edge| edge.beat);
        self.names.get(edge).is_some_and(is_its) && beat.is_some_and(|(at, long)| at.elapsed() < long)
    }

    /// Returns when an incarnation was last heard of; 0 if that isn't known.
    pub(super) fn last_heard(&self, edge: &str, incarnation: &str) -> Millis {
        let is_its = |holder: &Holder| holder.incarnation == incarnation;
        let Some(found) = self.edges.get(edge) else { return 0 };
        if self.names.get(edge).is_some_and(is_its) {
            return found.alive;
        }
        found.before.as_ref().filter(|(before, _)| before == incarnation).map_or(0, |(_, at)| *at)
    }
}
