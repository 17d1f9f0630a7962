//! What the console needs: lists of everything, edges' reports, the audit log.

use std::{collections::VecDeque, time::Duration};

use super::{EmbeddedStore, State};
use crate::{
    clock::{store_instant, store_millis},
    store::{AuditId, AuditKeep, AuditKind, KnownPage, Result, StoreHealth},
};
use bytes::Bytes;

impl EmbeddedStore {
    /// See [`crate::store::Store::known_devices`]. All is one page.
    pub async fn known_devices(&self, _page: u64) -> Result<KnownPage> {
        let state = self.state();
        let of_user = |(user, rows): (&_, &super::User)| {
            rows.devices.keys().map(|device| (Clone::clone(user), *device)).collect::<Vec<_>>()
        };
        Ok(KnownPage { devices: state.users.iter().flat_map(of_user).collect(), next: None })
    }

    /// See [`crate::store::Store::report`].
    pub async fn report(&self, edge: &str, figures: Bytes, ttl: Duration) -> Result<()> {
        let (mut state, now) = (self.state(), store_instant());
        state.reports.retain(|_, (_, until)| *until > now);
        state.reports.insert(edge.to_owned(), (figures, now + ttl));
        Ok(())
    }

    /// See [`crate::store::Store::reports`].
    pub async fn reports(&self) -> Result<Vec<(String, Bytes)>> {
        let (state, now) = (self.state(), store_instant());
        let live = state.reports.iter().filter(|(_, (_, until))| *until > now);
        Ok(live.map(|(edge, (figures, _))| (edge.clone(), figures.clone())).collect())
    }

    /// See [`crate::store::Store::health`].
    pub async fn health(&self) -> Result<StoreHealth> {
        let (ping, used_memory, max_memory, aof, clients) = (None, None, None, None, None);
        Ok(StoreHealth { role: "embedded", ping, used_memory, max_memory, aof, clients })
    }

    /// See [`crate::store::Store::audit`].
    pub async fn audit(&self, kind: AuditKind, entry: Bytes, keep: AuditKeep) -> Result<AuditId> {
        let (mut state, at) = (self.state(), store_millis());
        let last = [&state.audit, &state.audit_attempts].into_iter().filter_map(|part| part.back()).max();
        let id = match last.map(|(id, _)| *id) {
            // This also holds if the clock is set back.
            Some(last) if last.at >= at => AuditId { at: last.at, number: last.number + 1 },
            _ => AuditId { at, number: 0 },
        };
        match kind {
            AuditKind::Change => state.audit.push_back((id, entry)),
            AuditKind::Attempt => state.audit_attempts.push_back((id, entry)),
        }
        state.let_go_of_audit(keep);
        Ok(id)
    }

    /// See [`crate::store::Store::audited_changes`].
    pub async fn audited_changes(&self, keep: AuditKeep) -> Result<usize> {
        let mut state = self.state();
        state.let_go_of_audit(keep);
        Ok(state.audit.len())
    }

    /// See [`crate::store::Store::audited`].
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        let state = self.state();
        let part = |part: &VecDeque<(AuditId, Bytes)>| {
            let below = part.iter().rev().filter(|(id, _)| before.is_none_or(|before| *id < before));
            below.take(count).cloned().collect::<Vec<_>>()
        };
        let mut all = [part(&state.audit), part(&state.audit_attempts)].concat();
        all.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        all.truncate(count);
        Ok(all)
    }
}

impl State {
    fn let_go_of_audit(&mut self, keep: AuditKeep) {
        while self.audit_attempts.len() > keep.attempts.max(1) {
            self.audit_attempts.pop_front();
        }
        let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX);
        let is_old = |id: &AuditId| id.at.saturating_add(age) <= store_millis();
        while self.audit.len() > keep.changes.max(1) && self.audit.front().is_some_and(|(id, _)| is_old(id)) {
            self.audit.pop_front();
        }
    }
}
