//! The hub: who is connected to this edge (user -> sessions, chat -> sessions). It tracks sessions and passes commands
//! to them. It knows neither store nor broker nor sockets. One std mutex guards the maps, held for moments, never
//! across an await.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

mod follower;
mod inbox;
mod lease;
mod mailbox;
mod watchers;

use follower::ChatEntry;
pub use follower::{DoorbellOutcome, Followed, Intake, Progress};
pub use inbox::{Inbox, Mailbox, Wanted};
pub use lease::EdgeLease;
pub use mailbox::{CloseSignal, Command, HistoryAnswer, HistoryAsk, InvitationNews, LeaseClock, LinkRequest};
pub use watchers::{PresenceRead, Watchers};

/// One connected device, as others reach it.
#[derive(Debug, Clone)]
pub struct SessionHandle {
    /// The device's user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The fencing number: distinguishes this connection from an earlier or later one of the device.
    pub session: u64,
    /// The session's mailbox.
    pub mailbox: Mailbox,
    /// The session's right to act: its edge's, at the time of its opening.
    pub lease: Arc<EdgeLease>,
}

impl SessionHandle {
    fn id(&self) -> (DeviceId, u64) {
        (self.device, self.session)
    }

    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

/// A session in the list of its user.
#[derive(Debug)]
struct Connected {
    handle: SessionHandle,
    // The chats that it follows, ascending, each with the read offset that it was last notified of: a hint sends only
    // what moved.
    follows: Vec<(ChatId, Seq)>,
}

impl Connected {
    fn place(&self, chat: ChatId) -> Result<usize, usize> {
        self.follows.binary_search_by_key(&chat, |(followed, _)| *followed)
    }
}

#[derive(Debug, Default)]
struct UserEntry {
    sessions: Vec<Connected>,
    readings: Readings,
}

impl UserEntry {
    fn handles(&self) -> impl Iterator<Item = &SessionHandle> {
        self.sessions.iter().map(|session| &session.handle)
    }

    fn session(&mut self, handle: &SessionHandle) -> Option<&mut Connected> {
        self.sessions.iter_mut().find(|session| session.handle.same(handle))
    }
}

/// How many reads of the offsets of a user's chats have begun, for the sessions that followed the chats by then. A
/// caller that reads for a session before the session follows learns from it whether others have read meanwhile without
/// notifying the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readings(u64);

#[derive(Debug, Default)]
struct Maps {
    users: HashMap<UserId, UserEntry>,
    chats: HashMap<ChatId, ChatEntry>,
}

/// The hub of one edge; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hub {
    maps: Arc<Mutex<Maps>>,
    /// Who watches whose presence.
    pub watchers: Watchers,
}

impl Hub {
    /// Adds a session.
    pub fn attach(&self, handle: SessionHandle) {
        let mut maps = self.lock();
        let session = Connected { handle, follows: Vec::new() };
        maps.users.entry(session.handle.user.clone()).or_default().sessions.push(session);
    }

    /// Closes the older sessions of the device on this edge (4409): the session with this number serves the device.
    pub fn supersede(&self, user: &UserId, device: DeviceId, session: u64) {
        for other in self.sessions_of(user) {
            if other.device == device && other.session < session {
                other.mailbox.close_signal.close(CloseCode::Replaced);
            }
        }
    }

    /// Removes exactly this session. Returns true if it was the user's last on this edge.
    pub fn detach(&self, handle: &SessionHandle) -> bool {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(&handle.user) else { return false };
        entry.sessions.retain(|other| !other.handle.same(handle));
        let last = entry.sessions.is_empty();
        if last {
            maps.users.remove(&handle.user);
        }
        last
    }

    /// Adds a session to chats, each with the read offset that the session itself sends to its client; `readings` is
    /// the user's [`Readings`] when those offsets were read. Returns true if others have read meanwhile without
    /// notifying the session: the offsets must be read once more.
    pub fn follow(
        &self,
        handle: &SessionHandle,
        chats: impl IntoIterator<Item = (ChatId, Followed, Seq)>,
        readings: Readings,
    ) -> bool {
        let mut maps = self.lock();
        let Maps { users, chats: entries } = &mut *maps;
        let Some(user) = users.get_mut(&handle.user) else { return false };
        let again = user.readings != readings;
        let Some(session) = user.session(handle) else { return false };
        let mut new = Vec::new();
        for (chat, followed, told) in chats {
            let entry = entries.entry(chat).or_default();
            match session.place(chat) {
                Ok(at) => {
                    session.follows[at].1 = told;
                    entry.forget(handle);
                }
                Err(_) => new.push((chat, told)),
            }
            entry.add(chat, handle.clone(), followed);
        }
        session.follows.extend(new);
        session.follows.sort_unstable_by_key(|(chat, _)| *chat);
        session.follows.shrink_to_fit();
        again
    }

    /// Notifies the sessions that receive the chat from another node that this node carries it.
    pub fn placed(&self, chat: ChatId, node: &str) {
        let mut maps = self.lock();
        if let Some(entry) = maps.chats.get_mut(&chat).filter(|_| !node.is_empty()) {
            entry.placed(chat, node);
        }
    }

    /// The session has everything of the chat up to `seq`, and stops consuming its queue: from now on a doorbell wakes it.
    /// Returns [`Intake::Awake`], and changes nothing, if there was a doorbell for more.
    pub fn rest(&self, handle: &SessionHandle, chat: ChatId, seq: Seq) -> Intake {
        self.lock().chats.get_mut(&chat).map_or(Intake::Awake, |entry| entry.rest(handle, seq))
    }

    /// The session consumes the chat's queue again: doorbells don't wake it.
    pub fn awake(&self, handle: &SessionHandle, chat: ChatId) {
        if let Some(entry) = self.lock().chats.get_mut(&chat) {
            entry.awake(handle);
        }
    }

    /// Queues of the chat hold something that was announced long before: the idle sessions of these devices (none: of all)
    /// attach.
    pub fn queued(&self, chat: ChatId, devices: &[DeviceId]) {
        if let Some(entry) = self.lock().chats.get_mut(&chat) {
            entry.wake_all(chat, devices);
        }
    }

    /// The store has forgotten what queues may hold: all idle sessions attach.
    pub fn wake_all(&self) {
        for (chat, entry) in &mut self.lock().chats {
            entry.wake_all(*chat, &[]);
        }
    }

    /// Removes a session from a chat. Returns true if no session on this edge follows it any more.
    pub fn unfollow(&self, handle: &SessionHandle, chat: ChatId) -> bool {
        let mut maps = self.lock();
        let Maps { users, chats } = &mut *maps;
        if let Some(session) = users.get_mut(&handle.user).and_then(|user| user.session(handle))
            && let Ok(at) = session.place(chat)
        {
            session.follows.remove(at);
        }
        leaves(chats, handle, chat)
    }

    /// Removes a session from all its chats. Returns those that no session on this edge follows any more.
    pub fn unfollow_all(&self, handle: &SessionHandle) -> Vec<ChatId> {
        let mut maps = self.lock();
        let Maps { users, chats } = &mut *maps;
        let session = users.get_mut(&handle.user).and_then(|user| user.session(handle));
        let follows = session.map(|session| std::mem::take(&mut session.follows)).unwrap_or_default();
        follows.into_iter().map(|(chat, _)| chat).filter(|chat| leaves(chats, handle, *chat)).collect()
    }

    /// Returns whether the user has a session here.
    #[must_use]
    pub fn has_user(&self, user: &UserId) -> bool {
        self.lock().users.contains_key(user)
    }

    /// Returns whether a session here follows the chat.
    #[must_use]
    pub fn has_chat(&self, chat: ChatId) -> bool {
        self.lock().chats.contains_key(&chat)
    }

    /// Returns all users here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.lock().users.keys().cloned().collect()
    }

    /// Returns all chats that are followed here.
    #[must_use]
    pub fn chats(&self) -> Vec<ChatId> {
        self.lock().chats.keys().copied().collect()
    }

    /// Returns all sessions here.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionHandle> {
        self.lock().users.values().flat_map(UserEntry::handles).cloned().collect()
    }

    /// Returns the user's sessions here.
    #[must_use]
    pub fn sessions_of(&self, user: &UserId) -> Vec<SessionHandle> {
        self.lock().users.get(user).map(|entry| entry.handles().cloned().collect()).unwrap_or_default()
    }

    /// Returns how many reads of the user's offsets have begun.
    #[must_use]
    pub fn readings(&self, user: &UserId) -> Readings {
        self.lock().users.get(user).map(|entry| entry.readings).unwrap_or_default()
    }

    /// Begins a read of the user's offsets. Returns the chats to read (ascending): those that a session of the user
    /// follows here.
    #[must_use]
    pub fn begin_reading(&self, user: &UserId) -> Vec<ChatId> {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(user) else { return Vec::new() };
        entry.readings.0 += 1;
        let mut chats: Vec<ChatId> =
            entry.sessions.iter().flat_map(|session| session.follows.iter().map(|(chat, _)| *chat)).collect();
        drop(maps);
        chats.sort_unstable();
        chats.dedup();
        chats
    }

    /// Notifies a user's sessions of what moved in their chats since they were last notified. Offsets only rise.
    pub fn push_reads(&self, user: &UserId, reads: &HashMap<ChatId, ReadOffset>) {
        let mut maps = self.lock();
        let Some(entry) = maps.users.get_mut(user) else { return };
        for Connected { handle, follows } in &mut entry.sessions {
            for (chat, told) in follows {
                if let Some(offset) = reads.get(chat).filter(|offset| offset.seq > *told) {
                    *told = offset.seq;
                    handle.mailbox.notify(Command::Read(*chat, *offset));
                }
            }
        }
    }

    /// Notifies each session of the user which of these chats (all that the user is in, ascending) it doesn't follow,
    /// and which others it does: signals may have been lost. Each session checks for itself before it acts.
    pub fn compare_chats(&self, user: &UserId, chats: &[ChatId]) {
        let follows = |session: &Connected| session.follows.iter().map(|(chat, _)| *chat).collect();
        let sessions: Vec<(Mailbox, Vec<ChatId>)> = {
            let maps = self.lock();
            let Some(entry) = maps.users.get(user) else { return };
            entry.sessions.iter().map(|it| (it.handle.mailbox.clone(), follows(it))).collect()
        };
        for (mailbox, follows) in sessions {
            let differences = differences(&follows, chats);
            if !differences.is_empty() {
                mailbox.notify(Command::CheckMemberships(differences));
            }
        }
    }

    /// Handles a doorbell: the chat has messages up to `seq`.
    pub fn doorbell(&self, chat: ChatId, seq: Seq, now: Instant) -> DoorbellOutcome {
        let mut maps = self.lock();
        maps.chats.get_mut(&chat).map_or(DoorbellOutcome::NobodyHere, |entry| entry.doorbell(chat, seq, now))
    }

    /// Notifies every session that hasn't sent what existed at the doorbell to read the log.
    pub fn tail_check(&self, chat: ChatId) {
        if let Some(entry) = self.lock().chats.get_mut(&chat) {
            entry.tail_check(chat);
        }
    }

    /// Notifies the other sessions in a chat that a user types, except those with many pending commands.
    pub fn typing(&self, chat: ChatId, user: &UserId) {
        let maps = self.lock();
        let Some(entry) = maps.chats.get(&chat) else { return };
        for session in entry.sessions().filter(|session| session.user != *user) {
            session.mailbox.offer(Command::Typing(chat, user.clone()));
        }
    }

    /// Returns the number of sessions by kind: (mains, subs).
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let maps = self.lock();
        let mut seen = HashSet::new();
        let (mut mains, mut subs) = (0, 0);
        for session in maps.users.values().flat_map(UserEntry::handles) {
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

/// Returns true if it was the last follower of the chat.
fn leaves(chats: &mut HashMap<ChatId, ChatEntry>, handle: &SessionHandle, chat: ChatId) -> bool {
    let Some(entry) = chats.get_mut(&chat) else { return false };
    entry.forget(handle);
    let last = entry.is_empty();
    if last {
        chats.remove(&chat);
    }
    last
}

/// Returns what is in only one of two lists, both ascending.
fn differences(one: &[ChatId], other: &[ChatId]) -> Vec<ChatId> {
    let (mut one, mut other) = (one.iter().copied().peekable(), other.iter().copied().peekable());
    let mut found = Vec::new();
    while let (Some(left), Some(right)) = (one.peek(), other.peek()) {
        match left.cmp(right) {
            Ordering::Less => found.extend(one.next()),
            Ordering::Greater => found.extend(other.next()),
            Ordering::Equal => {
                one.next();
                other.next();
            }
        }
    }
    found.extend(one.chain(other));
    found
}

// Nothing under these locks can leave the maps half-changed, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "../tests/unit/hub.rs"]
mod tests;
