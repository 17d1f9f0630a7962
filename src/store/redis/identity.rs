//! Which store this is. A Redis that comes back empty (a lost disk, another server at its address, FLUSHALL) answers as
//! readily as ever, and would number messages from 1 again beside queues and devices that know the old ones. So the store
//! has a name, made up when it is first used. Each connection looks for it when it is opened and every second from then on,
//! and one that finds another name, or none, isn't used: nothing is accepted until the right store is back.

use std::sync::{Arc, OnceLock};

use redis::{ErrorKind, RedisError, aio::ConnectionLike};

use super::{RedisStore, value};
use crate::store::Result;

/// The name that this edge's connections must find; none until [`RedisStore::identify`] has learnt it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    key: String,
    known: Arc<OnceLock<String>>,
}

impl Identity {
    pub(super) fn new(key: String) -> Self {
        Self { key, known: Arc::default() }
    }

    /// Whether the server behind this connection answers, and is the one it was.
    pub(super) async fn check(
        &self,
        connection: &mut impl ConnectionLike,
    ) -> std::result::Result<(), RedisError> {
        let mut get = redis::cmd("GET");
        get.arg(&self.key);
        let found = connection.req_packed_command(&get).await?.extract_error()?;
        let found = value::some(found).and_then(|name| value::text(name).ok());
        match (self.known.get(), found) {
            (Some(known), found) if found.as_ref() != Some(known) => {
                let what = if found.is_none() { "its data is gone" } else { "it holds another store's data" };
                let detail = format!("{what}. Bring its data back; until then nothing is accepted");
                Err(RedisError::from((ErrorKind::Client, "this isn't the Redis that it was", detail)))
            }
            _ => Ok(()),
        }
    }
}

impl RedisStore {
    /// Learns the store's name, and from then on trusts no other one. One that has none gets one if it `may_be_new`.
    /// False: it has none.
    pub async fn identify(&self, may_be_new: bool) -> Result<bool> {
        let Identity { key, known } = &self.inner.identity;
        if may_be_new {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(uuid::Uuid::new_v4().simple().to_string()).arg("NX");
            self.commands().run(&set).await?;
        }
        let mut get = redis::cmd("GET");
        get.arg(key);
        let name = value::some(self.commands().run(&get).await?).map(value::text).transpose()?;
        let found = name.is_some();
        if let Some(name) = name {
            // Another name than before would have been noticed by the connection.
            let _ = known.set(name);
        }
        Ok(found)
    }
}
