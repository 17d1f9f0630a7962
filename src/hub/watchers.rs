//! Presence watchers on this edge: user -> the sessions that watch the user. It receives what was read elsewhere, and
//! notifies each session of what is new for it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{Command, Mailbox, SessionHandle, lock};
use crate::{
    domain::id::{DeviceId, UserId},
    protocol::Presence,
};

/// The minimum time between two reads of one user, and so between two notifications: the last state wins.
const APART: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Watcher {
    session: (DeviceId, u64),
    mailbox: Mailbox,
    // Which `watch` of the session it was: results for an older one are dropped.
    round: u64,
    // The presence that the session was last notified of; none until it has its first answer.
    notified: Option<bool>,
}

/// The result of one read of a user.
#[derive(Debug, Clone)]
pub struct PresenceRead {
    /// The user's presence, for the watchers.
    pub presence: Presence,
    /// The user's devices.
    pub devices: Vec<DeviceId>,
    /// The devices that are online.
    pub online: Vec<DeviceId>,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: Vec<Watcher>,
    known: Option<bool>,
    // The devices that were online when a device last was.
    online: Vec<DeviceId>,
    // Since when no device is online. The notification is delayed: a device may come back.
    gone: Option<Instant>,
    // Whether a read is due: scheduled, or to follow the present read.
    due: bool,
    reading: bool,
    read_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Maps {
    users: HashMap<UserId, Watched>,
    sessions: HashMap<(DeviceId, u64), HashSet<UserId>>,
}

/// The watchers of one edge; see the module. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Watchers {
    maps: Arc<Mutex<Maps>>,
}

impl Maps {
    fn remove(&mut self, session: (DeviceId, u64), user: &UserId, idle: &mut Vec<UserId>) {
        if let Some(watched) = self.users.get_mut(user) {
            watched.watchers.retain(|watcher| watcher.session != session);
            if watched.watchers.is_empty() {
                self.users.remove(user);
                idle.push(user.clone());
            }
        }
    }
}

impl Watchers {
    /// Makes this session watch these users and no others. It is notified of none before [`Watchers::answered`].
    /// Returns the users that no session watches any more.
    pub fn watch(&self, handle: &SessionHandle, round: u64, users: &[UserId]) -> Vec<UserId> {
        let mut maps = lock(&self.maps);
        let (session, mut idle) = (handle.id(), Vec::new());
        let before = maps.sessions.remove(&session).unwrap_or_default();
        for user in users {
            let watched = maps.users.entry(user.clone()).or_default();
            watched.watchers.retain(|watcher| watcher.session != session);
            let mailbox = handle.mailbox.clone();
            watched.watchers.push(Watcher { session, mailbox, round, notified: None });
        }
        let now: HashSet<UserId> = users.iter().cloned().collect();
        for user in before.difference(&now) {
            maps.remove(session, user, &mut idle);
        }
        if !now.is_empty() {
            maps.sessions.insert(session, now);
        }
        idle
    }

    /// Removes these users from the session's. Returns those that no session watches now.
    pub fn unwatch(&self, handle: &SessionHandle, users: &[UserId]) -> Vec<UserId> {
        let mut maps = lock(&self.maps);
        let mut idle = Vec::new();
        for user in users {
            if maps.sessions.get_mut(&handle.id()).is_some_and(|own| own.remove(user)) {
                maps.remove(handle.id(), user, &mut idle);
            }
        }
        idle
    }

    /// Returns the users that a session watches.
    #[must_use]
    pub fn watched_by(&self, handle: &SessionHandle) -> Vec<UserId> {
        let maps = lock(&self.maps);
        maps.sessions.get(&handle.id()).map(|own| own.iter().cloned().collect()).unwrap_or_default()
    }

    /// Removes the session. Returns the users that no session watches now.
    pub fn forget(&self, handle: &SessionHandle) -> Vec<UserId> {
        let mut maps = lock(&self.maps);
        let mut idle = Vec::new();
        for user in maps.sessions.remove(&handle.id()).unwrap_or_default() {
            maps.remove(handle.id(), &user, &mut idle);
        }
        idle
    }

    /// Records that the session gets `found` as its first answer. Returns true if something else was read at the same
    /// time: the caller must read the user again.
    pub fn answered(&self, handle: &SessionHandle, user: &UserId, found: &PresenceRead) -> bool {
        let mut maps = lock(&self.maps);
        let online = found.presence.online;
        let Some(watched) = maps.users.get_mut(user) else { return false };
        for watcher in watched.watchers.iter_mut().filter(|watcher| watcher.session == handle.id()) {
            watcher.notified = Some(online);
        }
        if watched.known.is_none() {
            watched.online.clone_from(&found.online);
        }
        let doubtful = watched.reading || *watched.known.get_or_insert(online) != online;
        doubtful && watched.hint()
    }

    /// Handles a hint that a user's presence may have changed. Returns true if the caller shall read it, once it is
    /// time.
    pub fn hint(&self, user: &UserId) -> bool {
        lock(&self.maps).users.get_mut(user).is_some_and(Watched::hint)
    }

    /// Returns whether a session here watches the user.
    #[must_use]
    pub fn watches(&self, user: &UserId) -> bool {
        lock(&self.maps).users.contains_key(user)
    }

    /// Returns when a user may be read. Returns none if no session watches them. A user who went offline has `grace` to
    /// come back.
    #[must_use]
    pub fn when(&self, user: &UserId, grace: Duration) -> Option<Instant> {
        let maps = lock(&self.maps);
        let now = Instant::now();
        maps.users.get(user).map(|watched| {
            let earliest = watched.read_at.map_or(now, |at| now.max(at + APART));
            watched.gone.map_or(earliest, |at| earliest.max(at + grace))
        })
    }

    /// Marks the read as begun.
    pub fn reading(&self, user: &UserId) {
        if let Some(watched) = lock(&self.maps).users.get_mut(user) {
            (watched.due, watched.reading, watched.read_at) = (false, true, Some(Instant::now()));
        }
    }

    /// Ends the read with its result (none: it failed). Notifies the watchers for whom it is new. Notifies that no
    /// device is online only after this was so for `grace`, or if the devices that were online are terminated. Returns
    /// true if the caller shall read again.
    pub fn on_read(&self, user: &UserId, found: Option<&PresenceRead>, grace: Duration) -> bool {
        let mut maps = lock(&self.maps);
        let Some(watched) = maps.users.get_mut(user) else { return false };
        watched.reading = false;
        let mut again = std::mem::take(&mut watched.due) || found.is_none();
        if let Some(found) = found {
            if !found.online.is_empty() {
                (watched.online, watched.gone) = (found.online.clone(), None);
            } else if watched.online.iter().any(|device| found.devices.contains(device)) {
                let now = Instant::now();
                if now < *watched.gone.get_or_insert(now) + grace {
                    watched.due = true;
                    return true;
                }
            }
            let found = &found.presence;
            watched.known = Some(found.online);
            for watcher in &mut watched.watchers {
                if watcher.notified.is_none_or(|notified| notified == found.online) {
                    continue;
                }
                if watcher.mailbox.offer(Command::Presence(watcher.round, Arc::new(found.clone()))) {
                    watcher.notified = Some(found.online);
                } else {
                    again = true;
                }
            }
        }
        watched.due = again;
        again
    }

    /// Returns all users that are watched here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        lock(&self.maps).users.keys().cloned().collect()
    }
}

impl Watched {
    fn hint(&mut self) -> bool {
        let first = !self.due && !self.reading;
        self.due = true;
        first
    }
}

#[cfg(test)]
#[path = "../../tests/unit/hub/watchers.rs"]
mod tests;
