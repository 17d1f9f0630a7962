//! The store in this process's memory: the same contract without external services. Its data ends with the process.
//!
//! One mutex guards plain maps: every method takes it once, does its step, and releases it; none awaits anything. Time
//! is tokio's, so a test may stop it. What Redis decides by its wall clock (leases, windows, when a device was seen) is
//! decided here by a clock that a test may set, too ([`EmbeddedStore::set_clock_ahead`]).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::{AuditId, Count, Holder, Owner, ReadOffset, Result, StoreEvent, StoreLimits, events::Events};
use crate::{
    clock::{store_ahead, store_instant},
    domain::{
        Millis, Seq,
        chat::{Chat, Invitation},
        device::Device,
        id::{ChatId, DeviceId, LinkId, MessageKey, TerminationId, UserId},
        now_millis,
        termination::Termination,
    },
    simulation::store::LetGo,
};

mod chats;
mod console;
mod devices;
mod edges;
mod expiry;
mod links;
mod messages;
mod pages;
mod people;
mod positions;
mod quota;
mod sessions;
#[cfg(feature = "simulation")]
mod simulated;
mod sweeps;
mod terminations;

/// The store in memory. Cheap to clone; the clones are one store.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    /// The index of this handle's subscriber.
    subscriber: usize,
}

struct Inner {
    state: Mutex<State>,
    limits: StoreLimits,
    // When the store began, by tokio's clock and by the wall's; and how far its clock was set ahead since, in
    // milliseconds.
    begun: (Instant, Millis),
    ahead: AtomicI64,
}

/// What one handle and its clones watch, and where they receive its events.
struct Subscriber {
    events: Arc<Events>,
    users: HashSet<UserId>,
    chats: HashSet<ChatId>,
    presence: HashSet<UserId>,
}

/// All that the store holds, under one lock.
///
/// More than 12 fields: one per kind of key in Redis, which holds them side by side, too.
#[derive(Default)]
struct State {
    users: HashMap<UserId, User>,
    owners: HashMap<DeviceId, Owner>,
    /// When the tombstones expire, in that order.
    tombstones: BTreeSet<(Instant, Gone)>,
    terminations: HashMap<TerminationId, TerminationRecord>,
    work: HashMap<String, (String, Millis)>,
    counts: HashMap<String, (Count, Millis)>,
    /// How far the rounds of sweeps are.
    sweeps: HashMap<String, u64>,
    /// How many `work` and `counts` there may be before the expired ones are swept.
    sweep_at: usize,
    chats: HashMap<ChatId, ChatState>,
    /// Ids of deleted chats; not reused as long as their tombstone exists.
    deleted: HashSet<ChatId>,
    pairs: HashMap<(UserId, UserId), ChatId>,
    /// By lookalike key.
    public: HashMap<String, ChatId>,
    named: HashMap<String, BTreeSet<(Millis, ChatId)>>,
    edges: HashMap<String, edges::Edge>,
    /// The holder of each name.
    names: HashMap<String, Holder>,
    /// The token of the newest registration of a chat.
    last_token: u64,
    /// Edges' reports, each with its expiry.
    reports: BTreeMap<String, (Bytes, Instant)>,
    /// The audit log, oldest first.
    audit: VecDeque<(AuditId, Bytes)>,
    audit_attempts: VecDeque<(AuditId, Bytes)>,
    links: HashMap<LinkId, links::Waiting>,
    subscribers: Vec<Subscriber>,
}

#[derive(Default)]
struct User {
    devices: HashMap<DeviceId, Row>,
    chats: BTreeSet<ChatId>,
    reads: HashMap<ChatId, ReadOffset>,
    /// The generation with which the newest device began.
    generations: u32,
    /// Who has put the user into a chat.
    put: HashMap<ChatId, UserId>,
    blocks: BTreeMap<UserId, Millis>,
    invitations: BTreeMap<ChatId, Invitation>,
    /// Who may not put the user into a chat, and until when.
    bars: HashMap<UserId, Millis>,
    /// How often the user has answered.
    answers: u64,
    /// How many bytes of the user a chat holds, by which account.
    stored: HashMap<ChatId, (u64, u64)>,
}

/// A device, whose `lease` counts only while the incarnation of its edge lives.
struct Row {
    device: Device,
    /// The id of the incarnation.
    incarnation: String,
    /// The newest session that served the device.
    there: u64,
    /// When the newest session began.
    begun: Millis,
    /// When the device was warned; while it registers: written.
    warned: Option<Instant>,
    /// When its expiry must be checked.
    due: Millis,
}

/// What has a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gone {
    Device(DeviceId),
    Chat(ChatId),
}

struct TerminationRecord {
    record: Termination,
    /// Set once it is done.
    kept_until: Option<Instant>,
}

/// All that the store holds of one chat.
///
/// More than 12 fields: one per key of a chat in Redis.
struct ChatState {
    chat: Chat,
    with: Option<UserId>,
    members: BTreeMap<UserId, Membership>,
    /// How many have joined.
    version: u64,
    /// Members whose queues aren't known to exist, with the version of the membership.
    arriving: BTreeMap<UserId, u64>,
    banned: HashSet<UserId>,
    /// Who left last, by the epoch that their leave made.
    left: BTreeMap<u64, UserId>,
    /// The newest messages, ascending.
    log: VecDeque<Entry>,
    log_bytes: u64,
    outbox: BTreeSet<Seq>,
    keys: HashMap<(UserId, MessageKey), Key>,
    /// The keys by age, oldest first.
    key_ages: VecDeque<(Instant, UserId, MessageKey)>,
    subscriptions: HashMap<DeviceId, Subscription>,
    ledger: quota::Ledger,
    /// What the log dropped before the broker had it; kept in simulations only.
    let_go: LetGo,
}

#[derive(Clone, Copy)]
struct Membership {
    boundary: Seq,
    version: u64,
}

struct Entry {
    seq: Seq,
    from: UserId,
    /// The frame, followed by the epoch.
    body: Bytes,
    /// Bytes of all messages of the chat, up to this one.
    upto: u64,
    since: Instant,
}

#[derive(Clone, Copy)]
struct Key {
    seq: Seq,
    at: Millis,
    fingerprint: u64,
}

#[derive(Clone, Copy)]
struct Subscription {
    from: Seq,
    cursor: Seq,
    fence: u64,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Returns an empty store.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        let begun = (Instant::now(), now_millis());
        let inner = Inner { state: Mutex::default(), limits, begun, ahead: AtomicI64::new(0) };
        Self { inner: Arc::new(inner), subscriber: 0 }.another()
    }

    /// Returns another handle to the same store with its own subscriber, as another edge has.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut state = self.state();
        let subscriber = state.subscribers.len();
        let events = Arc::new(Events::new());
        state.subscribers.push(Subscriber {
            events,
            users: HashSet::new(),
            chats: HashSet::new(),
            presence: HashSet::new(),
        });
        Self { inner: self.inner.clone(), subscriber }
    }

    /// Sets the store's clock this many milliseconds ahead of the machine's, or behind, as happens to Redis's.
    pub fn set_clock_ahead(&self, millis: i64) {
        self.inner.ahead.store(millis, Ordering::Relaxed);
    }

    /// Returns the time by the store's clock.
    fn now(&self) -> Millis {
        let (begun, at) = self.inner.begun;
        let elapsed = Millis::try_from(begun.elapsed().as_millis()).unwrap_or(Millis::MAX);
        at.saturating_add(elapsed)
            .saturating_add_signed(self.inner.ahead.load(Ordering::Relaxed) + store_ahead())
    }

    /// See [`super::Store::take_events`].
    #[must_use]
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        let events =
            self.state().subscribers.get(self.subscriber).map(|subscriber| subscriber.events.clone());
        events?.take()
    }

    /// See [`super::Store::watch_user`].
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        self.watch(|subscriber| {
            subscriber.users.insert(user.clone());
        });
        Ok(())
    }

    /// See [`super::Store::unwatch_user`].
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        self.watch(|subscriber| {
            subscriber.users.remove(user);
        });
        Ok(())
    }

    /// See [`super::Store::watch_chats`].
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.watch(|subscriber| subscriber.chats.extend(chats));
        Ok(())
    }

    /// See [`super::Store::unwatch_chats`].
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.watch(|subscriber| {
            for chat in chats {
                subscriber.chats.remove(chat);
            }
        });
        Ok(())
    }

    /// See [`super::Store::signal`].
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        if payload.len() > super::MAX_SIGNAL {
            return Err(super::types::too_large(payload.len()));
        }
        self.state().publish_to_user(user, &StoreEvent::Signal(user.clone(), payload));
        Ok(())
    }

    /// See [`super::Store::publish_queued`].
    pub async fn publish_queued(&self, chat: ChatId, devices: &[DeviceId]) -> Result<()> {
        self.state().publish_to_chat(chat, &StoreEvent::Queued(chat, devices.to_vec()));
        Ok(())
    }

    /// See [`super::Store::watch_presence`].
    pub async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        self.watch(|subscriber| subscriber.presence.extend(users.iter().cloned()));
        Ok(())
    }

    /// See [`super::Store::unwatch_presence`].
    pub async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        self.watch(|subscriber| {
            for user in users {
                subscriber.presence.remove(user);
            }
        });
        Ok(())
    }

    /// See [`super::Store::announce`].
    pub async fn announce(&self, user: &UserId, payload: Bytes) -> Result<()> {
        self.signal(user, payload).await?;
        for subscriber in
            self.state().subscribers.iter().filter(|subscriber| subscriber.presence.contains(user))
        {
            subscriber.events.emit(StoreEvent::Presence(user.clone()));
        }
        Ok(())
    }

    /// See [`super::Store::publish_typing`].
    pub async fn publish_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        let state = self.state();
        let few = |room: &&ChatState| room.members.contains_key(user) && room.members.len() <= most as usize;
        if state.chats.get(&chat).filter(few).is_none() {
            return Ok(false);
        }
        for subscriber in state.subscribers.iter().filter(|subscriber| subscriber.chats.contains(&chat)) {
            subscriber.events.emit_if_quiet(StoreEvent::Typing(chat, user.clone()));
        }
        Ok(true)
    }

    /// See [`super::Store::ping`].
    pub async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn watch(&self, change: impl FnOnce(&mut Subscriber)) {
        if let Some(subscriber) = self.state().subscribers.get_mut(self.subscriber) {
            change(subscriber);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug, but the maps are consistent between any two statements.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> &StoreLimits {
        &self.inner.limits
    }
}

impl State {
    fn user(&mut self, user: &UserId) -> &mut User {
        self.users.entry(user.clone()).or_default()
    }

    fn row(&mut self, user: &UserId, device: DeviceId) -> Option<&mut Row> {
        self.users.get_mut(user)?.devices.get_mut(&device)
    }

    /// Keeps a tombstone for `long` from now.
    fn mark(&mut self, gone: Gone, long: Duration) {
        self.tombstones.insert((store_instant() + long, gone));
    }

    /// Deletes the expired tombstones.
    fn tidy(&mut self) {
        let now = store_instant();
        while let Some((until, gone)) = self.tombstones.first().copied()
            && until <= now
        {
            self.tombstones.pop_first();
            match gone {
                Gone::Device(device) => drop(self.owners.remove(&device)),
                Gone::Chat(chat) => drop(self.deleted.remove(&chat)),
            }
        }
    }

    fn terminated(&self, user: &UserId, device: DeviceId) -> bool {
        self.owners.get(&device).is_some_and(|owner| owner.user == *user && owner.terminated.is_some())
    }

    /// Moves a read offset forward, if the chat is on the user's list, and notifies watchers.
    fn read(&mut self, user: &UserId, chat: ChatId, seq: Seq, device: Option<DeviceId>) -> Seq {
        let stands = self.users.get(user).and_then(|user| user.reads.get(&chat)).map_or(0, |read| read.seq);
        let listed = self.users.get(user).is_some_and(|user| user.chats.contains(&chat));
        if !listed || seq <= stands {
            return stands;
        }
        self.user(user).reads.insert(chat, ReadOffset { seq, device });
        self.publish_to_user(user, &StoreEvent::ReadsChanged(user.clone()));
        seq
    }

    fn publish_to_user(&self, user: &UserId, event: &StoreEvent) {
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.users.contains(user)) {
            subscriber.events.emit(event.clone());
        }
    }

    fn publish_to_chat(&self, chat: ChatId, event: &StoreEvent) {
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.chats.contains(&chat)) {
            subscriber.events.emit(event.clone());
        }
    }
}

/// Returns a time to live or a window in the clock's unit.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
