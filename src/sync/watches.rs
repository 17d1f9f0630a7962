//! This edge's subscriptions in the store. The hub says what its sessions need, and changes at once; subscriptions follow it.
//! Whoever needs one waits for it, and reads then. An unneeded one stays for a little, because a disconnected device mostly comes
//! back at once; one task removes it, if it is still unneeded.

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Core, lock, presence};
use crate::{
    domain::id::{ChatId, UserId},
    store::Result,
};

/// How long an unneeded subscription stays.
const LINGER: Duration = Duration::from_secs(5);
/// Pause before a failed subscription is retried.
const AGAIN: Duration = Duration::from_secs(1);
/// Calls to the store at a time; and the most removed in one step, so that all of it is in progress at once: whoever needs some of
/// it again waits for that call and no other.
const PARALLEL: usize = 64;

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Watch {
    /// A user's read offsets and signals.
    User(UserId),
    /// A chat's doorbell.
    Chat(ChatId),
    /// A user's presence.
    Presence(UserId),
}

/// Where subscriptions and needs differ at present. Bounded by the subscriptions: each is in it at most once.
#[derive(Debug, Default)]
pub(super) struct Watches {
    state: Mutex<State>,
    changed: Notify,
    // Something was removed: whoever needs it again may subscribe now.
    left: Notify,
}

#[derive(Debug, Default)]
struct State {
    // Unneeded ones, and when they are removed; all have the same delay, so the first is the next.
    idle: VecDeque<(Instant, Watch)>,
    waiting: HashSet<Watch>,
    // Being removed: until the store has answered, their state is unknown.
    leaving: HashSet<Watch>,
    // Needed, and subscribing failed.
    missing: HashSet<Watch>,
}

impl State {
    /// True: nothing else is idle.
    fn idle(&mut self, watch: Watch, until: Instant) -> bool {
        if self.waiting.contains(&watch) {
            return false;
        }
        self.waiting.insert(watch.clone());
        self.idle.push_back((until, watch));
        self.idle.len() == 1
    }

    /// Takes those to remove now.
    fn leave(&mut self, now: Instant, needed: impl Fn(&Watch) -> bool) -> Vec<Watch> {
        let mut leaving = Vec::new();
        while leaving.len() < PARALLEL && self.idle.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, watch)) = self.idle.pop_front() else { break };
            self.waiting.remove(&watch);
            if !needed(&watch) {
                self.missing.remove(&watch);
                self.leaving.insert(watch.clone());
                leaving.push(watch);
            }
        }
        leaving
    }

    /// Returns when there is something to do.
    fn next(&self, now: Instant) -> Option<Instant> {
        let again = (!self.missing.is_empty()).then(|| now + AGAIN);
        self.idle.front().map(|(until, _)| *until).into_iter().chain(again).min()
    }
}

impl Watches {
    /// These may be unneeded now.
    pub(super) fn idle(&self, watches: impl IntoIterator<Item = Watch>) {
        let until = Instant::now() + LINGER;
        let mut state = lock(&self.state);
        let first = watches.into_iter().filter(|watch| state.idle(watch.clone(), until)).count() > 0;
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    // A removal and a subscription of the same thing could overtake each other.
    async fn settled(&self, watches: &[Watch]) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if lock(&self.state).leaving.is_empty()
                || !watches.iter().any(|watch| lock(&self.state).leaving.contains(watch))
            {
                return;
            }
            left.await;
        }
    }
}

/// Subscribes; they are active when this returns. The caller's need must be in the hub by now.
///
/// # Errors
/// When the store fails. It is retried while it is needed, and then read again.
pub(super) async fn subscribe(core: &Core, watches: Vec<Watch>) -> Result<()> {
    core.watching.watches.settled(&watches).await;
    let heard = tell(core, &watches).await;
    if heard.is_err() {
        lock(&core.watching.watches.state).missing.extend(watches);
        core.watching.watches.changed.notify_one();
    }
    heard
}

async fn tell(core: &Core, watches: &[Watch]) -> Result<()> {
    let (users, chats, presence) = kinds(watches);
    let users = async {
        let watched = users.into_iter().map(|user| core.store.watch_user(user)).collect::<Vec<_>>();
        let watched: Vec<Result<()>> = stream::iter(watched).buffer_unordered(PARALLEL).collect().await;
        watched.into_iter().collect::<Result<()>>()
    };
    let chats = async { if chats.is_empty() { Ok(()) } else { core.store.watch_chats(&chats).await } };
    let presence =
        async { if presence.is_empty() { Ok(()) } else { core.store.watch_presence(&presence).await } };
    tokio::try_join!(users, chats, presence).map(drop)
}

async fn let_go(core: &Core, watches: &[Watch]) -> Result<()> {
    let (users, chats, presence) = kinds(watches);
    let users = async {
        let gone = users.into_iter().map(|user| core.store.unwatch_user(user)).collect::<Vec<_>>();
        let gone: Vec<Result<()>> = stream::iter(gone).buffer_unordered(PARALLEL).collect().await;
        gone.into_iter().collect::<Result<()>>()
    };
    let chats = async { if chats.is_empty() { Ok(()) } else { core.store.unwatch_chats(&chats).await } };
    let presence =
        async { if presence.is_empty() { Ok(()) } else { core.store.unwatch_presence(&presence).await } };
    // All of it, whatever fails.
    let (users, chats, presence) = tokio::join!(users, chats, presence);
    users.and(chats).and(presence)
}

fn kinds(watches: &[Watch]) -> (Vec<&UserId>, Vec<ChatId>, Vec<UserId>) {
    let (mut users, mut chats, mut presence) = (Vec::new(), Vec::new(), Vec::new());
    for watch in watches {
        match watch {
            Watch::User(user) => users.push(user),
            Watch::Chat(chat) => chats.push(*chat),
            Watch::Presence(user) => presence.push(user.clone()),
        }
    }
    (users, chats, presence)
}

fn needed(core: &Core, watch: &Watch) -> bool {
    match watch {
        Watch::User(user) => core.hub.has_user(user),
        Watch::Chat(chat) => core.hub.has_chat(*chat),
        Watch::Presence(user) => core.hub.watchers.watches(user),
    }
}

/// Removes unneeded subscriptions, and retries needed ones that failed.
pub(super) async fn run(core: Arc<Core>) {
    let mut tried = Instant::now();
    loop {
        let now = Instant::now();
        // Decided under the lock: whoever needs it from now on finds it leaving, and waits.
        let leaving = lock(&core.watching.watches.state).leave(now, |watch| needed(&core, watch));
        if !leaving.is_empty() {
            leave(&core, leaving).await;
            continue;
        }
        if now >= tried + AGAIN {
            again(&core).await;
            tried = Instant::now();
        }
        let next = lock(&core.watching.watches.state).next(tried);
        let changed = core.watching.watches.changed.notified();
        match next {
            Some(next) => {
                tokio::select! {
                    () = changed => {}
                    () = sleep_until(next) => {}
                }
            }
            None => changed.await,
        }
    }
}

async fn leave(core: &Core, watches: Vec<Watch>) {
    let gone = let_go(core, &watches).await;
    let until = Instant::now() + LINGER;
    let mut state = lock(&core.watching.watches.state);
    // All of it: one batch is removed after the other.
    state.leaving.clear();
    if let Err(error) = gone {
        tracing::debug!(%error, "unsubscribing failed: unneeded events arrive for now");
        for watch in watches {
            state.idle(watch, until);
        }
    }
    drop(state);
    core.watching.watches.left.notify_waiters();
}

async fn again(core: &Core) {
    let missing = std::mem::take(&mut lock(&core.watching.watches.state).missing);
    let missing: Vec<Watch> = missing.into_iter().filter(|watch| needed(core, watch)).collect();
    if missing.is_empty() || subscribe(core, missing.clone()).await.is_err() {
        return;
    }
    // Missed events. The sweep reads chats' heads.
    for watch in missing {
        match watch {
            Watch::User(user) => core.watching.rereads.ask(&user),
            Watch::Presence(user) => presence::hint(core, user),
            Watch::Chat(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/sync/watches.rs"]
mod tests;
