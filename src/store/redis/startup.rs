//! Checks at startup whether this Redis may be trusted with messages. The errors are sentences for whoever starts the
//! server.

use std::time::Duration;

use redis::{Cmd, RedisError, Value, aio::ConnectionLike};

use super::{RedisStore, error::failure, patience::answered, value};
use crate::store::{Result, StoreError};

/// Why a Redis isn't fit to be the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartupError {
    /// It doesn't answer. Not a refusal: ask again when it does.
    #[error("{0}")]
    Unreachable(StoreError),
    /// It would lose acknowledged writes.
    #[error(
        "Redis at {0} keeps no append-only file, so acknowledged messages would be lost on a crash. Set `appendonly \
         yes` (and `appendfsync always`), or start with --allow-volatile-store if losing them is fine."
    )]
    Volatile(String),
    /// It would evict keys.
    #[error(
        "Redis at {address} would evict keys when its memory is full (maxmemory-policy {policy}), and with them messages \
         and memberships. Set `maxmemory-policy noeviction`."
    )]
    Evicts {
        /// The Redis.
        address: String,
        /// Its policy.
        policy: String,
    },
    /// It wouldn't notify of read offsets.
    #[error(
        "Redis at {address} has keyspace events off, or doesn't let them be heard ({reason}), so read offsets would not reach \
         other devices. Set `notify-keyspace-events Kh` in its configuration or parameter group, and allow this user to subscribe \
         to `__keyspace@*` and its own channels."
    )]
    NoEvents {
        /// The Redis.
        address: String,
        /// Its answer.
        reason: String,
    },
    /// It has lost its data.
    #[error(
        "Redis at {address} holds nothing of Keepstep, but nsqd does (its topic {topic} says so): Redis has lost its data, \
         or is another one, and would number messages from 1 again. Bring its data back. If this is another deployment on \
         the same nsqd, give it another --redis-prefix. If the data is lost for good, delete the topics c.* and {topic} on \
         every nsqd and nsqlookupd, and start again."
    )]
    Emptied {
        /// The Redis.
        address: String,
        /// The topic that shows it.
        topic: String,
    },
    /// It doesn't show its configuration.
    #[error(
        "Redis at {address} doesn't show {what} ({reason}), so it can't be checked that it keeps what it is given. Allow \
         `CONFIG GET` to this user. If CONFIG isn't to be had (a managed Redis), see in its console that it has appendonly yes, \
         appendfsync always and maxmemory-policy noeviction, and start with KEEPSTEP_REDIS_TRUSTED=true."
    )]
    Hidden {
        /// The Redis.
        address: String,
        /// The settings.
        what: String,
        /// Its answer.
        reason: String,
    },
}

/// What an operator accepts responsibility for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trust {
    /// It may lose what it has acknowledged (no append-only file).
    pub volatile: bool,
    /// The settings that it doesn't show are correct.
    pub unseen: bool,
}

/// The settings that it shows. None: it doesn't show that one.
#[derive(Debug, Default)]
struct Shown {
    appendonly: Option<bool>,
    appendfsync: Option<String>,
    policy: Option<String>,
    events: Option<String>,
    /// Its answer when it was asked for its configuration.
    refusal: String,
}

impl RedisStore {
    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Checks that this Redis keeps what it acknowledges and notifies of changes; switches keyspace events on if they
    /// are off. If it denies access to its configuration, checks what it shows otherwise, and proves the events.
    /// Returns warnings: facts that an operator should know but that aren't refused.
    ///
    /// # Errors
    /// If it isn't fit, or ([`StartupError::Unreachable`]) doesn't answer.
    pub async fn startup_check(&self, trust: Trust) -> std::result::Result<Vec<String>, StartupError> {
        let address = || self.inner.address.clone();
        let mut warnings = Vec::new();
        let shown = self.shown().await?;
        if shown.appendonly == Some(false) {
            if !trust.volatile {
                return Err(StartupError::Volatile(address()));
            }
            warnings.push(format!(
                "Redis at {} keeps no append-only file: a crash of it loses acknowledged messages.",
                address()
            ));
        } else {
            let window = match shown.appendfsync.as_deref() {
                None | Some("always") => None,
                Some("everysec") => Some("up to two seconds"),
                Some(_) => Some("up to half a minute"),
            };
            warnings.extend(window.map(|window| {
                format!(
                    "Redis at {} doesn't write through (appendfsync isn't `always`): a crash can lose the acknowledged \
                     messages of {window}.",
                    address()
                )
            }));
        }
        if let Some(policy) = shown.policy.as_ref().filter(|policy| *policy != "noeviction") {
            return Err(StartupError::Evicts { address: address(), policy: policy.clone() });
        }
        let unseen = shown.unseen(trust);
        if !unseen.is_empty() {
            let (what, reason) = (unseen.join(", "), shown.refusal.clone());
            if !trust.unseen {
                return Err(StartupError::Hidden { address: address(), what, reason });
            }
            warnings.push(format!(
                "Redis at {} doesn't show {what} ({reason}): KEEPSTEP_REDIS_TRUSTED says that they are right.",
                address()
            ));
        }
        match &shown.events {
            Some(is) => self.switch_on(is).await?,
            None => self.prove_events().await?,
        }
        Ok(warnings)
    }

    /// Returns all settings that it shows, in one way or another.
    async fn shown(&self) -> std::result::Result<Shown, StartupError> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(&["appendonly", "appendfsync", "maxmemory-policy", "notify-keyspace-events"]);
        let refusal = match self.asked(&get).await? {
            Ok(answer) => {
                let pairs = value::pairs(answer).map_err(StartupError::Unreachable)?;
                let mut shown = Shown::default();
                for (name, setting) in pairs {
                    let setting = Some(value::text(setting).map_err(StartupError::Unreachable)?);
                    match name.as_str() {
                        "appendonly" => shown.appendonly = setting.map(|setting| setting != "no"),
                        "appendfsync" => shown.appendfsync = setting,
                        "maxmemory-policy" => shown.policy = setting,
                        "notify-keyspace-events" => shown.events = setting,
                        _ => {}
                    }
                }
                return Ok(shown);
            }
            Err(refusal) => refusal,
        };
        let mut shown = Shown { refusal, ..Shown::default() };
        let field = |info: &str, name: &str| super::console::field(info, name).map(str::to_owned);
        if let Some(info) = self.info("persistence").await? {
            shown.appendonly = field(&info, "aof_enabled").map(|enabled| enabled != "0");
        }
        if let Some(info) = self.info("memory").await? {
            shown.policy = field(&info, "maxmemory_policy");
        }
        Ok(shown)
    }

    /// Returns a section of INFO. Returns none if this user may not ask.
    async fn info(&self, section: &str) -> std::result::Result<Option<String>, StartupError> {
        let mut ask = redis::cmd("INFO");
        ask.arg(section);
        match self.asked(&ask).await? {
            Ok(answer) => super::console::info_text(answer).map(Some).map_err(StartupError::Unreachable),
            Err(_) => Ok(None),
        }
    }

    /// Adds the missing events to those that are on, if any are missing, and notifies all listeners.
    async fn switch_on(&self, is: &str) -> std::result::Result<(), StartupError> {
        let wanted = union(is);
        if wanted == is {
            return Ok(());
        }
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("notify-keyspace-events").arg(&wanted);
        if let Err(reason) = self.asked(&set).await? {
            return Err(StartupError::NoEvents { address: self.inner.address.clone(), reason });
        }
        let mut tell = redis::cmd("PUBLISH");
        tell.arg(self.keys().repaired()).arg("");
        self.commands().run(&tell).await.map_err(StartupError::Unreachable).map(drop)
    }

    /// Waits until an event has come for a probe.
    async fn prove_events(&self) -> std::result::Result<(), StartupError> {
        if self.inner.listener.is_proved().await {
            return Ok(());
        }
        if let Some(refusal) = self.refusal() {
            return Err(StartupError::Unreachable(StoreError::Unavailable(refusal)));
        }
        let reason = "no event came for a probe, and the setting isn't shown".to_owned();
        Err(StartupError::NoEvents { address: self.inner.address.clone(), reason })
    }

    // A denial of this very command is an answer, in words; a server that answers nothing, or can't now, is an error.
    async fn asked(
        &self,
        command: &Cmd,
    ) -> std::result::Result<std::result::Result<Value, String>, StartupError> {
        match self.commands().raw(command).await.map_err(StartupError::Unreachable)? {
            Ok(answer) => Ok(Ok(answer)),
            Err(err) if is_denied(&err) => Ok(Err(err.to_string())),
            Err(err) => Err(StartupError::Unreachable(failure(&err))),
        }
    }
}

impl Shown {
    /// Returns the settings that matter and weren't shown, except the events: those are proved.
    fn unseen(&self, trust: Trust) -> Vec<&'static str> {
        let mut unseen = Vec::new();
        if !trust.volatile && self.appendonly.is_none() {
            unseen.push("appendonly");
        }
        if !trust.volatile && self.appendonly != Some(false) && self.appendfsync.is_none() {
            unseen.push("appendfsync");
        }
        if self.policy.is_none() {
            unseen.push("maxmemory-policy");
        }
        unseen
    }
}

/// Returns whether this command is unavailable, for this user or for all.
pub(super) fn is_denied(err: &RedisError) -> bool {
    matches!(err.code(), Some("ERR" | "NOPERM"))
}

/// Adds what this store needs to the events that are switched on, and removes nothing that others need. If something
/// was missing, notifies every listener on the channel `repaired` that it may have missed events. Each request must be
/// answered within the deadline.
pub(super) async fn switch_on_events(
    connection: &mut impl ConnectionLike,
    repaired: &str,
    deadline: Duration,
) -> std::result::Result<(), RedisError> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let is = answered(deadline, connection.req_packed_command(&get)).await?.extract_error()?;
    let is = setting_from(is).unwrap_or_default();
    let wanted = union(&is);
    if wanted != is {
        let mut set = redis::pipe();
        set.cmd("CONFIG").arg("SET").arg("notify-keyspace-events").arg(wanted);
        set.cmd("PUBLISH").arg(repaired).arg("");
        for answer in answered(deadline, connection.req_packed_commands(&set, 0, 2)).await? {
            answer.extract_error()?;
        }
    }
    Ok(())
}

fn setting_from(answer: Value) -> Result<String> {
    let pair = value::pairs(answer)?.into_iter().next();
    pair.map_or_else(|| Ok(String::new()), |(_, value)| value::text(value))
}

// K: events by key; h: of hashes (A means all kinds).
fn union(is: &str) -> String {
    let mut all = is.to_owned();
    if !is.contains('K') {
        all.push('K');
    }
    if !is.contains(['h', 'A']) {
        all.push('h');
    }
    all
}

#[cfg(test)]
#[path = "../../../tests/unit/store/redis/startup.rs"]
mod tests;
