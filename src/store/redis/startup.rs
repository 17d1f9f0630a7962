//! Whether this Redis may be trusted with messages. The answers are sentences for whoever starts the server.

use redis::{Cmd, RedisError, Value, aio::ConnectionLike};

use super::{RedisStore, error::failure, value};
use crate::store::{Result, StoreError};

/// Why a Redis isn't fit to be the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartupError {
    /// It can't be asked. Not a refusal: ask again when it can.
    #[error("{0}")]
    Unreachable(StoreError),
    /// It would forget.
    #[error(
        "Redis at {0} keeps no append-only file, so acknowledged messages would be lost on a crash. Set `appendonly \
         yes` (and `appendfsync always`), or start with --allow-volatile-store if losing them is fine."
    )]
    Volatile(String),
    /// It would throw keys away.
    #[error(
        "Redis at {address} would evict keys when its memory is full (maxmemory-policy {policy}), and with them messages \
         and memberships. Set `maxmemory-policy noeviction`."
    )]
    Evicts {
        /// Which Redis.
        address: String,
        /// Its policy.
        policy: String,
    },
    /// It wouldn't tell of read offsets.
    #[error(
        "Redis at {address} doesn't let keyspace events be switched on ({reason}), so read offsets would not reach other \
         devices. Set `notify-keyspace-events Kh` in its configuration, or allow CONFIG to this user."
    )]
    NoEvents {
        /// Which Redis.
        address: String,
        /// What it said.
        reason: String,
    },
    /// It has lost what it held.
    #[error(
        "Redis at {address} holds nothing of Keepstep, but nsqd does (its topic {topic} says so): Redis has lost its data, \
         or is another one, and would number messages from 1 again. Bring its data back. If this is another deployment on \
         the same nsqd, give it another --redis-prefix. If the data is lost for good, delete the topics c.* and {topic} on \
         every nsqd and nsqlookupd, and start again."
    )]
    Emptied {
        /// Which Redis.
        address: String,
        /// The topic that says so.
        topic: String,
    },
    /// It doesn't tell its configuration.
    #[error(
        "Redis at {address} doesn't show its configuration ({reason}), so it can't be checked that it keeps what it is \
         given. Allow CONFIG GET to this user."
    )]
    Hidden {
        /// Which Redis.
        address: String,
        /// What it said.
        reason: String,
    },
}

impl RedisStore {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Looks whether this Redis keeps what it acknowledges and tells what changes; switches keyspace events on. Gives
    /// warnings: what to know though it isn't refused.
    ///
    /// # Errors
    /// When it isn't fit, or ([`StartupError::Unreachable`]) can't be asked.
    pub async fn startup_check(
        &self,
        allow_volatile: bool,
    ) -> std::result::Result<Vec<String>, StartupError> {
        let address = || self.inner.address.clone();
        let mut warnings = Vec::new();
        if self.setting("appendonly").await? == "no" {
            if !allow_volatile {
                return Err(StartupError::Volatile(address()));
            }
            warnings.push(format!(
                "Redis at {} keeps no append-only file: a crash of it loses acknowledged messages.",
                address()
            ));
        } else {
            let window = match self.setting("appendfsync").await?.as_str() {
                "always" => None,
                "everysec" => Some("up to two seconds"),
                _ => Some("up to half a minute"),
            };
            warnings.extend(window.map(|window| {
                format!(
                    "Redis at {} doesn't write through (appendfsync isn't `always`): a crash can lose the acknowledged \
                     messages of {window}.",
                    address()
                )
            }));
        }
        let policy = self.setting("maxmemory-policy").await?;
        if policy != "noeviction" {
            return Err(StartupError::Evicts { address: address(), policy });
        }
        let is = self.setting("notify-keyspace-events").await?;
        let wanted = union(&is);
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("notify-keyspace-events").arg(&wanted);
        self.ask(&set, |address, reason| StartupError::NoEvents { address, reason }).await?;
        if wanted != is {
            let mut tell = redis::cmd("PUBLISH");
            tell.arg(self.keys().repaired()).arg("");
            self.commands().run(&tell).await.map_err(StartupError::Unreachable)?;
        }
        Ok(warnings)
    }

    async fn setting(&self, name: &str) -> std::result::Result<String, StartupError> {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        let answer = self.ask(&get, |address, reason| StartupError::Hidden { address, reason }).await?;
        setting_from(answer).map_err(StartupError::Unreachable)
    }

    // A no to this very command is a refusal; a server that answers nothing, or just now can't, isn't.
    async fn ask(
        &self,
        command: &Cmd,
        no: impl FnOnce(String, String) -> StartupError,
    ) -> std::result::Result<Value, StartupError> {
        let answer = self.commands().raw(command).await.map_err(StartupError::Unreachable)?;
        answer.map_err(|err| match err.code() {
            Some("ERR" | "NOPERM") => no(self.inner.address.clone(), err.to_string()),
            _ => StartupError::Unreachable(failure(&err)),
        })
    }
}

/// Adds what this store needs to what is switched on, and takes nothing away from others. If something was missing,
/// every listener is told on the channel `repaired` that it may have missed events.
pub(super) async fn switch_on_events(
    connection: &mut impl ConnectionLike,
    repaired: &str,
) -> std::result::Result<(), RedisError> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let is = connection.req_packed_command(&get).await?.extract_error()?;
    let is = setting_from(is).unwrap_or_default();
    let wanted = union(&is);
    if wanted != is {
        let mut set = redis::pipe();
        set.cmd("CONFIG").arg("SET").arg("notify-keyspace-events").arg(wanted);
        set.cmd("PUBLISH").arg(repaired).arg("");
        for answer in connection.req_packed_commands(&set, 0, 2).await? {
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
mod tests {
    use super::union;

    #[test]
    fn what_others_need_stays_switched_on() {
        for (is, wanted) in
            [("", "Kh"), ("Ex", "ExKh"), ("AKE", "AKE"), ("KA", "KA"), ("h", "hK"), ("Kg", "Kgh")]
        {
            assert_eq!(union(is), wanted);
        }
    }
}
