//! Presence for watchers (decision 0011). Events are hints, so a user's devices are read again, at most once a second; a sweep
//! finds what no hint reported. The cost follows what is watched, however large groups are.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Core,
    budget::{Kind, Sweep},
    listen::APART,
    people, spread,
    watches::{self, Watch},
};
use crate::{
    domain::{
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    hub::{PresenceRead, SessionHandle},
    protocol::{ErrorCode, Presence, Problem},
    store::Result as Stored,
};

/// Users that are read at a time, by one `watch` and by this edge's reads.
const PARALLEL: usize = 16;
const LOOKS: usize = 32;
/// Commands that reading a user's devices costs.
const OF_A_USER: usize = 2;
/// Least interval of the sweep over everybody who is watched: events may be lost.
const SWEEP: Duration = Duration::from_secs(30);
/// After missed events, all of them are read within this time.
const SOON: Duration = Duration::from_secs(4);
/// Pause after a failed read.
const AGAIN: Duration = Duration::from_secs(1);

/// Users to read. Bounded by the hub: each watched user once.
#[derive(Debug)]
pub(super) struct PresenceReads {
    due: mpsc::UnboundedSender<UserId>,
}

impl PresenceReads {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<UserId>) {
        let (due, taken) = mpsc::unbounded_channel();
        (Self { due }, taken)
    }
}

/// Makes the session watch these users, and no others: those with whom its user shares a chat. Returns their present
/// state.
///
/// # Errors
/// `limit_reached`, `too_many_requests`, `unavailable` (ask again).
pub async fn watch(
    core: &Core,
    handle: &SessionHandle,
    round: u64,
    users: Vec<UserId>,
) -> Result<Vec<Presence>, Problem> {
    let most = core.limits.watched_users;
    if users.len() > most {
        return Err(Problem::new(ErrorCode::LimitReached, format!("at most {most} users are watched")));
    }
    core.limit("watches", &handle.user, core.limits.watches_per_minute).await?;
    let (mut seen, mut once) = (HashSet::new(), users);
    once.retain(|user| seen.insert(user.clone()));
    let known = known(core, &handle.user, once).await?;
    // Subscribe first, then read.
    let idle = core.hub.watchers.watch(handle, round, &known);
    unneeded(core, idle);
    // Also those whom others watch already: their subscription may still be pending.
    watches::subscribe(core, known.iter().cloned().map(Watch::Presence).collect()).await?;
    // Collected first: the compiler can't see that a lazily mapped stream of these is `Send`.
    let reads: Vec<_> = known.iter().map(|user| read(core, user)).collect();
    let found: Vec<PresenceRead> = stream::iter(reads)
        .buffered(PARALLEL)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Stored<_>>()?;
    // No await from here to the reply: later events must come behind it.
    for look in &found {
        if core.hub.watchers.answered(handle, &look.presence.user, look) {
            let _ = core.watching.presence_reads.due.send(look.presence.user.clone());
        }
    }
    Ok(found.into_iter().map(|look| look.presence).collect())
}

/// After a leave of the session's user, or of another one: stops watching users without a shared chat.
///
/// # Errors
/// When the store fails.
pub async fn recheck(core: &Core, handle: &SessionHandle, who: Option<&UserId>) -> Stored<()> {
    let mut watched = core.hub.watchers.watched_by(handle);
    watched.retain(|user| who.is_none_or(|who| who == user));
    if watched.is_empty() {
        return Ok(());
    }
    let still: HashSet<UserId> = known(core, &handle.user, watched.clone()).await?.into_iter().collect();
    watched.retain(|user| !still.contains(user));
    unneeded(core, core.hub.watchers.unwatch(handle, &watched));
    Ok(())
}

/// The session is over.
pub(super) fn forget(core: &Core, handle: &SessionHandle) {
    unneeded(core, core.hub.watchers.forget(handle));
}

fn unneeded(core: &Core, users: Vec<UserId>) {
    core.watching.watches.idle(users.into_iter().map(Watch::Presence));
}

/// Returns those who share a chat with the user without a block between them, in the given order.
async fn known(core: &Core, user: &UserId, others: Vec<UserId>) -> Stored<Vec<UserId>> {
    let own: HashSet<ChatId> = core.store.chats_of(user).await?.into_iter().collect();
    let looks: Vec<_> = others
        .into_iter()
        .map(|other| {
            let own = &own;
            async move {
                let known =
                    shares(core, user, own, &other).await? && !people::apart(core, user, &other).await?;
                Ok(known.then_some(other))
            }
        })
        .collect();
    let found: Vec<Stored<Option<UserId>>> = stream::iter(looks).buffered(PARALLEL).collect().await;
    Ok(found.into_iter().collect::<Stored<Vec<_>>>()?.into_iter().flatten().collect())
}

async fn shares(core: &Core, user: &UserId, own: &HashSet<ChatId>, other: &UserId) -> Stored<bool> {
    for chat in core.store.chats_of(other).await?.into_iter().filter(|chat| own.contains(chat)) {
        // The lists may be ahead of the chats, after a crash permanently.
        if core.store.chat_of_member(chat, user).await?.is_some()
            && core.store.chat_of_member(chat, other).await?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn read(core: &Core, user: &UserId) -> Stored<PresenceRead> {
    let mut devices = core.store.devices(user).await?;
    devices.retain(|device| device.state != DeviceState::Terminating);
    let online: Vec<DeviceId> =
        devices.iter().filter(|device| device.online()).map(|device| device.id).collect();
    // A device that never connected was last seen at its registration.
    let seen = devices.iter().filter(|device| device.online() || device.last_seen != device.created);
    let last_seen = seen.map(|device| device.last_seen).max();
    let presence = Presence { user: user.clone(), online: !online.is_empty(), last_seen };
    Ok(PresenceRead { presence, devices: devices.iter().map(|device| device.id).collect(), online })
}

/// A device of the user may have come or gone. An unwatched user is passed on, too, to be unsubscribed.
pub(super) fn hint(core: &Core, user: UserId) {
    if core.hub.watchers.hint(&user) || !core.hub.watchers.watches(&user) {
        let _ = core.watching.presence_reads.due.send(user);
    }
}

/// Reads the users who are due.
pub(super) async fn run(core: Arc<Core>, mut due: mpsc::UnboundedReceiver<UserId>) {
    let at_a_time = Semaphore::new(LOOKS);
    let mut looks = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = looks.next(), if !looks.is_empty() => {}
            user = due.recv() => match user {
                Some(user) => looks.push(look(&core, user, &at_a_time)),
                None => return,
            },
        }
    }
}

async fn look(core: &Core, user: UserId, at_a_time: &Semaphore) {
    let Some(when) = core.hub.watchers.when(&user, core.timing.offline_grace) else {
        return unneeded(core, vec![user]);
    };
    sleep_until(when).await;
    let Ok(_turn) = at_a_time.acquire().await else { return };
    core.hub.watchers.reading(&user);
    let found = match read(core, &user).await {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::debug!(%error, "whether a user is online can't be read now");
            sleep(AGAIN).await;
            None
        }
    };
    if core.hub.watchers.on_read(&user, found.as_ref(), core.timing.offline_grace) {
        let _ = core.watching.presence_reads.due.send(user);
    }
}

/// The last resort; runs soon when events may have been missed.
pub(super) async fn sweep(core: Arc<Core>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (core, sweep) = (&*core, Sweep::new(&core, Kind::Presence));
    let hint = |user| async move { hint(core, user) };
    let soon = async || {
        let users = core.hub.watchers.users();
        let over = SOON.min(APART * u32::try_from(users.len()).unwrap_or(u32::MAX));
        spread(users, over, LOOKS, hint).await;
    };
    loop {
        let missed = core.watching.passes.presence.notified();
        tokio::select! {
            biased;
            () = missed => soon().await,
            _ = ticks.tick() => tokio::select! {
                biased;
                () = core.watching.passes.presence.notified() => soon().await,
                () = sweep.visit(core.hub.watchers.users(), |_| OF_A_USER, hint) => {}
            },
        }
    }
}
