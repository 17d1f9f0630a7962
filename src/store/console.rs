//! What the console needs of the store beside the use cases' own methods: lists of everything, the figures that edges
//! leave for each other, how the store itself is, and the audit log. See the contract in [`super`].

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;

use super::{Result, Store};
use crate::domain::{
    Millis,
    id::{ChatId, DeviceId, UserId},
};

/// Some of all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPage {
    /// Whose, and which; a page may repeat what another had, and name one that is just going.
    pub devices: Vec<(UserId, DeviceId)>,
    /// The page behind it; none: that was the last.
    pub next: Option<u64>,
}

/// How the store is. What it doesn't tell is none.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreHealth {
    /// `redis` or `embedded`.
    pub role: &'static str,
    /// How long a ping took.
    pub ping: Option<Duration>,
    /// Bytes of memory that it uses.
    pub used_memory: Option<u64>,
    /// … and may use; 0: no limit.
    pub max_memory: Option<u64>,
    /// Whether what it acknowledges is written to its append-only file: `ok`, `off` or `failing`.
    pub aof: Option<&'static str>,
    /// Connected clients.
    pub clients: Option<u64>,
}

/// The place of an entry in the audit log: the store's time, and a number within that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditId {
    /// When it was written.
    pub at: Millis,
    /// Which of that millisecond.
    pub number: u64,
}

impl fmt::Display for AuditId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at, self.number)
    }
}

/// A text that isn't `<milliseconds>-<number>`.
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
    /// All devices, in any state, page by page, the first with 0. One that is there all the time is on one of the pages.
    pub async fn known_devices(&self, page: u64) -> Result<KnownPage> {
        each!(self.known_devices(page))
    }

    /// Leaves an edge's figures for the others, for `ttl`.
    pub async fn report(&self, edge: &str, figures: Bytes, ttl: Duration) -> Result<()> {
        each!(self.report(edge, figures, ttl))
    }

    /// The figures that edges have left and that haven't run out, by edge.
    pub async fn reports(&self) -> Result<Vec<(String, Bytes)>> {
        each!(self.reports())
    }

    /// How many messages of each of these chats NSQ hasn't confirmed, in their order.
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<u64>> {
        each!(self.outbox_sizes(chats))
    }

    /// How it is.
    pub async fn health(&self) -> Result<StoreHealth> {
        each!(self.health())
    }

    /// Writes an entry into the audit log, of which the newest `keep` stay. The one change here that isn't idempotent: asked
    /// for again it is there twice.
    pub async fn audit(&self, entry: Bytes, keep: usize) -> Result<AuditId> {
        each!(self.audit(entry, keep))
    }

    /// At most `count` entries of the audit log, newest first, from below `before` on.
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        each!(self.audited(before, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_id_has_one_spelling() {
        let id = AuditId { at: 1_795_229_488_218, number: 3 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "-", "1-", "-1", "1", "1-2-3", "+1-0", "1-99999999999999999999", "$", "1-*"] {
            assert_eq!(bad.parse::<AuditId>(), Err(BadAuditId), "{bad}");
        }
    }
}
