//! What the console needs: lists of everything, edges' figures, the audit log.

use std::time::Duration;

use super::EmbeddedStore;
use crate::{
    chance::{store_instant, store_millis},
    store::{AuditId, KnownPage, Result, StoreHealth},
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
    pub async fn audit(&self, entry: Bytes, keep: usize) -> Result<AuditId> {
        let (mut state, at) = (self.state(), store_millis());
        let id = match state.audit.back() {
            // Also should the clock be set back.
            Some((last, _)) if last.at >= at => AuditId { at: last.at, number: last.number + 1 },
            _ => AuditId { at, number: 0 },
        };
        state.audit.push_back((id, entry));
        while state.audit.len() > keep.max(1) {
            state.audit.pop_front();
        }
        Ok(id)
    }

    /// See [`crate::store::Store::audited`].
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        let state = self.state();
        let below = state.audit.iter().rev().filter(|(id, _)| before.is_none_or(|before| *id < before));
        Ok(below.take(count).cloned().collect())
    }
}
