//! What the console needs: lists of everything, edges' reports, Redis's own health, the audit log.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::{
    RedisStore,
    error::{corrupt, failure},
    millis, script,
    startup::is_denied,
    value,
};
use crate::store::{AuditId, AuditKeep, AuditKind, KnownPage, Result, StoreHealth};

/// Devices per step of a scan: a step must not hold Redis long.
const SCAN: usize = 1_000;

impl RedisStore {
    /// See [`crate::store::Store::known_devices`]: a scan of the index of devices by due check.
    pub async fn known_devices(&self, page: u64) -> Result<KnownPage> {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(self.keys().due()).arg(page).arg("COUNT").arg(SCAN);
        let mut answer = value::list(self.bulk().run(&scan).await?)?.into_iter();
        let next = value::number(value::next(&mut answer)?)?;
        // Members and their scores alternate.
        let members = value::list(value::next(&mut answer)?)?.into_iter().step_by(2);
        let devices = members.map(super::expiry::due_from).collect::<Result<_>>()?;
        Ok(KnownPage { devices, next: (next != 0).then_some(next) })
    }

    /// See [`crate::store::Store::report`].
    pub async fn report(&self, edge: &str, figures: Bytes, ttl: Duration) -> Result<()> {
        let call = script::REPORT.call().arg(self.keys().reports()).arg(edge).arg(millis(ttl));
        self.commands().eval(&call.arg(&figures[..])).await.map(drop)
    }

    /// See [`crate::store::Store::reports`].
    pub async fn reports(&self) -> Result<Vec<(String, Bytes)>> {
        let call = script::REPORTS.call().arg(self.keys().reports());
        let pairs = value::pairs(self.commands().eval(&call).await?)?;
        let pairs = pairs.into_iter().map(|(edge, figures)| Ok((edge, value::bytes(figures)?)));
        let mut reports = pairs.collect::<Result<Vec<_>>>()?;
        reports.sort_unstable();
        Ok(reports)
    }

    /// See [`crate::store::Store::health`].
    pub async fn health(&self) -> Result<StoreHealth> {
        let begun = Instant::now();
        self.commands().run(&redis::cmd("PING")).await?;
        let ping = begun.elapsed();
        let mut info = String::new();
        for section in ["memory", "clients", "persistence"] {
            let mut ask = redis::cmd("INFO");
            ask.arg(section);
            match self.bulk().raw(&ask).await? {
                Ok(answer) => info.push_str(&info_text(answer)?),
                // Not every user may ask; the value is unknown then.
                Err(err) if is_denied(&err) => {}
                Err(err) => return Err(failure(&err)),
            }
            info.push('\n');
        }
        let aof = match (field(&info, "aof_enabled"), field(&info, "aof_last_write_status")) {
            (Some("0"), _) => Some("off"),
            (Some(_), Some("ok")) => Some("ok"),
            (Some(_), Some(_)) => Some("failing"),
            _ => None,
        };
        let number = |name: &str| field(&info, name)?.parse().ok();
        Ok(StoreHealth {
            role: "redis",
            ping: Some(ping),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
            aof,
            clients: number("connected_clients"),
        })
    }

    /// See [`crate::store::Store::audit`].
    pub async fn audit(&self, kind: AuditKind, entry: Bytes, keep: AuditKeep) -> Result<AuditId> {
        let part = match kind {
            AuditKind::Change => "changes",
            AuditKind::Attempt => "attempts",
        };
        audit_id(self.keep_audit(part, &entry, keep).await?.0)
    }

    /// See [`crate::store::Store::audited_changes`].
    pub async fn audited_changes(&self, keep: AuditKeep) -> Result<usize> {
        let held = value::number(self.keep_audit("", &[], keep).await?.1)?;
        Ok(usize::try_from(held).unwrap_or(usize::MAX))
    }

    async fn keep_audit(&self, part: &str, entry: &[u8], keep: AuditKeep) -> Result<(Value, Value)> {
        let call = script::AUDIT.call().arg(self.keys().audit()).arg(self.keys().audit_attempts());
        let call = call.arg(part).arg(entry).arg(keep.changes.max(1));
        let age = u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX >> 12);
        let call = call.arg(age).arg(keep.attempts.max(1));
        let mut answer = value::list(self.commands().eval(&call).await?)?.into_iter();
        Ok((value::next(&mut answer)?, value::next(&mut answer)?))
    }

    /// See [`crate::store::Store::audited`].
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        let mut read = redis::pipe();
        let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        for key in [self.keys().audit(), self.keys().audit_attempts()] {
            read.cmd("XREVRANGE").arg(key).arg(&from).arg("-").arg("COUNT").arg(count);
        }
        let entry = |entry: Value| {
            let mut parts = value::list(entry)?.into_iter();
            let id = audit_id(value::next(&mut parts)?)?;
            let mut fields = value::list(value::next(&mut parts)?)?.into_iter().skip(1);
            Ok((id, value::bytes(value::next(&mut fields)?)?))
        };
        let mut all = Vec::new();
        for part in self.bulk().run_all(&read).await? {
            for one in value::list(part)? {
                all.push(entry(one)?);
            }
        }
        all.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        all.truncate(count);
        Ok(all)
    }
}

fn audit_id(answer: Value) -> Result<AuditId> {
    let text = value::text(answer)?;
    text.parse().map_err(|_| corrupt(format!("{text:?} isn't an entry of the audit log")))
}

/// Returns the text of an INFO answer.
pub(super) fn info_text(answer: Value) -> Result<String> {
    match answer {
        Value::VerbatimString { text, .. } => Ok(text),
        other => value::text(other),
    }
}

/// Returns a field of an INFO answer.
pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
