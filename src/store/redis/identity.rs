//! The identity of the store and the age of its data. A Redis that comes back empty (a lost disk, another server at its
//! address, FLUSHALL) answers as before, and would number messages from 1 again beside queues and devices that know the
//! old ones. A Redis that comes back with an older copy of its data would assign numbers a second time.
//!
//! So the store has a name, generated at its first use, and a clock that edges keep moving and remember. Each
//! connection checks both when it is opened, before any use, and every second from then on. A connection that finds
//! another name, or none, isn't used: nothing is accepted until the right store is back. A connection that finds an
//! older clock raises the store's *sequence offset* (`lift` in the store), which `append` adds to a chat's numbers
//! once: numbers are skipped, and none is assigned twice.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ErrorKind, RedisError, Value, aio::ConnectionLike};

use super::{
    RedisStore,
    error::{failure, is_refusal},
    patience::answered,
    script, value,
};
use crate::store::{Result, StoreError};

/// What this edge's connections must find. The name is none until [`RedisStore::identify`] has read it.
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
    seq_offset: AtomicU64,
}

impl Identity {
    pub(super) fn new(store: String, clock: String) -> Self {
        Self { store, clock, seen: Arc::default() }
    }

    /// Returns how far the numbers of every chat must be above those of a store that never came back older.
    pub(super) fn seq_offset(&self) -> u64 {
        self.seen.seq_offset.load(Ordering::Relaxed)
    }

    /// Checks that the server behind this connection answers, is the same store, and is the primary. Returns why it
    /// accepts no writes now, if it doesn't. Each request must be answered within the deadline.
    pub(super) async fn check(
        &self,
        connection: &mut impl ConnectionLike,
        deadline: Duration,
    ) -> std::result::Result<Option<RedisError>, RedisError> {
        let known = self.seen.name.get().map_or("", String::as_str);
        let mut look = redis::pipe();
        look.cmd("EVAL").arg(script::SAME_STORE.source()).arg(2).arg(&self.store).arg(&self.clock).arg(known);
        look.arg(self.seen.clock.load(Ordering::Relaxed)).arg(self.seq_offset());
        // A write that changes nothing, creates no key and isn't written to the append-only file; refused as any other
        // would be.
        look.cmd("SETRANGE").arg(&self.store).arg(0).arg("");
        let mut answers = answered(deadline, connection.req_packed_commands(&look, 0, 2)).await?.into_iter();
        let (same, write) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
        let mut refusal = match write.extract_error() {
            Err(err) if is_refusal(err.code()) => Some(err),
            // Not every user may do this: then only the script shows it.
            Err(err) if err.code() == Some("NOPERM") => None,
            written => written.map(|_| None)?,
        };
        let found = match same.extract_error() {
            // Not even the store's clock can be moved, so nothing can be numbered either.
            Err(err) if is_refusal(err.code()) => {
                refusal.get_or_insert(err);
                let mut get = redis::cmd("GET");
                get.arg(&self.store);
                let name = answered(deadline, connection.req_packed_command(&get)).await?.extract_error()?;
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
        let Some([clock, seq_offset, missing]) = times else { return Ok(refusal) };
        self.seen.clock.fetch_max(clock, Ordering::Relaxed);
        self.seen.seq_offset.fetch_max(seq_offset, Ordering::Relaxed);
        if missing > 0 {
            tracing::error!(
                missing_s = missing,
                seq_offset,
                "Redis has come back with an older copy of its data: what was acknowledged since is known to devices and \
                 queues alone. Each chat goes on above every number that may have been given; what is missing is told as a gap"
            );
        }
        Ok(refusal)
    }
}

// Returns the name, and the clock, the seq_offset and how far the clock was behind.
fn parts(found: Value) -> Result<(String, Option<[u64; 3]>)> {
    let mut found = value::list(found)?.into_iter();
    let name = found.next().map(value::text).transpose()?.unwrap_or_default();
    let times = found.map(value::number).collect::<Result<Vec<_>>>()?;
    Ok((name, times.try_into().ok()))
}

impl RedisStore {
    /// Reads the store's name, and trusts no other name from then on. Names a store without a name if it `may_be_new`.
    /// `clock`: the store's clock, as far as is known elsewhere; a store with a clock behind that is an older copy.
    /// Returns false if the store has no name.
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
        // The connection would have noticed a different name.
        let _ = seen.name.set(name);
        seen.clock.fetch_max(clock, Ordering::Relaxed);
        self.commands().look(&self.inner.identity).await?;
        Ok(true)
    }

    /// See [`crate::store::Store::sequence_offset`].
    #[must_use]
    pub fn sequence_offset(&self) -> u64 {
        self.inner.identity.seq_offset()
    }

    /// Returns the store's clock: about the seconds in which an edge was running. 0 for a store without a name.
    #[must_use]
    pub fn clock(&self) -> u64 {
        self.inner.identity.seen.clock.load(Ordering::Relaxed)
    }
}

impl super::link::Link {
    /// Checks now that this is the same store.
    async fn look(&self, identity: &Identity) -> Result<()> {
        let mut connection = self.connection()?;
        identity.check(&mut connection, self.deadline()).await.map(drop).map_err(|err: RedisError| match err
            .kind()
        {
            ErrorKind::Client => StoreError::Unavailable(err.to_string()),
            _ => failure(&err),
        })
    }
}
