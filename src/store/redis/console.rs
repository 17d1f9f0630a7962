//! What the console needs: lists of everything, edges' figures, Redis's own health, the audit log.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::{
    RedisStore,
    error::{corrupt, failure},
    millis, script, value,
};
use crate::{
    domain::id::ChatId,
    store::{AuditId, KnownPage, Result, StoreHealth},
};

/// Devices that one step of a scan is to look at: it must not hold Redis long.
const SCAN: usize = 1_000;

impl RedisStore {
    /// See [`crate::store::Store::known_devices`]: a scan of the index of devices by when they are looked at.
    pub async fn known_devices(&self, page: u64) -> Result<KnownPage> {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(self.keys().due()).arg(page).arg("COUNT").arg(SCAN);
        let mut answer = value::list(self.bulk().run(&scan).await?)?.into_iter();
        let next = value::number(value::next(&mut answer)?)?;
        // Members and their scores, in turn.
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

    /// See [`crate::store::Store::outbox_sizes`].
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<u64>> {
        let mut read = redis::Pipeline::with_capacity(chats.len());
        for chat in chats {
            read.cmd("ZCARD").arg(self.keys().outbox(*chat));
        }
        self.commands().run_all(&read).await?.into_iter().map(value::number).collect()
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
                Ok(Value::VerbatimString { text, .. }) => info.push_str(&text),
                Ok(other) => info.push_str(&value::text(other)?),
                // Not every user may ask; then it isn't known.
                Err(err) if err.code() == Some("NOPERM") => {}
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
    pub async fn audit(&self, entry: Bytes, keep: usize) -> Result<AuditId> {
        let mut add = redis::cmd("XADD");
        add.arg(self.keys().audit()).arg("MAXLEN").arg(keep.max(1)).arg("*").arg("e").arg(&entry[..]);
        audit_id(self.commands().run(&add).await?)
    }

    /// See [`crate::store::Store::audited`].
    pub async fn audited(&self, before: Option<AuditId>, count: usize) -> Result<Vec<(AuditId, Bytes)>> {
        let mut read = redis::cmd("XREVRANGE");
        let from = before.map_or_else(|| "+".to_owned(), |before| format!("({before}"));
        read.arg(self.keys().audit()).arg(from).arg("-").arg("COUNT").arg(count);
        let entry = |entry: Value| {
            let mut parts = value::list(entry)?.into_iter();
            let id = audit_id(value::next(&mut parts)?)?;
            let mut fields = value::list(value::next(&mut parts)?)?.into_iter().skip(1);
            Ok((id, value::bytes(value::next(&mut fields)?)?))
        };
        value::list(self.bulk().run(&read).await?)?.into_iter().map(entry).collect()
    }
}

fn audit_id(answer: Value) -> Result<AuditId> {
    let text = value::text(answer)?;
    text.parse().map_err(|_| corrupt(format!("{text:?} isn't an entry of the audit log")))
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
