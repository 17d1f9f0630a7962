//! The store in Redis.
//!
//! - `keys` names everything, `script` holds the Lua scripts (`lua/*.lua`), `value` and `error` read the answers.
//! - `link` keeps a connection for ever; there are two, so that bulky reads don't stand before sends. `listener` keeps
//!   the third, on which the events come.
//! - The rest is the contract's methods: `devices`, `terminations`, `expiry`, `links`, `chats` and `members`, `messages`, `edges`,
//!   `owed`, `console`.
//! - `startup` looks whether this Redis may be trusted with messages at all, `identity` whether it still is the same, and
//!   not an older copy.
//!
//! Times that decide something are never an edge's: leases and windows go by the Redis server's clock, and how long messages and
//! their keys are kept by the store's own, which nobody sets (`identity`).

// The root clippy.toml keeps Redis's types out of the rest of the crate; here is where they belong.
#![allow(clippy::disallowed_types)]

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};
use tokio::sync::mpsc;

use self::{identity::Identity, keys::Keys, link::Link, listener::Listener};
pub use self::{startup::StartupError, url::BadUrl};
use super::{Result, StoreError, StoreEvent, StoreLimits, events::Events};
use crate::domain::id::{ChatId, UserId};

mod chats;
mod console;
mod devices;
mod edges;
mod error;
mod expiry;
mod identity;
mod keys;
mod link;
mod links;
mod listener;
mod members;
mod messages;
mod owed;
mod script;
mod startup;
mod terminations;
mod url;
mod value;

/// How a [`RedisStore`] behaves.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What all its keys and channels begin with.
    pub prefix: String,
    /// Sizes that scripts check.
    pub limits: StoreLimits,
    /// How long one method may wait in all.
    pub timeout: Duration,
    /// How often it is proved that events flow, and how long one proof may take.
    pub probe_every: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "ks".into(),
            limits: StoreLimits::default(),
            timeout: Duration::from_secs(2),
            probe_every: Duration::from_secs(2),
        }
    }
}

/// The store in Redis. Cheap to clone; when the last clone goes, its connections and tasks end.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    keys: Keys,
    limits: StoreLimits,
    timeout: Duration,
    /// For people: host and port, never a password.
    address: String,
    identity: Identity,
    commands: Link,
    /// For answers that may be large.
    bulk: Link,
    listener: Listener,
    events: Arc<Events>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, in the background and for ever: a Redis that can't be reached is no error here (its calls are
    /// [`StoreError::Unavailable`] until it can). Waits for the first attempt, at most `options.timeout`.
    ///
    /// `url`: `redis://[user:password@]host[:port][/db]`, or `rediss://…` for TLS.
    ///
    /// # Errors
    /// When the URL isn't one.
    pub async fn connect(url: &str, options: RedisOptions) -> std::result::Result<Self, BadUrl> {
        let info = url::parse(url)?.into_connection_info().map_err(|err| BadUrl::new(&err))?;
        // RESP3, because only with it a connection tells its own end at once, and takes commands beside subscriptions.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let database = settings.db();
        let address = info.addr().to_string();
        if url.starts_with("rediss://") {
            // Fails only when the process has chosen one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(info.set_redis_settings(settings)).map_err(|err| BadUrl::new(&err))?;

        let keys = Keys::new(&options.prefix);
        let events = Arc::new(Events::new());
        let identity = Identity::new(keys.store(), keys.clock());
        let commands = Link::start("commands", client.clone(), identity.clone(), options.timeout);
        let bulk = Link::start("bulk", client.clone(), identity.clone(), options.timeout);
        let listener = Listener::start(client, keys.clone(), database, Arc::clone(&events), &options);
        let tried = async { tokio::join!(commands.tried(), bulk.tried(), listener.tried()) };
        let _ = tokio::time::timeout(options.timeout, tried).await;
        let RedisOptions { limits, timeout, .. } = options;
        Ok(Self {
            inner: Arc::new(Inner {
                keys,
                limits,
                timeout,
                address,
                identity,
                commands,
                bulk,
                listener,
                events,
            }),
        })
    }

    /// How often it was found that keyspace events had stopped to flow.
    #[must_use]
    pub fn notifications_missed(&self) -> u64 {
        self.inner.listener.missed()
    }

    /// See [`super::Store::is_up`]. Both connections: a method needs either.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.commands.is_up() && self.inner.bulk.is_up()
    }

    /// See [`super::Store::take_events`].
    #[must_use]
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        self.inner.events.take()
    }

    /// See [`super::Store::watch_user`].
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        self.inner.listener.watch_user(user).await
    }

    /// See [`super::Store::unwatch_user`].
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        self.inner.listener.unwatch_user(user).await
    }

    /// See [`super::Store::watch_chats`].
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.inner.listener.watch_chats(chats).await
    }

    /// See [`super::Store::unwatch_chats`].
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.inner.listener.unwatch_chats(chats).await
    }

    /// See [`super::Store::watch_presence`].
    pub async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        self.inner.listener.watch_presence(users).await
    }

    /// See [`super::Store::unwatch_presence`].
    pub async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        self.inner.listener.unwatch_presence(users).await
    }

    /// See [`super::Store::announce`].
    pub async fn announce(&self, user: &UserId, payload: Bytes) -> Result<()> {
        if payload.len() > super::MAX_SIGNAL {
            return Err(super::types::too_large(payload.len()));
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg(self.keys().signal(user)).arg(&payload[..]);
        pipeline.cmd("PUBLISH").arg(self.keys().presence(user)).arg("");
        self.commands().run_all(&pipeline).await.map(drop)
    }

    /// See [`super::Store::tell_typing`].
    pub async fn tell_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        let call = script::TELL_TYPING.call().arg(self.keys().members(chat)).arg(user.as_str()).arg(most);
        let call = call.arg(self.keys().doorbell(chat));
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`super::Store::signal`].
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        if payload.len() > super::MAX_SIGNAL {
            return Err(super::types::too_large(payload.len()));
        }
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().signal(user)).arg(&payload[..]);
        self.commands().run(&publish).await.map(drop)
    }

    /// See [`super::Store::ping`]. Asks on both connections: a method needs either.
    pub async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        tokio::try_join!(self.commands().run(&ping), self.bulk().run(&ping)).map(drop)
    }

    fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    fn limits(&self) -> &StoreLimits {
        &self.inner.limits
    }

    fn commands(&self) -> &Link {
        &self.inner.commands
    }

    fn bulk(&self) -> &Link {
        &self.inner.bulk
    }

    /// Gives all steps of one method one time-out together.
    async fn in_time<T>(&self, steps: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.inner.timeout, steps).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Unknown(format!("not done within {:?}", self.inner.timeout))),
        }
    }
}

/// A time to live or a window, in what Redis counts; at least one millisecond.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 12).clamp(1, u64::MAX >> 12)
}
