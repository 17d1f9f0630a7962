//! Who on this edge watches whether whom is online: user -> the sessions that asked. It is told what was read elsewhere,
//! and tells each session what is new for it.

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

/// One user is looked at no more often, and so nobody is told more often: the last state wins.
const APART: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Watcher {
    session: (DeviceId, u64),
    mailbox: Mailbox,
    // Which `watch` of the session it was: what an older one had is of no interest any more.
    round: u64,
    // Whether the session was told that the user is online; none until it has its first answer.
    told: Option<bool>,
}

#[derive(Debug, Default)]
struct Watched {
    watchers: Vec<Watcher>,
    known: Option<bool>,
    // It is to be looked at: somewhere on the way to that, or once the present look is over.
    due: bool,
    looking: bool,
    looked: Option<Instant>,
}

#[derive(Debug, Default)]
struct Maps {
    users: HashMap<UserId, Watched>,
    sessions: HashMap<(DeviceId, u64), HashSet<UserId>>,
}

/// See the module. Cheap to clone.
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
    /// From now on this session watches these users and no others. It is told of none before [`Watchers::answered`]. Answers
    /// those that nobody watches any more.
    pub fn watch(&self, handle: &SessionHandle, round: u64, users: &[UserId]) -> Vec<UserId> {
        let mut maps = lock(&self.maps);
        let (session, mut idle) = (handle.id(), Vec::new());
        let before = maps.sessions.remove(&session).unwrap_or_default();
        for user in users {
            let watched = maps.users.entry(user.clone()).or_default();
            watched.watchers.retain(|watcher| watcher.session != session);
            let mailbox = handle.mailbox.clone();
            watched.watchers.push(Watcher { session, mailbox, round, told: None });
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

    /// The session watches these no longer; answers those that nobody watches now.
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

    /// The users that a session watches.
    #[must_use]
    pub fn watched_by(&self, handle: &SessionHandle) -> Vec<UserId> {
        let maps = lock(&self.maps);
        maps.sessions.get(&handle.id()).map(|own| own.iter().cloned().collect()).unwrap_or_default()
    }

    /// The session is over; answers the users that nobody watches now.
    pub fn forget(&self, handle: &SessionHandle) -> Vec<UserId> {
        let mut maps = lock(&self.maps);
        let mut idle = Vec::new();
        for user in maps.sessions.remove(&handle.id()).unwrap_or_default() {
            maps.remove(handle.id(), &user, &mut idle);
        }
        idle
    }

    /// The session gets this as its first answer. True: something else was read at the same time, so the user has to be
    /// looked at again, by whoever is told so.
    pub fn answered(&self, handle: &SessionHandle, user: &UserId, online: bool) -> bool {
        let mut maps = lock(&self.maps);
        let Some(watched) = maps.users.get_mut(user) else { return false };
        for watcher in watched.watchers.iter_mut().filter(|watcher| watcher.session == handle.id()) {
            watcher.told = Some(online);
        }
        let doubtful = watched.looking || *watched.known.get_or_insert(online) != online;
        doubtful && watched.hint()
    }

    /// Something may have happened to a user. True: the caller shall look, once it is time for it.
    pub fn hint(&self, user: &UserId) -> bool {
        lock(&self.maps).users.get_mut(user).is_some_and(Watched::hint)
    }

    /// When a user may be looked at; none: nobody watches.
    #[must_use]
    pub fn when(&self, user: &UserId) -> Option<Instant> {
        let maps = lock(&self.maps);
        let now = Instant::now();
        maps.users.get(user).map(|watched| watched.looked.map_or(now, |at| now.max(at + APART)))
    }

    /// The look begins.
    pub fn looking(&self, user: &UserId) {
        if let Some(watched) = lock(&self.maps).users.get_mut(user) {
            (watched.due, watched.looking, watched.looked) = (false, true, Some(Instant::now()));
        }
    }

    /// The look is over, with this (none: it failed). Tells those for whom it is new. True: the caller shall look again.
    pub fn looked(&self, user: &UserId, found: Option<&Presence>) -> bool {
        let mut maps = lock(&self.maps);
        let Some(watched) = maps.users.get_mut(user) else { return false };
        watched.looking = false;
        let mut again = std::mem::take(&mut watched.due) || found.is_none();
        if let Some(found) = found {
            watched.known = Some(found.online);
            for watcher in &mut watched.watchers {
                if watcher.told.is_none_or(|told| told == found.online) {
                    continue;
                }
                if watcher.mailbox.offer(Command::Presence(watcher.round, Arc::new(found.clone()))) {
                    watcher.told = Some(found.online);
                } else {
                    again = true;
                }
            }
        }
        watched.due = again;
        again
    }

    /// All that are watched here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        lock(&self.maps).users.keys().cloned().collect()
    }
}

impl Watched {
    fn hint(&mut self) -> bool {
        let first = !self.due && !self.looking;
        self.due = true;
        first
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::{
        domain::device::DeviceKind,
        hub::{Inbox, LeaseClock},
    };

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn session() -> (SessionHandle, Inbox) {
        let (mailbox, commands) = Mailbox::new(8);
        let handle = SessionHandle {
            user: user("alice"),
            device: DeviceId::random(),
            kind: DeviceKind::Main,
            session: 1,
            mailbox,
            lease: Arc::new(LeaseClock::new(APART)),
        };
        (handle, commands)
    }

    fn presence(online: bool) -> Presence {
        Presence { user: user("bob"), online, last_seen: None }
    }

    fn told(inbox: &mut Inbox) -> Vec<(u64, bool)> {
        let taken = inbox.take().into_iter();
        taken
            .map(|command| match command {
                Command::Presence(round, presence) => (round, presence.online),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_set_replaces_the_one_before() {
        let watchers = Watchers::default();
        let ((one, _one), (two, _two)) = (session(), session());
        let (bob, carol) = (user("bob"), user("carol"));
        assert_eq!(watchers.watch(&one, 1, from_ref(&bob)), []);
        assert_eq!(watchers.watch(&two, 1, from_ref(&bob)), []);
        assert_eq!(watchers.watch(&one, 2, from_ref(&carol)), [], "somebody else still watches");
        assert_eq!(watchers.forget(&two), vec![bob]);
        assert_eq!(watchers.unwatch(&one, from_ref(&carol)), vec![carol.clone()]);
        assert!(watchers.users().is_empty() && lock(&watchers.maps).users.is_empty());
    }

    #[tokio::test]
    async fn each_is_told_what_is_new_for_it_and_only_after_its_answer() {
        let watchers = Watchers::default();
        let ((one, mut ones), (two, mut twos)) = (session(), session());
        let bob = user("bob");
        watchers.watch(&one, 1, from_ref(&bob));
        assert!(!watchers.answered(&one, &bob, false));
        assert!(watchers.hint(&bob));
        assert!(!watchers.hint(&bob), "once");
        watchers.looking(&bob);
        // Another comes while it is looked, and reads what was before: the look must be made again.
        watchers.watch(&two, 7, from_ref(&bob));
        assert!(!watchers.answered(&two, &bob, false), "the present look goes on with it");
        assert!(watchers.looked(&bob, Some(&presence(true))), "again");
        assert_eq!((told(&mut ones), told(&mut twos)), (vec![(1, true)], vec![(7, true)]));
        watchers.looking(&bob);
        assert!(!watchers.looked(&bob, Some(&presence(true))));
        assert_eq!((told(&mut ones), told(&mut twos)), (vec![], vec![]), "nothing new");
        // An answer that differs from what is known is doubtful.
        watchers.watch(&two, 8, from_ref(&bob));
        assert!(watchers.answered(&two, &bob, false));
        watchers.looking(&bob);
        assert!(!watchers.looked(&bob, Some(&presence(true))));
        assert_eq!((told(&mut ones), told(&mut twos)), (vec![], vec![(8, true)]));
        watchers.looking(&bob);
        assert!(watchers.looked(&bob, None), "a look that failed is made again");
    }

    #[tokio::test]
    async fn a_full_mailbox_is_told_later() {
        let watchers = Watchers::default();
        let (one, mut ones) = session();
        let bob = user("bob");
        watchers.watch(&one, 1, from_ref(&bob));
        watchers.answered(&one, &bob, false);
        while one.mailbox.offer(Command::Typing(crate::domain::id::ChatId::random(), bob.clone())) {}
        assert!(watchers.looked(&bob, Some(&presence(true))), "again");
        assert_eq!(one.mailbox.doom.code(), None, "nobody is closed for that");
        assert!(!ones.take().is_empty());
        watchers.looking(&bob);
        assert!(!watchers.looked(&bob, Some(&presence(true))));
        assert_eq!(told(&mut ones), [(1, true)]);
    }
}
