//! What admins did: written durably before they are answered. No token, no content of a message, and nothing that wasn't
//! understood is in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::{
        Millis,
        id::{DeviceId, UserId},
    },
    protocol::{ErrorCode, Problem},
    store::AuditId,
    sync::Core,
};

/// Entries that are read at a time.
const READ: usize = 1_000;

/// What admins do.
pub const ACTIONS: &[&str] = &["device.end", "user.kick", "channels.sweep"];

/// One action, as it is kept.
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
    /// Whom it was about.
    pub user: Option<UserId>,
    /// What it was about.
    pub device: Option<DeviceId>,
    /// `ok` or `refused`.
    pub result: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// What came of it.
    pub detail: Option<Value>,
}

/// One action, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its place.
    pub id: String,
    /// When.
    pub at: Millis,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Which are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this admin.
    pub who: Option<UserId>,
    /// This action.
    pub action: Option<&'static str>,
    /// From then on.
    pub since: Option<Millis>,
    /// Behind this one.
    pub after: Option<AuditId>,
    /// At most so many; none: all.
    pub limit: Option<usize>,
}

/// Writes one.
///
/// # Errors
/// `unavailable`.
pub async fn record(core: &Core, entry: &Entry) -> Result<(), Problem> {
    let json = serde_json::to_vec(entry).map_err(|error| {
        tracing::error!(%error, "an entry of the audit log can't be written");
        Problem::new(ErrorCode::Unavailable, "the audit log can't be written")
    })?;
    core.store.audit(json.into(), core.limits.audit_keep).await?;
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
            // What a newer version wrote and this one can't read isn't shown.
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
