//! Terminations of devices; leases of background work, and counters with windows.

use std::time::Duration;

use super::{EmbeddedStore, Gone, State, TerminationRecord, millis};
use crate::{
    clock::store_instant,
    domain::{
        Millis,
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
        state.tidy();
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
        } else {
            // A record that was written late terminates nothing, and would be resumed without end.
            state.terminations.remove(&new.id);
        }
        if let Some(row) = state.row(&new.user, new.device)
            && row.device.state != DeviceState::Terminating
        {
            row.device.state = DeviceState::Terminating;
            row.device.generation += 1;
        }
        let chats = state.users.get(&new.user).map(|user| user.chats.clone()).unwrap_or_default();
        for chat in chats {
            if let Some(subscription) =
                state.chats.get_mut(&chat).and_then(|room| room.subscriptions.get_mut(&new.device))
            {
                subscription.fence = u64::MAX;
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
                room.subscriptions.remove(&device);
                room.ledger.forget(device);
            }
        }
        if state.owners.contains_key(&device) {
            state.mark(Gone::Device(device), self.limits().tombstones);
        }
        Ok(())
    }

    /// See [`crate::store::Store::try_acquire_lease`].
    pub async fn try_acquire_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let (mut state, now) = (self.state(), self.now());
        let until = now.saturating_add(millis(ttl));
        if let Some((other, held)) = state.work.get_mut(name)
            && now < *held
            && other != holder
        {
            // The clock was set back since.
            *held = until.min(*held);
            return Ok(false);
        }
        state.sweep(now);
        state.work.insert(name.to_owned(), (holder.to_owned(), until));
        Ok(true)
    }

    /// See [`crate::store::Store::release_lease`].
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<()> {
        let mut state = self.state();
        if state.work.get(name).is_some_and(|(other, _)| other == holder) {
            state.work.remove(name);
        }
        Ok(())
    }

    /// See [`crate::store::Store::count`].
    pub async fn count(&self, name: &str, window: Duration) -> Result<Count> {
        Ok(self.counted(name, window).await?.0)
    }
}

impl State {
    fn save(&mut self, termination: &Termination) {
        let now = store_instant();
        self.terminations.retain(|_, ending| ending.kept_until.is_none_or(|until| now < until));
        let further = |is: &Termination| {
            let less = termination.receipt.channels.len() < is.receipt.channels.len();
            match (is.state, termination.state) {
                (TerminationState::Done, _) | (TerminationState::Pending, TerminationState::Accepted) => true,
                (_, TerminationState::Done) => false,
                _ => less,
            }
        };
        let stands = self.terminations.get(&termination.id).map(|ending| &ending.record);
        if stands.is_some_and(further) {
            return;
        }
        let kept_until = (termination.state == TerminationState::Done).then(|| now + KEPT);
        self.terminations
            .insert(termination.id, TerminationRecord { record: termination.clone(), kept_until });
    }

    // Expired entries are swept when there are twice as many as remained the last time: cheap, and bounded.
    pub(super) fn sweep(&mut self, now: Millis) {
        if self.work.len() + self.counts.len() < self.sweep_at.max(1024) {
            return;
        }
        self.work.retain(|_, (_, until)| now < *until);
        self.counts.retain(|_, (_, until)| now < *until);
        self.sweep_at = 2 * (self.work.len() + self.counts.len());
    }
}
