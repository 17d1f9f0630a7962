//! The connection on which events come. One owned task keeps it, and is the only one that subscribes on it, so that
//! what is subscribed and what is watched can't drift apart.
//!
//! Nothing that comes here is trusted to be complete: every two seconds a probe key is written on this connection, and its
//! keyspace event has to come back on it. When it doesn't (the server's setting is gone, the link is half open) the
//! connection is thrown away: the next one sets the setting, subscribes to everything watched, and says `Resubscribed`.
//! Whoever sets it tells the listeners of all edges: their next probes would come through, and hide what they missed.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{Client, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    RedisOptions,
    keys::{Heard, Keys, keyspace},
    link::{AbortOnDrop, Backoff, open},
    startup::switch_on_events,
};
use crate::{
    domain::id::{ChatId, UserId},
    store::{Result, StoreError, StoreEvent, events::Events},
};

mod change;

use change::{Change, Changing, Order, Watched, Which, user_channels};

/// How many callers may wait for their subscriptions.
const ORDERS: usize = 1024;
/// How many channels one SUBSCRIBE names.
const CHANNELS: usize = 512;
/// So many changes of what is subscribed are under way at a time. (The connection takes more commands than they come to without
/// waiting.)
const UNDER_WAY: usize = 8;
/// How long a probe key stays after its store has gone.
const PROBE_KEPT_MS: u64 = 60_000;

/// The handle. Dropping it ends the task.
pub(super) struct Listener {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    tried: watch::Receiver<bool>,
    timeout: Duration,
    _task: AbortOnDrop,
}

struct Shared {
    keys: Keys,
    database: i64,
    watched: Mutex<Watched>,
    events: Arc<Events>,
    /// Keyspace events of the probe key that came.
    probes_heard: AtomicU64,
    probe_heard: Notify,
    missed: AtomicU64,
}

impl Listener {
    pub(super) fn start(
        client: Client,
        keys: Keys,
        database: i64,
        events: Arc<Events>,
        options: &RedisOptions,
    ) -> Self {
        let shared = Arc::new(Shared {
            keys,
            database,
            watched: Mutex::default(),
            events,
            probes_heard: AtomicU64::new(0),
            probe_heard: Notify::new(),
            missed: AtomicU64::new(0),
        });
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (tried, first) = watch::channel(false);
        let task = Task {
            client,
            shared: Arc::clone(&shared),
            orders: receiver,
            tried,
            timeout: options.timeout,
            probe_every: options.probe_every,
            probe_key: shared.keys.probe(&format!("{:016x}", rand::random::<u64>())),
        };
        let task = AbortOnDrop(tokio::spawn(task.run()).abort_handle());
        Self { shared, orders, tried: first, timeout: options.timeout, _task: task }
    }

    /// Waits until the first attempt to connect has succeeded or failed.
    pub(super) async fn tried(&self) {
        let _ = self.tried.clone().wait_for(|tried| *tried).await;
    }

    pub(super) fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    pub(super) async fn watch_user(&self, user: &UserId) -> Result<()> {
        self.shared.watched().users.insert(user.clone());
        self.order(Which::User(user.clone())).await
    }

    pub(super) async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        self.shared.watched().users.remove(user);
        self.order(Which::User(user.clone())).await.or_else(off)
    }

    pub(super) async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.shared.watched().chats.extend(chats);
        self.order(Which::Chats(chats.to_vec())).await
    }

    pub(super) async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        {
            let mut watched = self.shared.watched();
            for chat in chats {
                watched.chats.remove(chat);
            }
        }
        self.order(Which::Chats(chats.to_vec())).await.or_else(off)
    }

    pub(super) async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        self.shared.watched().presence.extend(users.iter().cloned());
        self.order(Which::Presence(users.to_vec())).await
    }

    pub(super) async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        {
            let mut watched = self.shared.watched();
            for user in users {
                watched.presence.remove(user);
            }
        }
        self.order(Which::Presence(users.to_vec())).await.or_else(off)
    }

    async fn order(&self, which: Which) -> Result<()> {
        if which.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let asked = async {
            let lost = |_| StoreError::Unavailable("the connection for events is gone".into());
            self.orders.send(Order { which, done }).await.map_err(|_| lost(()))?;
            answer.await.map_err(|_| lost(()))?
        };
        match timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::Unavailable("no confirmation of the subscription in time".into())),
        }
    }
}

// Without a connection nothing is heard, and the next one won't subscribe.
fn off(err: StoreError) -> Result<()> {
    match err {
        StoreError::Unavailable(_) | StoreError::Unknown(_) => Ok(()),
        err => Err(err),
    }
}

impl Shared {
    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs on the connection's own task, so it must not wait.
    fn hear(&self, push: PushInfo, probe_key: &str) {
        let mut parts = push.data.into_iter();
        let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
            (parts.next(), parts.next())
        else {
            return;
        };
        let Ok(channel) = std::str::from_utf8(&channel) else { return };
        match self.keys.heard(self.database, channel, probe_key) {
            Some(Heard::Read(user)) => self.events.emit(StoreEvent::ReadsChanged(user)),
            Some(Heard::Signal(user)) => self.events.emit(StoreEvent::Signal(user, Bytes::from(payload))),
            Some(Heard::Presence(user)) => self.events.emit(StoreEvent::Presence(user)),
            Some(Heard::Doorbell(chat)) => {
                let seq = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
                let typist = || std::str::from_utf8(&payload).ok()?.strip_prefix("typing ")?.parse().ok();
                if let Some(seq) = seq {
                    self.events.emit(StoreEvent::Doorbell(chat, seq));
                } else if let Some(user) = typist() {
                    self.events.emit_if_quiet(StoreEvent::Typing(chat, user));
                }
            }
            Some(Heard::Probe) => {
                self.probes_heard.fetch_add(1, Ordering::Relaxed);
                self.probe_heard.notify_one();
            }
            Some(Heard::Repaired) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                self.events.emit(StoreEvent::Resubscribed);
            }
            None => {}
        }
    }
}

struct Task {
    client: Client,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    tried: watch::Sender<bool>,
    timeout: Duration,
    probe_every: Duration,
    probe_key: String,
}

impl Task {
    /// Connects, sets the setting, subscribes to everything watched, says `Resubscribed`; then serves orders and probes
    /// until the connection ends or a probe is missed, and begins again. Ends with the handle.
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut first = true;
        loop {
            let gone = Arc::new(Notify::new());
            let reason = match self.connect(&gone).await {
                Ok(connection) => {
                    if !first || self.anything_watched() {
                        self.shared.events.emit(StoreEvent::Resubscribed);
                    }
                    first = false;
                    backoff.reset();
                    self.tried.send_replace(true);
                    let reason = self.serve(connection, &gone).await;
                    let Some(reason) = reason else { return };
                    tracing::warn!(error = %reason, "the events of Redis stopped; subscribing again");
                    reason
                }
                Err(err) => {
                    self.tried.send_replace(true);
                    tracing::debug!(error = %err, "can't subscribe to Redis; trying again");
                    err.to_string()
                }
            };
            if !self.wait(backoff.next(), &reason).await {
                return;
            }
        }
    }

    fn anything_watched(&self) -> bool {
        let watched = self.shared.watched();
        !watched.users.is_empty() || !watched.chats.is_empty() || !watched.presence.is_empty()
    }

    async fn connect(
        &self,
        gone: &Arc<Notify>,
    ) -> std::result::Result<MultiplexedConnection, redis::RedisError> {
        let (shared, gone, probe_key) = (Arc::clone(&self.shared), Arc::clone(gone), self.probe_key.clone());
        let push = move |push: PushInfo| match push.kind {
            PushKind::Message => shared.hear(push, &probe_key),
            PushKind::Disconnection => gone.notify_one(),
            _ => {}
        };
        let mut connection = open(&self.client, self.timeout, push).await?;
        if let Err(err) = switch_on_events(&mut connection, &self.shared.keys.repaired()).await {
            // The probe will tell whether they flow all the same.
            tracing::warn!(error = %err, "can't switch on Redis's keyspace events");
        }
        let mut channels = vec![keyspace(self.shared.database, &self.probe_key), self.shared.keys.repaired()];
        {
            let watched = self.shared.watched();
            channels.extend(
                watched
                    .users
                    .iter()
                    .flat_map(|user| user_channels(&self.shared.keys, self.shared.database, user)),
            );
            channels.extend(watched.chats.iter().map(|chat| self.shared.keys.doorbell(*chat)));
            channels.extend(watched.presence.iter().map(|user| self.shared.keys.presence(user)));
        }
        for channels in channels.chunks(CHANNELS) {
            connection.subscribe(channels).await?;
        }
        Ok(connection)
    }

    // Answers orders with "unavailable" for a while. False when the handle is gone.
    async fn wait(&mut self, pause: Duration, reason: &str) -> bool {
        let pause = sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return true,
                order = self.orders.recv() => {
                    let Some(order) = order else { return false };
                    let _ = order.done.send(Err(StoreError::Unavailable(reason.to_owned())));
                }
            }
        }
    }

    /// Why it ended; none when the handle is gone.
    async fn serve(&mut self, mut connection: MultiplexedConnection, gone: &Notify) -> Option<String> {
        let mut next_probe = Instant::now();
        // The number of heard probes that proves the pending one, and until when it must be reached.
        let mut pending: Option<(u64, Instant)> = None;
        // What Redis hasn't confirmed. Nobody waits for another's: Redis may be a second away.
        let mut under_way: FuturesUnordered<Changing> = FuturesUnordered::new();
        loop {
            let wake = pending.map_or(next_probe, |(_, until)| until);
            tokio::select! {
                () = gone.notified() => return Some("the connection was closed".into()),
                order = self.orders.recv(), if under_way.len() < UNDER_WAY => {
                    let orders = self.waiting(order?);
                    let change = Change::of(orders, &self.shared.watched(), &self.shared.keys, self.shared.database);
                    let mut change: Changing = Box::pin(change.make(connection.clone()));
                    // Begun at once, so that it is sent before whatever changes the same channel later.
                    let begun = poll_fn(|context| Poll::Ready(change.as_mut().poll(context))).await;
                    match begun {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(err)) => return Some(err.to_string()),
                        Poll::Pending => under_way.push(change),
                    }
                }
                Some(made) = under_way.next(), if !under_way.is_empty() => {
                    if let Err(err) = made {
                        return Some(err.to_string());
                    }
                }
                () = self.shared.probe_heard.notified() => {
                    let heard = self.shared.probes_heard.load(Ordering::Relaxed);
                    if pending.is_some_and(|(wanted, _)| heard >= wanted) {
                        pending = None;
                    }
                }
                () = sleep_until(wake) => {
                    if pending.is_some() {
                        self.shared.missed.fetch_add(1, Ordering::Relaxed);
                        return Some("no keyspace event came for a probe".into());
                    }
                    let wanted = self.shared.probes_heard.load(Ordering::Relaxed) + 1;
                    next_probe = Instant::now() + self.probe_every;
                    match self.probe(&mut connection).await {
                        Ok(true) => pending = Some((wanted, Instant::now() + self.probe_every)),
                        Ok(false) => {} // Redis refuses writes just now; that says nothing about events
                        Err(err) => return Some(err.to_string()),
                    }
                }
            }
        }
    }

    async fn probe(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> std::result::Result<bool, redis::RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSET").arg(&self.probe_key).arg("at").arg(crate::domain::now_millis());
        pipeline.cmd("PEXPIRE").arg(&self.probe_key).arg(PROBE_KEPT_MS);
        let answers = connection.send_packed_commands(&pipeline, 0, 2).await?;
        Ok(!matches!(answers.first(), Some(Value::ServerError(_))))
    }

    // All orders that wait, so that a thousand users coming at once are a few commands.
    fn waiting(&mut self, first: Order) -> Vec<Order> {
        let mut orders = vec![first];
        while orders.len() < CHANNELS {
            let Ok(order) = self.orders.try_recv() else { break };
            orders.push(order);
        }
        orders
    }
}
