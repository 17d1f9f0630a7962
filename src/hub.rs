//! Who is connected to this edge: user -> sessions, chat -> sessions. It tracks connections and hands things to them;
//! it knows neither store nor broker nor sockets. One std mutex around the maps, held for moments, never across an await.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{
        Seq,
        device::DeviceKind,
        id::{ChatId, DeviceId, UserId},
    },
    protocol::CloseCode,
    store::ReadOffset,
};

mod mailbox;
mod watchers;

pub use mailbox::{Command, Doom, HistoryAnswer, HistoryAsk, LeaseClock, LinkRequest, Mailbox};
pub use watchers::{Change, Watchers};

/// How far one session has sent one chat; shared with the tail check.
pub type Progress = Arc<AtomicU64>;

/// One chat of a session, as others look at it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// How far it was sent.
    pub progress: Progress,
    /// The node of the broker that the session takes it from.
    pub node: Arc<str>,
}

/// One connected device, as others reach it.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The fencing number: tells this connection from an earlier or later one of the device.
    pub session: u64,
    /// How to tell it something.
    pub mailbox: Mailbox,
    /// Its right to act.
    pub lease: Arc<LeaseClock>,
}

impl SessionHandle {
    fn id(&self) -> (DeviceId, u64) {
        (self.device, self.session)
    }

    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

#[derive(Debug, Default)]
struct UserEntry {
    sessions: Vec<SessionHandle>,
    // What each session follows, by device and session. A list: most follow few.
    follows: HashMap<(DeviceId, u64), Vec<ChatId>>,
    // The offsets that were told to the sessions, so that a hint sends only what moved.
    told: HashMap<ChatId, Seq>,
}

#[derive(Debug)]
struct Follower {
    session: SessionHandle,
    followed: Followed,
}

impl Follower {
    fn behind(&self, seq: Seq) -> bool {
        self.followed.progress.load(Ordering::Relaxed) < seq
    }
}

/// Doorbells so close to each other are one tail check.
const TOGETHER: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
struct ChatEntry {
    followers: Vec<Follower>,
    // The tail checks that are due: up to which seq, and the time of the doorbell. Bounded: they are TOGETHER apart, and
    // each is due within the same time.
    checks: VecDeque<(Seq, Instant)>,
}

#[derive(Debug, Default)]
struct Maps {
    users: HashMap<UserId, UserEntry>,
    chats: HashMap<ChatId, ChatEntry>,
}

/// The hub of one edge; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    maps: Arc<Mutex<Maps>>,
    /// Who watches whether whom is online.
    pub watchers: Watchers,
}

impl Hub {
    /// Adds a session.
    pub fn attach(&self, handle: SessionHandle) {
        let mut maps = self.lock();
        maps.users.entry(handle.user.clone()).or_default().sessions.push(handle);
    }

    /// A session of the device with this number serves it: older ones on this edge are doomed (4409).
    pub fn supersede(&self, user: &UserId, device: DeviceId, session: u64) {
        for other in self.sessions_of(user) {
            if other.device == device && other.session < session {
                other.mailbox.doom.seal(CloseCode::Replaced);
            }
        }
    }

    /// Removes exactly this session. True: it was the user's last on this edge.
    pub fn detach(&self, handle: &SessionHandle) -> bool {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(&handle.user) else { return false };
        entry.sessions.retain(|other| !other.same(handle));
        entry.follows.remove(&handle.id());
        let last = entry.sessions.is_empty();
        if last {
            maps.users.remove(&handle.user);
        }
        last
    }

    /// Adds a session to a chat.
    pub fn follow(&self, chat: ChatId, session: SessionHandle, followed: Followed) {
        let mut maps = self.lock();
        if let Some(user) = maps.users.get_mut(&session.user) {
            user.follows.entry(session.id()).or_default().push(chat);
        }
        maps.chats.entry(chat).or_default().followers.push(Follower { session, followed });
    }

    /// A chat is carried by this node: tells the sessions that take it from another.
    pub fn placed(&self, chat: ChatId, node: &str) {
        let mut maps = self.lock();
        let Some(entry) = maps.chats.get_mut(&chat).filter(|_| !node.is_empty()) else { return };
        for Follower { session, followed } in &mut entry.followers {
            if *followed.node != *node {
                followed.node = node.into();
                session.mailbox.tell(Command::Placed(chat, followed.node.clone()));
            }
        }
    }

    /// Removes a session from chats; answers those that nobody on this edge follows any more.
    pub fn unfollow(&self, chats: impl IntoIterator<Item = ChatId>, handle: &SessionHandle) -> Vec<ChatId> {
        let mut maps = self.lock();
        let mut idle = Vec::new();
        for chat in chats {
            let follows =
                maps.users.get_mut(&handle.user).and_then(|user| user.follows.get_mut(&handle.id()));
            if let Some(follows) = follows {
                follows.retain(|followed| *followed != chat);
            }
            let Some(entry) = maps.chats.get_mut(&chat) else { continue };
            entry.followers.retain(|follower| !follower.session.same(handle));
            if entry.followers.is_empty() {
                maps.chats.remove(&chat);
                idle.push(chat);
            }
        }
        idle
    }

    /// The chats that a session follows.
    #[must_use]
    pub fn followed_by(&self, handle: &SessionHandle) -> Vec<ChatId> {
        let maps = self.lock();
        let follows = maps.users.get(&handle.user).and_then(|user| user.follows.get(&handle.id()));
        follows.cloned().unwrap_or_default()
    }

    /// Whether the user has a session here.
    #[must_use]
    pub fn has_user(&self, user: &UserId) -> bool {
        self.lock().users.contains_key(user)
    }

    /// Whether a session here follows the chat.
    #[must_use]
    pub fn has_chat(&self, chat: ChatId) -> bool {
        self.lock().chats.contains_key(&chat)
    }

    /// All users here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.lock().users.keys().cloned().collect()
    }

    /// All chats that are followed here.
    #[must_use]
    pub fn chats(&self) -> Vec<ChatId> {
        self.lock().chats.keys().copied().collect()
    }

    /// All sessions here.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.lock().users.values().flat_map(|entry| entry.sessions.iter().cloned()).collect()
    }

    /// The user's sessions here.
    #[must_use]
    pub fn sessions_of(&self, user: &UserId) -> Vec<SessionHandle> {
        self.lock().users.get(user).map(|entry| entry.sessions.clone()).unwrap_or_default()
    }

    /// Notes which offsets the user's first session here is told in `welcome`: only what moves from then on is pushed. (A
    /// session that comes later knows by itself what it was told.)
    pub fn seed_reads(&self, user: &UserId, reads: &HashMap<ChatId, ReadOffset>) {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(user).filter(|entry| entry.sessions.len() == 1) else { return };
        for (chat, offset) in reads {
            entry.told.entry(*chat).or_insert(offset.seq);
        }
    }

    /// Tells a user's sessions what moved since they were last told. Offsets only rise.
    pub fn push_reads(&self, user: &UserId, reads: &HashMap<ChatId, ReadOffset>) {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(user) else { return };
        for (chat, offset) in reads {
            let told = entry.told.entry(*chat).or_default();
            if offset.seq > *told {
                *told = offset.seq;
                for session in &entry.sessions {
                    session.mailbox.tell(Command::Read(*chat, *offset));
                }
            }
        }
        // Chats that the user left must not stay here for ever.
        if entry.told.len() > reads.len() {
            entry.told.retain(|chat, _| reads.contains_key(chat));
        }
    }

    /// Tells each session of the user which of these chats (all that the user is in, ascending) it doesn't follow, and
    /// which others it does: signals may have been lost. Each looks for itself before it does anything.
    pub fn compare_chats(&self, user: &UserId, chats: &[ChatId]) {
        let maps = self.lock();
        let Some(entry) = maps.users.get(user) else { return };
        for session in &entry.sessions {
            let follows = entry.follows.get(&session.id()).map_or(&[][..], Vec::as_slice);
            let unknown = chats.iter().filter(|chat| !follows.contains(chat));
            let gone = follows.iter().filter(|chat| chats.binary_search(chat).is_err());
            for chat in unknown.chain(gone) {
                session.mailbox.tell(Command::Membership(*chat));
            }
        }
    }

    /// A chat has messages up to `seq`. True: the caller shall call [`Hub::tail_check`] once, when the time for NSQ to
    /// deliver is over.
    pub fn doorbell(&self, chat: ChatId, seq: Seq, now: Instant) -> bool {
        let mut maps = self.lock();
        let Some(entry) = maps.chats.get_mut(&chat) else { return false };
        if let Some((due, since)) = entry.checks.back_mut()
            && (*due >= seq || now < *since + TOGETHER)
        {
            *due = seq.max(*due);
            return false;
        }
        let behind = entry.followers.iter().any(|follower| follower.behind(seq));
        if behind {
            entry.checks.push_back((seq, now));
        }
        behind
    }

    /// Tells every session that hasn't sent what was there at the doorbell to look into the log.
    pub fn tail_check(&self, chat: ChatId) {
        let mut maps = self.lock();
        let Some(entry) = maps.chats.get_mut(&chat) else { return };
        let Some((due, _)) = entry.checks.pop_front() else { return };
        for follower in entry.followers.iter().filter(|follower| follower.behind(due)) {
            follower.session.mailbox.tell(Command::Tail(chat, due));
        }
    }

    /// Tells the sessions of the others in a chat that a user types; those that have much before them aren't told.
    pub fn typing(&self, chat: ChatId, user: &UserId) {
        let maps = self.lock();
        let Some(entry) = maps.chats.get(&chat) else { return };
        for follower in entry.followers.iter().filter(|follower| follower.session.user != *user) {
            follower.session.mailbox.offer(Command::Typing(chat, user.clone()));
        }
    }

    /// How many sessions there are, by kind: (mains, subs).
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let maps = self.lock();
        let mut seen = HashSet::new();
        let (mut mains, mut subs) = (0, 0);
        for session in maps.users.values().flat_map(|entry| &entry.sessions) {
            if seen.insert((session.device, session.session)) {
                match session.kind {
                    DeviceKind::Main => mains += 1,
                    DeviceKind::Sub => subs += 1,
                }
            }
        }
        (mains, subs)
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        lock(&self.maps)
    }
}

// Nothing that is done under these locks can leave the maps half-changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
