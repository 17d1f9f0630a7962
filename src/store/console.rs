//! Role: what the console needs of the store besides the use cases' own methods: lists of everything, the reports that
//! edges leave for each other, the store's own health, and the audit log. See the contract in [`super`].

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;

use super::{Result, Store};
use crate::domain::{
    Millis,
    id::{DeviceId, UserId},
};

/// One page of all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPage {
    /// The devices with their users. A page may repeat a device of another page, or name one that is just being
    /// deleted.
    pub devices: Vec<(UserId, DeviceId)>,
    /// The next page; none on the last page.
    pub next: Option<u64>,
}

/// The store's health. A value that the store doesn't report is none.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreHealth {
    /// `redis` or `embedded`.
    pub role: &'static str,
    /// How long a ping took.
    pub ping: Option<Duration>,
    /// Memory in use, in bytes.
    pub used_memory: Option<u64>,
    /// Maximum memory, in bytes; 0: no limit.
    pub max_memory: Option<u64>,
    /// Whether acknowledged writes reach the append-only file: `ok`, `off` or `failing`.
    pub aof: Option<&'static str>,
    /// Connected clients.
    pub clients: Option<u64>,
}

/// The kind of an entry in the audit log. Each kind has room of its own, so that neither pushes out the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditKind {
    /// A change.
    Change,
    /// A dry run, or a refused request.
    Attempt,
}

/// What the audit log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditKeep {
    /// The number of newest changes to keep, of any age.
    pub changes: usize,
    /// Changes younger than this are kept, of any number.
    pub age: Duration,
    /// The number of newest attempts to keep.
    pub attempts: usize,
}

/// The id of an entry in the audit log: the store's time, and a number within that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditId {
    /// When the entry was written.
    pub at: Millis,
    /// The entry's number within that millisecond.
    pub number: u64,
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at, self.number)
    }
}

/// The error for a text that isn't `<milliseconds>-<number>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the audit log is named by milliseconds, a hyphen and a number")]
pub struct BadAuditId;

impl FromStr for AuditId {
    type Err = BadAuditId;

    fn from_str(text: &str) -> std::result::Result<Self, BadAuditId> {
        let (at, number) = text.split_once('-').ok_or(BadAuditId)?;
        let digits =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Ok(Self { at: digits(at).ok_or(BadAuditId)?, number: digits(number).ok_or(BadAuditId)? })
    }
}

impl Store {
    /// Returns all devices, in any state, page by page, starting with page 0. A device that exists throughout is on one
    /// of the pages.
    pub async fn known_devices(&self, page: u64) -> Result<KnownPage> {
        each!(self.known_devices(page))
    }

    /// Stores an edge's report for the other edges, for `ttl`.
    pub async fn report(&self, edge: &str, figures: Bytes, ttl: Duration) -> Result<()> {
        each!(self.report(edge, figures, ttl))
    }

    /// Returns the reports of all edges that haven't expired, by edge.
    pub async fn reports(&self) -> Result<Vec<(String, Bytes)>> {
        each!(self.reports())
    }

    /// Returns the store's health.
    pub async fn health(&self) -> Result<StoreHealth> {
        each!(self.health())
    }

    /// Appends an entry to the audit log, behind all existing entries, and deletes the entries that `keep` doesn't
    /// keep. This is the one change here that isn't idempotent: a repetition writes the entry twice. The memory for it
    /// is always reserved.
    pub async fn audit(&self, kind: AuditKind, entry: Bytes, keep: AuditKeep) -> Result<AuditId> {
        each!(self.audit(kind, entry, keep))
    }

    /// Returns how many changes the audit log holds, after deleting those that `keep` doesn't keep.
    pub async fn audited_changes(&self, keep: AuditKeep) -> Result<usize> {
        each!(self.audited_changes(keep))
    }

    /// Returns at most `count` entries of the audit log below `before`, of both kinds, newest first.
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        each!(self.audited(before, count))
    }
}

#[cfg(test)]
#[path = "../../tests/unit/store/console.rs"]
mod tests;
