//! Ending a device; leased work, windows that count, and the notes of edges.

use std::time::Duration;

use tokio::time::Instant;

use super::{Edge, EmbeddedStore, Ending, State};
use crate::{
    chance::store_instant,
    domain::{
        device::DeviceState,
        id::{ChatId, DeviceId, TerminationId, UserId},
        termination::{Receipt, Termination, TerminationState},
    },
    store::{Count, Result},
};

/// How long the receipt of a finished termination is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

impl EmbeddedStore {
    /// See [`crate::store::Store::begin_termination`].
    pub async fn begin_termination(&self, new: &Termination) -> Result<Option<Termination>> {
        let mut state = self.state();
        let there = state.row(&new.user, new.device).is_some();
        let Some(owner) = state.owners.get_mut(&new.device).filter(|owner| owner.user == new.user) else {
            return Ok(None);
        };
        if !there && owner.terminated.is_none() {
            return Ok(None);
        }
        let id = *owner.terminated.get_or_insert(new.id);
        if id == new.id {
            state.save(new);
        }
        if let Some(row) = state.row(&new.user, new.device)
            && row.device.state != DeviceState::Terminating
        {
            row.device.state = DeviceState::Terminating;
            row.device.generation += 1;
        }
        let chats = state.users.get(&new.user).map(|user| user.chats.clone()).unwrap_or_default();
        for chat in chats {
            if let Some(debt) = state.chats.get_mut(&chat).and_then(|room| room.owed.get_mut(&new.device)) {
                debt.fence = u64::MAX;
            }
        }
        let record = state.terminations.get(&id).map(|ending| ending.record.clone());
        Ok(Some(record.unwrap_or_else(|| Termination {
            id,
            state: TerminationState::Done,
            receipt: Receipt::default(),
            ..new.clone()
        })))
    }

    /// See [`crate::store::Store::termination`].
    pub async fn termination(&self, id: TerminationId) -> Result<Option<Termination>> {
        let state = self.state();
        let kept = state.terminations.get(&id);
        let kept = kept.filter(|ending| ending.kept_until.is_none_or(|until| store_instant() < until));
        Ok(kept.map(|ending| ending.record.clone()))
    }

    /// See [`crate::store::Store::save_termination`].
    pub async fn save_termination(&self, termination: &Termination) -> Result<()> {
        self.state().save(termination);
        Ok(())
    }

    /// See [`crate::store::Store::unfinished_terminations`].
    pub async fn unfinished_terminations(&self) -> Result<Vec<TerminationId>> {
        let state = self.state();
        let unfinished = state.terminations.iter().filter(|(_, ending)| ending.kept_until.is_none());
        let mut ids: Vec<_> = unfinished.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// See [`crate::store::Store::forget_device`].
    pub async fn forget_device(&self, user: &UserId, device: DeviceId, chats: &[ChatId]) -> Result<()> {
        let mut state = self.state();
        if let Some(user) = state.users.get_mut(user) {
            user.devices.remove(&device);
        }
        state.edges.values_mut().for_each(|edge| edge.sessions.retain(|noted| noted.device != device));
        for chat in chats {
            if let Some(room) = state.chats.get_mut(chat) {
                room.owed.remove(&device);
            }
        }
        Ok(())
    }

    /// See [`crate::store::Store::take_work`].
    pub async fn take_work(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let (mut state, now) = (self.state(), store_instant());
        if state.work.get(name).is_some_and(|(other, until)| now < *until && other != holder) {
            return Ok(false);
        }
        state.sweep(now);
        state.work.insert(name.to_owned(), (holder.to_owned(), now + ttl));
        Ok(true)
    }

    /// See [`crate::store::Store::release_work`].
    pub async fn release_work(&self, name: &str, holder: &str) -> Result<()> {
        let mut state = self.state();
        if state.work.get(name).is_some_and(|(other, _)| other == holder) {
            state.work.remove(name);
        }
        Ok(())
    }

    /// See [`crate::store::Store::count`].
    pub async fn count(&self, name: &str, window: Duration) -> Result<Count> {
        let (mut state, now) = (self.state(), store_instant());
        state.sweep(now);
        let (count, until) = state.counts.entry(name.to_owned()).or_insert((0, now + window));
        if now >= *until {
            (*count, *until) = (0, now + window);
        }
        *count += 1;
        Ok(*count)
    }

    /// See [`crate::store::Store::note_sender`].
    pub async fn note_sender(&self, edge: &str, chat: ChatId) -> Result<()> {
        let mut state = self.state();
        let edge = state.edges.entry(edge.to_owned()).or_insert_with(Edge::new);
        edge.alive = store_instant();
        edge.notes.insert(chat);
        Ok(())
    }

    /// See [`crate::store::Store::noted_chats`].
    pub async fn noted_chats(&self, edge: &str) -> Result<Vec<ChatId>> {
        let state = self.state();
        Ok(state.edges.get(edge).map(|edge| edge.notes.iter().copied().collect()).unwrap_or_default())
    }

    /// See [`crate::store::Store::forget_note`].
    pub async fn forget_note(&self, edge: &str, chat: ChatId, silence: Duration) -> Result<()> {
        if let Some(edge) = self.state().edges.get_mut(edge)
            && store_instant().duration_since(edge.alive) >= silence
        {
            edge.notes.remove(&chat);
        }
        Ok(())
    }

    /// See [`crate::store::Store::forget_notes`].
    pub async fn forget_notes(&self, edge: &str, chats: &[ChatId], silence: Duration) -> Result<()> {
        for chat in chats {
            self.forget_note(edge, *chat, silence).await?;
        }
        Ok(())
    }

    /// See [`crate::store::Store::edge_alive`].
    pub async fn edge_alive(&self, edge: &str, dead_after: Duration) -> Result<Vec<String>> {
        let (mut state, now) = (self.state(), store_instant());
        let own = state.edges.entry(edge.to_owned());
        own.or_insert_with(Edge::new).alive = now;
        let silent = |other: &Edge| now.duration_since(other.alive) >= dead_after;
        state.edges.retain(|name, other| name == edge || !silent(other) || other.has_notes());
        let dead = state.edges.iter().filter(|(name, other)| *name != edge && silent(other));
        let mut dead: Vec<_> = dead.map(|(name, other)| (other.alive, name.clone())).collect();
        dead.sort_unstable();
        Ok(dead.into_iter().map(|(_, name)| name).collect())
    }

    /// See [`crate::store::Store::forget_edge`].
    pub async fn forget_edge(&self, edge: &str) -> Result<()> {
        let mut state = self.state();
        if state.edges.get(edge).is_some_and(|edge| !edge.has_notes()) {
            state.edges.remove(edge);
        }
        Ok(())
    }
}

impl State {
    fn save(&mut self, termination: &Termination) {
        let now = store_instant();
        self.terminations.retain(|_, ending| ending.kept_until.is_none_or(|until| now < until));
        let kept_until = (termination.state == TerminationState::Done).then(|| now + KEPT);
        self.terminations.insert(termination.id, Ending { record: termination.clone(), kept_until });
    }

    // Whatever has run out leaves when there is twice as much as was left the last time: cheap, and bounded.
    fn sweep(&mut self, now: Instant) {
        if self.work.len() + self.counts.len() < self.sweep_at.max(1024) {
            return;
        }
        self.work.retain(|_, (_, until)| now < *until);
        self.counts.retain(|_, (_, until)| now < *until);
        self.sweep_at = 2 * (self.work.len() + self.counts.len());
    }
}
