//! The store in this process's memory: the same contract with nothing installed. What it holds ends with the process.
//!
//! One mutex around plain maps: every method takes it once, does its step, and lets go; none awaits anything. Time is
//! tokio's, so a test may stop it. What Redis decides by its wall clock (leases, windows, who was seen when) is decided here by a
//! clock that a test may set, too ([`EmbeddedStore::set_clock_ahead`]).

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
    chance::store_ahead,
    domain::{
        Millis, Seq,
        chat::Chat,
        device::Device,
        id::{ChatId, DeviceId, LinkId, MessageKey, TerminationId, UserId},
        now_millis,
        termination::Termination,
    },
};

mod chats;
mod console;
mod devices;
mod edges;
mod expiry;
mod links;
mod messages;
mod owed;
mod terminations;

/// The store in memory. Cheap to clone; the clones are one store.
#[derive(Clone)]
pub struct EmbeddedStore {
    inner: Arc<Inner>,
    /// Which of the store's ears is this handle's.
    ear: usize,
}

struct Inner {
    state: Mutex<State>,
    limits: StoreLimits,
    // When the store began, by tokio's clock and by the wall's; and how far its clock was set ahead since, in milliseconds.
    begun: (Instant, Millis),
    ahead: AtomicI64,
}

/// What one handle and its clones watch, and where they hear of it.
struct Ear {
    events: Arc<Events>,
    users: HashSet<UserId>,
    chats: HashSet<ChatId>,
    presence: HashSet<UserId>,
}

#[derive(Default)]
struct State {
    users: HashMap<UserId, User>,
    owners: HashMap<DeviceId, Owner>,
    terminations: HashMap<TerminationId, Ending>,
    work: HashMap<String, (String, Millis)>,
    counts: HashMap<String, (Count, Millis)>,
    /// How many `work` and `counts` there may be before those that have run out are swept.
    sweep_at: usize,
    chats: HashMap<ChatId, Room>,
    /// Ids of deleted chats; never used again.
    deleted: HashSet<ChatId>,
    pairs: HashMap<(UserId, UserId), ChatId>,
    public: HashMap<String, ChatId>,
    named: HashMap<String, BTreeSet<(Millis, ChatId)>>,
    edges: HashMap<String, edges::Edge>,
    /// Whose process has which name.
    names: HashMap<String, Holder>,
    /// The token of the newest note of a chat.
    last_token: u64,
    /// Edges' figures, each until then.
    reports: BTreeMap<String, (Bytes, Instant)>,
    /// What admins did, oldest first.
    audit: VecDeque<(AuditId, Bytes)>,
    links: HashMap<LinkId, links::Waiting>,
    ears: Vec<Ear>,
}

#[derive(Default)]
struct User {
    devices: HashMap<DeviceId, Row>,
    chats: BTreeSet<ChatId>,
    reads: HashMap<ChatId, ReadOffset>,
}

/// A device, whose `lease` counts only until it runs out.
struct Row {
    device: Device,
    until: Millis,
    /// The newest session that served the device.
    there: u64,
    /// When the newest was begun.
    begun: Millis,
    /// When the device was warned of; while it registers: written.
    warned: Option<Instant>,
    /// When somebody has to look whether it expires.
    due: Millis,
}

struct Ending {
    record: Termination,
    /// Set once it is done.
    kept_until: Option<Instant>,
}

struct Room {
    chat: Chat,
    with: Option<UserId>,
    members: BTreeMap<UserId, Membership>,
    /// How many have joined.
    version: u64,
    /// Whose queues aren't known to be there, with the version of the membership.
    arriving: BTreeMap<UserId, u64>,
    banned: HashSet<UserId>,
    /// Who left last, by the epoch that their leaving made.
    left: BTreeMap<u64, UserId>,
    /// The newest messages, ascending.
    log: VecDeque<Entry>,
    log_bytes: u64,
    outbox: BTreeSet<Seq>,
    keys: HashMap<(UserId, MessageKey), Key>,
    /// The keys by age, oldest first.
    key_ages: VecDeque<(Instant, UserId, MessageKey)>,
    owed: HashMap<DeviceId, Debt>,
    /// What the log let go of before the broker had it.
    #[cfg(feature = "simulation")]
    let_go: BTreeSet<Seq>,
}

#[derive(Clone, Copy)]
struct Membership {
    boundary: Seq,
    version: u64,
}

struct Entry {
    seq: Seq,
    /// The frame and, behind it, the epoch.
    body: Bytes,
    since: Instant,
}

#[derive(Clone, Copy)]
struct Key {
    seq: Seq,
    at: Millis,
    fingerprint: u64,
}

#[derive(Clone, Copy)]
struct Debt {
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
    /// An empty one.
    #[must_use]
    pub fn new(limits: StoreLimits) -> Self {
        let begun = (Instant::now(), now_millis());
        let inner = Inner { state: Mutex::default(), limits, begun, ahead: AtomicI64::new(0) };
        Self { inner: Arc::new(inner), ear: 0 }.another()
    }

    /// Another handle to the same store that hears for itself, as another edge does.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut state = self.state();
        let ear = state.ears.len();
        let events = Arc::new(Events::new());
        state.ears.push(Ear {
            events,
            users: HashSet::new(),
            chats: HashSet::new(),
            presence: HashSet::new(),
        });
        Self { inner: self.inner.clone(), ear }
    }

    /// Sets the store's clock so many milliseconds ahead of the machine's, or behind, as happens to Redis's.
    pub fn set_clock_ahead(&self, millis: i64) {
        self.inner.ahead.store(millis, Ordering::Relaxed);
    }

    /// Now, by the store's clock.
    fn now(&self) -> Millis {
        let (begun, at) = self.inner.begun;
        let elapsed = Millis::try_from(begun.elapsed().as_millis()).unwrap_or(Millis::MAX);
        at.saturating_add(elapsed)
            .saturating_add_signed(self.inner.ahead.load(Ordering::Relaxed) + store_ahead())
    }

    /// See [`super::Store::take_events`].
    #[must_use]
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        let events = self.state().ears.get(self.ear).map(|ear| ear.events.clone());
        events?.take()
    }

    /// See [`super::Store::watch_user`].
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        self.watch(|ear| {
            ear.users.insert(user.clone());
        });
        Ok(())
    }

    /// See [`super::Store::unwatch_user`].
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        self.watch(|ear| {
            ear.users.remove(user);
        });
        Ok(())
    }

    /// See [`super::Store::watch_chats`].
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.watch(|ear| ear.chats.extend(chats));
        Ok(())
    }

    /// See [`super::Store::unwatch_chats`].
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        self.watch(|ear| {
            for chat in chats {
                ear.chats.remove(chat);
            }
        });
        Ok(())
    }

    /// See [`super::Store::signal`].
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        if payload.len() > super::MAX_SIGNAL {
            return Err(super::types::too_large(payload.len()));
        }
        self.state().tell_user(user, &StoreEvent::Signal(user.clone(), payload));
        Ok(())
    }

    /// See [`super::Store::watch_presence`].
    pub async fn watch_presence(&self, users: &[UserId]) -> Result<()> {
        self.watch(|ear| ear.presence.extend(users.iter().cloned()));
        Ok(())
    }

    /// See [`super::Store::unwatch_presence`].
    pub async fn unwatch_presence(&self, users: &[UserId]) -> Result<()> {
        self.watch(|ear| {
            for user in users {
                ear.presence.remove(user);
            }
        });
        Ok(())
    }

    /// See [`super::Store::announce`].
    pub async fn announce(&self, user: &UserId, payload: Bytes) -> Result<()> {
        self.signal(user, payload).await?;
        for ear in self.state().ears.iter().filter(|ear| ear.presence.contains(user)) {
            ear.events.emit(StoreEvent::Presence(user.clone()));
        }
        Ok(())
    }

    /// See [`super::Store::tell_typing`].
    pub async fn tell_typing(&self, chat: ChatId, user: &UserId, most: u32) -> Result<bool> {
        let state = self.state();
        let few = |room: &&Room| room.members.contains_key(user) && room.members.len() <= most as usize;
        if state.chats.get(&chat).filter(few).is_none() {
            return Ok(false);
        }
        for ear in state.ears.iter().filter(|ear| ear.chats.contains(&chat)) {
            ear.events.emit_if_quiet(StoreEvent::Typing(chat, user.clone()));
        }
        Ok(true)
    }

    /// See [`super::Store::ping`].
    pub async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn watch(&self, change: impl FnOnce(&mut Ear)) {
        if let Some(ear) = self.state().ears.get_mut(self.ear) {
            change(ear);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug, but the maps are whole between any two statements.
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

    fn terminated(&self, user: &UserId, device: DeviceId) -> bool {
        self.owners.get(&device).is_some_and(|owner| owner.user == *user && owner.terminated.is_some())
    }

    /// Moves a read offset forward, if the chat is on the user's list, and tells.
    fn read(&mut self, user: &UserId, chat: ChatId, seq: Seq, device: Option<DeviceId>) -> Seq {
        let stands = self.users.get(user).and_then(|user| user.reads.get(&chat)).map_or(0, |read| read.seq);
        let listed = self.users.get(user).is_some_and(|user| user.chats.contains(&chat));
        if !listed || (seq <= stands && !planted!(LastWriteWins)) {
            return stands;
        }
        self.user(user).reads.insert(chat, ReadOffset { seq, device });
        self.tell_user(user, &StoreEvent::ReadsChanged(user.clone()));
        seq
    }

    fn tell_user(&self, user: &UserId, event: &StoreEvent) {
        for ear in self.ears.iter().filter(|ear| ear.users.contains(user)) {
            ear.events.emit(event.clone());
        }
    }

    fn tell_chat(&self, chat: ChatId, seq: Seq) {
        for ear in self.ears.iter().filter(|ear| ear.chats.contains(&chat)) {
            ear.events.emit(StoreEvent::Doorbell(chat, seq));
        }
    }
}

/// A time to live or a window, in what the clock counts.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
