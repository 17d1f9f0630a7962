//! Which store this is, and of when. A Redis that comes back empty (a lost disk, another server at its address, FLUSHALL)
//! answers as readily as ever, and would number messages from 1 again beside queues and devices that know the old ones; one
//! that comes back with an older copy of its data would give numbers a second time.
//!
//! So the store has a name, made up when it is first used, and a clock that edges keep moving and remember. Each connection
//! looks at both when it is opened, before anybody may use it, and every second from then on. One that finds another name, or
//! none, isn't used: nothing is accepted until the right store is back. One that finds an older clock raises the store's
//! *lift*, which `append` adds to a chat's numbers once: numbers are skipped, and none is given twice.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use redis::{ErrorKind, RedisError, Value, aio::ConnectionLike};

use super::{RedisStore, error::failure, script, value};
use crate::store::{Result, StoreError};

/// What this edge's connections must find. The name is none until [`RedisStore::identify`] has learnt it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    store: String,
    clock: String,
    seen: Arc<Seen>,
}

/// The highest of each that was seen.
#[derive(Debug, Default)]
struct Seen {
    name: OnceLock<String>,
    clock: AtomicU64,
    lift: AtomicU64,
}

impl Identity {
    pub(super) fn new(store: String, clock: String) -> Self {
        Self { store, clock, seen: Arc::default() }
    }

    /// By how much the numbers of every chat must be above those of a store that never came back older.
    pub(super) fn lift(&self) -> u64 {
        self.seen.lift.load(Ordering::Relaxed)
    }

    /// Whether the server behind this connection answers, and is the one it was.
    pub(super) async fn check(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> std::result::Result<(), RedisError> {
        let known = self.seen.name.get().map_or("", String::as_str);
        let mut look = redis::cmd("EVAL");
        look.arg(script::SAME_STORE.source()).arg(2).arg(&self.store).arg(&self.clock).arg(known);
        look.arg(self.seen.clock.load(Ordering::Relaxed)).arg(self.lift());
        let found = match connection.req_packed_command(&look).await?.extract_error() {
            // It takes no writes just now, so nothing can be numbered either.
            Err(err) if matches!(err.code(), Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS")) => {
                let mut get = redis::cmd("GET");
                get.arg(&self.store);
                let name = connection.req_packed_command(&get).await?.extract_error()?;
                Value::Array(value::some(name).into_iter().collect())
            }
            found => found?,
        };
        let unlike =
            |what: String| RedisError::from((ErrorKind::Client, "this isn't the Redis that it was", what));
        let (name, times) = parts(found).map_err(|err| unlike(err.to_string()))?;
        if self.seen.name.get().is_some_and(|known| *known != name) {
            let what = if name.is_empty() { "its data is gone" } else { "it holds another store's data" };
            return Err(unlike(format!("{what}. Bring its data back; until then nothing is accepted")));
        }
        let Some([clock, lift, missing]) = times else { return Ok(()) };
        self.seen.clock.fetch_max(clock, Ordering::Relaxed);
        self.seen.lift.fetch_max(lift, Ordering::Relaxed);
        if missing > 0 {
            tracing::error!(
                missing_s = missing,
                lift,
                "Redis has come back with an older copy of its data: what was acknowledged since is known to devices and \
                 queues alone. Each chat goes on above every number that may have been given; what is missing is told as a gap"
            );
        }
        Ok(())
    }
}

// The name, and the clock, the lift and how far the clock was behind.
fn parts(found: Value) -> Result<(String, Option<[u64; 3]>)> {
    let mut found = value::list(found)?.into_iter();
    let name = found.next().map(value::text).transpose()?.unwrap_or_default();
    let times = found.map(value::number).collect::<Result<Vec<_>>>()?;
    Ok((name, times.try_into().ok()))
}

impl RedisStore {
    /// Learns the store's name, and from then on trusts no other one. One that has none gets one if it `may_be_new`.
    /// `clock`: how far the store's clock was, as far as is known elsewhere; one that is behind is an older copy. False: it
    /// has no name.
    pub async fn identify(&self, may_be_new: bool, clock: u64) -> Result<bool> {
        let Identity { store, seen, .. } = &self.inner.identity;
        if may_be_new {
            let mut set = redis::cmd("SET");
            set.arg(store).arg(uuid::Uuid::new_v4().simple().to_string()).arg("NX");
            self.commands().run(&set).await?;
        }
        let mut get = redis::cmd("GET");
        get.arg(store);
        let name = value::some(self.commands().run(&get).await?).map(value::text).transpose()?;
        let Some(name) = name else { return Ok(false) };
        // Another name than before would have been noticed by the connection.
        let _ = seen.name.set(name);
        seen.clock.fetch_max(clock, Ordering::Relaxed);
        self.commands().look(&self.inner.identity).await?;
        Ok(true)
    }

    /// How far the store's clock is: about the seconds in which an edge was there. 0 for a store without a name.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.inner.identity.seen.clock.load(Ordering::Relaxed)
    }
}

impl super::link::Link {
    /// Looks now whether this is the store that it was.
    async fn look(&self, identity: &Identity) -> Result<()> {
        let mut connection = self.connection()?;
        identity.check(&mut connection).await.map_err(|err: RedisError| match err.kind() {
            ErrorKind::Client => StoreError::Unavailable(err.to_string()),
            _ => failure(&err),
        })
    }
}
