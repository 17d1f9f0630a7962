//! The audit log of admins, written durably before they are answered. It contains no token, no content of a message, and nothing
//! that wasn't understood.
//!
//! Nobody can flush it: attempts (dry runs, refusals) have their own space, and changes stay by number *and* by age. Their number is
//! bounded all the same, so a change that couldn't be kept is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::{
        Millis,
        id::{DeviceId, UserId},
    },
    protocol::{ErrorCode, Problem},
    store::{AuditId, AuditKeep, AuditKind},
    sync::Core,
};

/// Entries per read.
const READ: usize = 1_000;

/// The actions of admins.
pub const ACTIONS: &[&str] = &["device.end", "user.kick", "channels.sweep"];

/// One action, as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The `sub` of the admin's token.
    pub who: UserId,
    /// The edge that did it.
    pub edge: String,
    /// One of [`ACTIONS`].
    pub action: String,
    /// Nothing was to be changed.
    pub dry_run: bool,
    /// The user concerned.
    pub user: Option<UserId>,
    /// The device concerned.
    pub device: Option<DeviceId>,
    /// `ok` or `refused`.
    pub result: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// The result.
    pub detail: Option<Value>,
}

/// One action, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Millis,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The filter of a query.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By this admin.
    pub who: Option<UserId>,
    /// This action.
    pub action: Option<&'static str>,
    /// From this time on.
    pub since: Option<Millis>,
    /// After this one.
    pub after: Option<AuditId>,
    /// At most this many; none: all.
    pub limit: Option<usize>,
}

/// Young changes are kept up to this multiple of the number that is kept in any case.
const MOST: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);

impl Entry {
    fn kind(&self) -> AuditKind {
        if self.dry_run || self.result != "ok" { AuditKind::Attempt } else { AuditKind::Change }
    }
}

fn kept(core: &Core) -> AuditKeep {
    let limits = &core.limits;
    AuditKeep { changes: limits.audit_keep, age: limits.audit_age, attempts: limits.audit_attempts_keep }
}

/// Checks whether an admin may begin this: within the rate, and no change that couldn't be kept.
///
/// # Errors
/// `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn admit(core: &Core, entry: &Entry) -> Result<(), Problem> {
    if entry.kind() == AuditKind::Attempt {
        return attempted(core, entry).await;
    }
    counted(core, entry, "changes", core.limits.audit_changes_per_minute).await?;
    let keep = kept(core);
    if core.store.audited_changes(keep).await? < keep.changes.saturating_mul(MOST) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::LimitReached,
        "the audit log is full of changes that are younger than KEEPSTEP_AUDIT_AGE, so nothing is changed: export it, and raise \
         KEEPSTEP_AUDIT_KEEP or lower KEEPSTEP_AUDIT_AGE",
    ))
}

/// Counts an attempt, which changes nothing.
///
/// # Errors
/// `too_many_requests`: then it isn't recorded, either. `unavailable`.
pub async fn attempted(core: &Core, entry: &Entry) -> Result<(), Problem> {
    counted(core, entry, "attempts", core.limits.audit_attempts_per_minute).await
}

async fn counted(core: &Core, entry: &Entry, what: &str, most: u32) -> Result<(), Problem> {
    let count = core.store.count(&format!("audit.{what}:{}", entry.who), MINUTE).await?;
    if count <= u64::from(most) {
        return Ok(());
    }
    if count == u64::from(most) + 1 {
        tracing::warn!(who = %entry.who, what, most, "admin rate exceeded: further calls in this minute are refused and not audited");
    }
    Err(Problem::new(
        ErrorCode::TooManyRequests,
        "too many calls of this admin in this minute: try again in the next",
    ))
}

/// Writes one entry.
///
/// # Errors
/// `unavailable`.
pub async fn record(core: &Core, entry: &Entry) -> Result<(), Problem> {
    let json = serde_json::to_vec(entry).map_err(|error| {
        tracing::error!(%error, "audit entry not written");
        Problem::new(ErrorCode::Unavailable, "audit log not written")
    })?;
    core.store.audit(entry.kind(), json.into(), kept(core)).await?;
    Ok(())
}

/// The newest first; and where the next page begins.
///
/// # Errors
/// `unavailable`.
pub async fn entries(core: &Core, wanted: &Wanted) -> Result<(Vec<Line>, Option<String>), Problem> {
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let (mut lines, mut before): (Vec<Line>, _) = (Vec::new(), wanted.after);
    loop {
        let read = core.store.audited(before, READ).await?;
        let end = read.len() < READ;
        for (id, json) in read {
            before = Some(id);
            if wanted.since.is_some_and(|since| id.at < since) {
                return Ok((lines, None));
            }
            // Entries of a newer version that this one can't read aren't shown.
            let Ok(entry) = serde_json::from_slice::<Entry>(&json) else { continue };
            let is_wanted = wanted.who.as_ref().is_none_or(|who| entry.who == *who)
                && wanted.action.is_none_or(|action| entry.action == action);
            if !is_wanted {
                continue;
            }
            if lines.len() == limit {
                let next = lines.last().map(|line| line.id.clone());
                return Ok((lines, next));
            }
            lines.push(Line { id: id.to_string(), at: id.at, entry });
        }
        if end {
            return Ok((lines, None));
        }
    }
}
