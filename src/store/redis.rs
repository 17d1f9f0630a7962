//! The store in Redis.
//!
//! - `keys` names everything, `script` holds the Lua scripts (`lua/*.lua`), `value` and `error` parse the answers.
//! - `link` keeps a permanent connection; there are two, so that bulky reads don't delay sends. `listener` keeps the
//!   third, which receives the events.
//! - The rest is the contract's methods: `devices`, `terminations`, `expiry`, `links`, `chats`, `names` and `members`,
//!   `messages`, `edges`, `positions`, `people`, `console`.
//! - `liveness` knows which edges live, by the answers to this edge's heartbeats.
//! - `patience` counts how long a caller waits for answers: while the process runs.
//! - `startup` checks whether this Redis may be trusted with messages at all, `identity` whether it still is the same
//!   store, and not an older copy.
//!
//! No decision depends on an edge's clock: leases and windows use the Redis server's clock, and the lifetime of
//! messages and their keys uses the store's own, which nobody sets (`identity`).

// The root clippy.toml keeps Redis's types out of the rest of the crate; here is where they belong.
#![allow(clippy::disallowed_types)]

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Client, IntoConnectionInfo, ProtocolVersion};
use tokio::sync::mpsc;

use self::{identity::Identity, keys::Keys, link::Link, listener::Listener, liveness::Liveness};
pub use self::{
    startup::{StartupError, Trust},
    url::BadUrl,
};
use super::{Result, StoreError, StoreEvent, StoreLimits, events::Events};
use crate::domain::id::{ChatId, DeviceId, UserId};

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
mod liveness;
mod members;
mod messages;
mod names;
mod pages;
mod patience;
mod people;
mod positions;
mod quota;
mod script;
mod sessions;
mod startup;
mod sweeps;
mod terminations;
mod url;
mod value;

/// Options of a [`RedisStore`].
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// The prefix of all its keys and channels.
    pub prefix: String,
    /// Limits that scripts check.
    pub limits: StoreLimits,
    /// How long one method may wait in total.
    pub timeout: Duration,
    /// How often the arrival of events is proved, and how long one proof may take.
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

/// The store in Redis. Cheap to clone; when the last clone is dropped, its connections and tasks end.
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
    liveness: Liveness,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects in the background, and reconnects without limit: an unreachable Redis is no error here (its calls are
    /// [`StoreError::Unavailable`] until it is reachable). Waits for the first attempt, at most `options.timeout`.
    ///
    /// `url`: `redis://[user:password@]host[:port][/db]`, or `rediss://…` for TLS.
    ///
    /// # Errors
    /// If the URL isn't valid.
    pub async fn connect(url: &str, options: RedisOptions) -> std::result::Result<Self, BadUrl> {
        let info = url::parse(url)?.into_connection_info().map_err(|err| BadUrl::new(&err))?;
        // RESP3, because only with it a connection reports its own end at once, and accepts commands beside
        // subscriptions.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let database = settings.db();
        let address = info.addr().to_string();
        if url.starts_with("rediss://") {
            // Fails only if the process has chosen one already.
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
                liveness: Liveness::default(),
            }),
        })
    }

    /// Returns how often keyspace events were found not to arrive any more.
    #[must_use]
    pub fn notifications_missed(&self) -> u64 {
        self.inner.listener.missed()
    }

    /// See [`super::Store::is_up`]. Checks both connections: a method needs either.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.commands.is_up() && self.inner.bulk.is_up()
    }

    /// See [`super::Store::refusal`].
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.inner.commands.refusal().or_else(|| self.inner.bulk.refusal())
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

    /// See [`super::Store::publish_typing`].
    pub async fn publish_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        let call = script::PUBLISH_TYPING.call().arg(self.keys().members(chat)).arg(user.as_str()).arg(most);
        let call = call.arg(self.keys().doorbell(chat));
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`super::Store::publish_queued`].
    pub async fn publish_queued(&self, chat: ChatId, devices: &[DeviceId]) -> Result<()> {
        let payload =
            devices.iter().fold(listener::QUEUED.to_owned(), |text, device| format!("{text} {device}"));
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys().doorbell(chat)).arg(payload);
        self.commands().run(&publish).await.map(drop)
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

    /// See [`super::Store::ping`]. Pings on both connections: a method needs either.
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

    fn liveness(&self) -> &Liveness {
        &self.inner.liveness
    }

    fn bulk(&self) -> &Link {
        &self.inner.bulk
    }

    /// Applies one time-out to all steps of one method together.
    async fn in_time<T>(&self, steps: impl Future<Output = Result<T>>) -> Result<T> {
        patience::within(self.inner.timeout, steps)
            .await
            .unwrap_or_else(|| Err(StoreError::Unknown(format!("not done within {:?}", self.inner.timeout))))
    }
}

/// Returns a time to live or a window in Redis's unit; at least one millisecond.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 12).clamp(1, u64::MAX >> 12)
}
