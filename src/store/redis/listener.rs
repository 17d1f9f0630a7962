//! The connection that receives events. One owned task keeps it, and only this task subscribes on it, so that
//! subscriptions and watches can't diverge.
//!
//! The task trusts nothing here to be complete. Every two seconds it writes a probe key on this connection, and the
//! key's keyspace event must come back on it. If it doesn't (the server's setting is gone, the link is half open) the
//! task drops the connection: the next one sets the setting, subscribes to everything watched, and emits
//! `Resubscribed`. Whoever sets the setting notifies the listeners of all edges: otherwise their next probes would come
//! through, and hide what they missed.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
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
    time::{Instant, sleep, sleep_until},
};

use super::{
    RedisOptions,
    error::{in_words, is_misled},
    keys::{Heard, Keys, keyspace},
    link::{AbortOnDrop, Backoff, open},
    patience::{answered, runs_for, within},
    startup::{is_denied, switch_on_events},
};
use crate::{
    domain::id::{ChatId, UserId},
    store::{Result, StoreError, StoreEvent, events::Events},
};

mod change;

use change::{Change, Changing, Order, Subject, Watched, user_channels};

/// The payload of a doorbell for messages that were announced long before.
pub(super) const QUEUED: &str = "queued";

/// How many callers may wait for their subscriptions.
const ORDERS: usize = 1024;
/// How many channels one SUBSCRIBE names.
const CHANNELS: usize = 512;
/// How many subscription changes are under way at a time. (The connection accepts more commands than these without
/// waiting.)
const UNDER_WAY: usize = 8;
/// How long a probe key outlives its store, in milliseconds.
const PROBE_KEPT_MS: u64 = 60_000;

/// The listener's handle. Dropping it ends the task.
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
    /// How many keyspace events of the probe key have come.
    probes_heard: AtomicU64,
    probe_heard: Notify,
    /// Whether an event ever came.
    proved: watch::Sender<bool>,
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
            proved: watch::Sender::new(false),
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

    /// Waits until keyspace events were seen to arrive. Returns false if none came in the time of two probes.
    pub(super) async fn is_proved(&self) -> bool {
        let mut proved = self.shared.proved.subscribe();
        matches!(within(2 * self.timeout, proved.wait_for(|proved| *proved)).await, Some(Ok(_)))
    }

    pub(super) fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    pub(super) async fn watch_user(&self, user: &UserId) -> Result<()> {
        self.shared.watched().users.insert(user.clone());
        self.order(Subject::User(user.clone())).await
    }

    pub(super) async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        self.shared.watched().users.remove(user);
        self.order(Subject::User(user.clone())).await.or_else(off)
    }

    pub(super) async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.shared.watched().chats.extend(chats);
        self.order(Subject::Chats(chats.to_vec())).await
    }

    pub(super) async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        {
            let mut watched = self.shared.watched();
            for chat in chats {
                watched.chats.remove(chat);
            }
        }
        self.order(Subject::Chats(chats.to_vec())).await.or_else(off)
    }

    pub(super) async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        self.shared.watched().presence.extend(users.iter().cloned());
        self.order(Subject::Presence(users.to_vec())).await
    }

    pub(super) async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        {
            let mut watched = self.shared.watched();
            for user in users {
                watched.presence.remove(user);
            }
        }
        self.order(Subject::Presence(users.to_vec())).await.or_else(off)
    }

    async fn order(&self, which: Subject) -> Result<()> {
        if which.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let asked = async {
            let lost = |_| StoreError::Unavailable("the connection for events is gone".into());
            self.orders.send(Order { which, done }).await.map_err(|_| lost(()))?;
            answer.await.map_err(|_| lost(()))?
        };
        let late = || StoreError::Unavailable("no confirmation of the subscription in time".into());
        within(self.timeout, asked).await.unwrap_or_else(|| Err(late()))
    }
}

// Without a connection nothing is received, and the next connection won't subscribe.
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

    /// Handles a push. Runs on the connection's own task, so it must not wait.
    fn on_push(&self, push: PushInfo, probe_key: &str) {
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
                let queued = std::str::from_utf8(&payload).ok().and_then(|text| text.strip_prefix(QUEUED));
                if let Some(devices) = queued {
                    let devices =
                        devices.split_whitespace().filter_map(|device| device.parse().ok()).collect();
                    return self.events.emit(StoreEvent::Queued(chat, devices));
                }
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
                self.proved.send_replace(true);
            }
            Some(Heard::Repaired) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                self.events.emit(StoreEvent::Resubscribed);
            }
            None => {}
        }
    }
}

/// A probe whose event hasn't come.
struct Probed {
    /// The number of received probes that proves it.
    wanted: u64,
    /// The deadline of that.
    overdue: Pin<Box<dyn Future<Output = ()> + Send>>,
}

async fn overdue(probed: &mut Option<Probed>) {
    match probed {
        Some(probed) => probed.overdue.as_mut().await,
        None => pending().await,
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
    /// Connects, sets the setting, subscribes to everything watched, emits `Resubscribed`. Then serves orders and
    /// probes until the connection ends or a probe is missed, and starts again. Ends with the handle.
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
                    tracing::warn!(error = %reason, "Redis's keyspace events stopped; subscribing again");
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
            PushKind::Message => shared.on_push(push, &probe_key),
            PushKind::Disconnection => gone.notify_one(),
            _ => {}
        };
        let mut connection = open(&self.client, self.timeout, push).await?;
        // A demoted server would accept the subscriptions, and deliver nothing.
        self.probe(&mut connection).await?;
        let repaired = self.shared.keys.repaired();
        match switch_on_events(&mut connection, &repaired, self.timeout).await {
            // The probe will show whether events arrive all the same.
            Err(err) if is_denied(&err) => {
                tracing::debug!(error = %err, "Redis doesn't show its keyspace event settings")
            }
            Err(err) => tracing::warn!(error = %err, "enabling Redis's keyspace events failed"),
            Ok(()) => {}
        }
        let mut channels = vec![keyspace(self.shared.database, &self.probe_key), repaired];
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
            answered(self.timeout, connection.subscribe(channels)).await?;
        }
        Ok(connection)
    }

    // Answers orders with "unavailable" for a while. Returns false if the handle is gone.
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

    /// Serves the connection. Returns why it ended; none if the handle is gone.
    async fn serve(&mut self, mut connection: MultiplexedConnection, gone: &Notify) -> Option<String> {
        let mut next_probe = Instant::now();
        let mut probed: Option<Probed> = None;
        // Changes that Redis hasn't confirmed. No caller waits for another's change: Redis may be a second away.
        let mut under_way: FuturesUnordered<Changing> = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = gone.notified() => return Some("the connection was closed".into()),
                order = self.orders.recv(), if under_way.len() < UNDER_WAY => {
                    let orders = self.waiting(order?);
                    let change = Change::of(orders, &self.shared.watched(), &self.shared.keys, self.shared.database);
                    let change = change.make(connection.clone(), self.timeout);
                    let mut change: Changing = Box::pin(change);
                    // Polled once now, so that it is sent before a later change of the same channel.
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
                    probed = probed.filter(|probed| heard < probed.wanted);
                }
                () = overdue(&mut probed) => {
                    self.shared.missed.fetch_add(1, Ordering::Relaxed);
                    return Some("no keyspace event came for a probe".into());
                }
                () = sleep_until(next_probe), if probed.is_none() => {
                    let wanted = self.shared.probes_heard.load(Ordering::Relaxed) + 1;
                    next_probe = Instant::now() + self.probe_every;
                    match self.probe(&mut connection).await {
                        Ok(true) => {
                            probed = Some(Probed { wanted, overdue: Box::pin(runs_for(self.probe_every)) });
                        }
                        Ok(false) => {} // Redis refuses writes now; that doesn't concern events
                        Err(err) => return Some(in_words(&err)),
                    }
                }
            }
        }
    }

    /// Writes the probe key. Returns false if it was refused. An error: this isn't (any more) the right server.
    async fn probe(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> std::result::Result<bool, redis::RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSET").arg(&self.probe_key).arg("at").arg(crate::domain::now_millis());
        pipeline.cmd("PEXPIRE").arg(&self.probe_key).arg(PROBE_KEPT_MS);
        let written = connection.send_packed_commands(&pipeline, 0, 2);
        let mut answers = answered(self.timeout, written).await?.into_iter();
        match answers.next().map(Value::extract_error) {
            Some(Err(err)) if is_misled(err.code()) => Err(err),
            written => Ok(matches!(written, Some(Ok(_)))),
        }
    }

    // Takes all waiting orders, so that a thousand users who come at once need only a few commands.
    fn waiting(&mut self, first: Order) -> Vec<Order> {
        let mut orders = vec![first];
        while orders.len() < CHANNELS {
            let Ok(order) = self.orders.try_recv() else { break };
            orders.push(order);
        }
        orders
    }
}
