//! Bounds the bytes of one user's messages in the logs of all chats and, for as long as logs are kept, in queues. The sender is
//! charged (decision 0029).
//!
//! The store's number moves when a chat is trimmed; this edge counts what it has accepted since then. So that this stays small, a
//! user's chats are trimmed earlier when it grows. Unreported bytes of other edges are unknown: the quota is exceeded by no more
//! than that.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::{Core, lock};
use crate::{
    broker,
    domain::id::{ChatId, DeviceId, UserId},
    protocol::{ErrorCode, Problem},
    store::{KEY_BYTES, Overfull, Result, Trimmed},
};

/// Unreported bytes of a user at this edge, at most; and no more than an eighth of the quota.
const MAX_UNSAVED: u64 = 1 << 20;
/// Unreported bytes of an idle user that justify a trim.
const WORTH_A_TRIM: u64 = 64 << 10;
/// Maximum age of the store's number: with little left, with much left, and with none.
const NEAR: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(60);
const OVER: Duration = Duration::from_secs(1);
/// Time between two recounts of one user.
const RECOUNT: Duration = Duration::from_secs(60);
/// A refused user's fullest chats that are trimmed again, and the interval.
const FULLEST: usize = 8;
const AGAIN: Duration = Duration::from_secs(5);
/// Users who send nothing are forgotten after one to two of these.
const IDLE: Duration = Duration::from_secs(60);
/// With more messages left to copy, nsqd refills an emptied queue. A busy chat always has some, fewer than a queue may hold:
/// emptying for them would never end.
const UNCOPIED: u64 = 32;
/// Concurrent charges, and emptied queues, of one chat.
const PARALLEL: usize = 8;

/// The state of users who send here.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserId, Account>,
    /// Users with unreported bytes.
    chats: HashMap<ChatId, HashSet<UserId>>,
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct Account {
    /// The bytes in all chats, as the store said then.
    stored: u64,
    read: Instant,
    recounted: Option<Instant>,
    used: Instant,
    /// Accepted here since these chats were trimmed, and in all.
    unsaved: HashMap<ChatId, u64>,
    sum: u64,
    /// How much of that existed when these chats were asked to report.
    asked: u64,
    /// The fullest chats of the last recount, and when they were trimmed because of that.
    fullest: Vec<ChatId>,
    looked: Option<Instant>,
}

impl Account {
    fn used(&self) -> u64 {
        self.stored.saturating_add(self.sum)
    }
}

/// What to do before a message may be accepted.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    Ask,
    Refuse,
}

impl Quotas {
    fn verdict(&self, user: &UserId, bytes: u64, most: u64) -> Verdict {
        let mut state = lock(&self.0);
        let Some(account) = state.users.get_mut(user) else { return Verdict::Ask };
        account.used = Instant::now();
        let (used, age) = (account.used().saturating_add(bytes), account.read.elapsed());
        match used {
            _ if used > most && age < OVER => Verdict::Refuse,
            _ if used > most => Verdict::Ask,
            _ if age < if used > most / 2 { NEAR } else { FAR } => Verdict::Take,
            _ => Verdict::Ask,
        }
    }

    /// Takes the store's number; returns whether `bytes` more fit.
    fn update(&self, user: &UserId, stored: u64, bytes: u64, most: u64) -> bool {
        let mut state = lock(&self.0);
        let now = Instant::now();
        let account = state.users.entry(user.clone()).or_insert_with(|| Account {
            stored,
            read: now,
            recounted: None,
            used: now,
            unsaved: HashMap::new(),
            sum: 0,
            asked: 0,
            fullest: Vec::new(),
            looked: None,
        });
        (account.stored, account.read) = (stored, now);
        account.used().saturating_add(bytes) <= most
    }

    /// Returns whether the user's chats may be recounted; then it counts as done.
    fn may_recount(&self, user: &UserId) -> bool {
        let mut state = lock(&self.0);
        let Some(account) = state.users.get_mut(user) else { return false };
        let may = account.recounted.is_none_or(|at| at.elapsed() >= RECOUNT);
        if may {
            account.recounted = Some(Instant::now());
        }
        may
    }

    /// Sets the fullest chats of a user.
    fn set_fullest(&self, user: &UserId, chats: Vec<ChatId>) {
        if let Some(account) = lock(&self.0).users.get_mut(user) {
            account.fullest = chats;
        }
    }

    /// Returns the chats of a refused user that are trimmed now: unreported bytes are reported, and devices may have acknowledged
    /// since, although nobody sends there.
    fn refused(&self, user: &UserId) -> Vec<ChatId> {
        let mut state = lock(&self.0);
        let Some(account) = state.users.get_mut(user) else { return Vec::new() };
        let mut due: Vec<_> = account.unsaved.keys().copied().collect();
        if account.looked.is_none_or(|at| at.elapsed() >= AGAIN) {
            account.looked = Some(Instant::now());
            due.extend(&account.fullest);
        }
        due
    }

    /// Counts an accepted message; returns the chats to trim now.
    fn charge(&self, user: &UserId, chat: ChatId, bytes: u64, most: u64) -> Vec<ChatId> {
        let mut state = lock(&self.0);
        let state = &mut *state;
        let Some(account) = state.users.get_mut(user) else { return Vec::new() };
        *account.unsaved.entry(chat).or_default() += bytes;
        account.sum += bytes;
        state.chats.entry(chat).or_default().insert(user.clone());
        if account.sum - account.asked < MAX_UNSAVED.min(most / 8).max(1) {
            return Vec::new();
        }
        account.asked = account.sum;
        account.unsaved.keys().copied().collect()
    }

    /// The chat is about to report at least that. It counts here until it is recorded with the users.
    fn unsaved_of(&self, chat: ChatId) -> HashMap<UserId, u64> {
        let state = lock(&self.0);
        let of = state.chats.get(&chat).into_iter().flatten();
        of.filter_map(|user| Some((user.clone(), *state.users.get(user)?.unsaved.get(&chat)?))).collect()
    }

    /// `bytes` of a user were reported for this chat, and perhaps recorded: then the store's number has them.
    fn saved(&self, user: &UserId, chat: ChatId, bytes: u64, stored: Option<u64>) {
        let mut state = lock(&self.0);
        let state = &mut *state;
        let Some(account) = state.users.get_mut(user) else { return };
        if let Some(stored) = stored {
            (account.stored, account.read) = (stored, Instant::now());
        }
        let Some(unsaved) = account.unsaved.get_mut(&chat) else { return };
        let bytes = bytes.min(*unsaved);
        *unsaved -= bytes;
        account.sum -= bytes;
        account.asked = account.asked.min(account.sum);
        if *unsaved == 0 {
            account.unsaved.remove(&chat);
            if let Some(of) = state.chats.get_mut(&chat) {
                of.remove(user);
                if of.is_empty() {
                    state.chats.remove(&chat);
                }
            }
        }
    }

    /// Forgets idle users, once in a while. Returns the chats to trim because they have much of such users to report; a little is
    /// reported with the next trim of any edge.
    pub(super) fn prune(&self) -> HashSet<ChatId> {
        let mut state = lock(&self.0);
        let state = &mut *state;
        let mut due = HashSet::new();
        if state.pruned.is_some_and(|at| at.elapsed() < IDLE) {
            return due;
        }
        state.pruned = Some(Instant::now());
        state.users.retain(|_, account| {
            let keep = account.used.elapsed() < IDLE;
            if !keep && account.sum >= WORTH_A_TRIM {
                due.extend(account.unsaved.keys());
            }
            keep
        });
        let users = &state.users;
        state.chats.retain(|_, of| {
            of.retain(|user| users.contains_key(user));
            !of.is_empty()
        });
        due
    }
}

/// Returns whether a user may send `bytes` more.
pub(super) async fn admits(core: &Core, user: &UserId, bytes: u64) -> Result<bool> {
    let (quotas, bytes, most) =
        (&core.sending.quotas, bytes.saturating_add(KEY_BYTES), core.limits.user_bytes);
    match quotas.verdict(user, bytes, most) {
        Verdict::Take => return Ok(true),
        Verdict::Refuse => return Ok(false),
        Verdict::Ask => {}
    }
    if quotas.update(user, core.store.stored(user).await?, bytes, most) {
        return Ok(true);
    }
    if quotas.may_recount(user) {
        if quotas.update(user, core.store.recount(user).await?, bytes, most) {
            return Ok(true);
        }
        quotas.set_fullest(user, core.store.fullest(user, FULLEST).await?);
    }
    // Some of it may have become free.
    core.sending.trims.due(quotas.refused(user));
    Ok(false)
}

/// Returns the refusal of a user over the quota.
pub(super) fn exceeded(core: &Core, user: &UserId) -> Problem {
    let most = core.limits.user_bytes;
    tracing::debug!(%user, most, "a user has used up the quota of bytes");
    let detail = format!(
        "the chats hold {most} bytes of your messages, which is as much as they may: there is room again when these \
         were acknowledged or are old"
    );
    Problem::new(ErrorCode::LimitReached, detail)
}

/// Counts a message that was taken into the log.
pub(super) fn charge(core: &Core, user: &UserId, chat: ChatId, bytes: u64) {
    core.sending.trims.due(core.sending.quotas.charge(user, chat, bytes + KEY_BYTES, core.limits.user_bytes));
}

/// Trims a chat, records the rest with its senders, and empties queues that hold too much.
pub(super) async fn settle(core: &Core, chat: ChatId) -> Result<()> {
    let mut unsaved = core.sending.quotas.unsaved_of(chat);
    let trimmed = core.store.trim(chat).await;
    let Trimmed { charges, account, overfull } = match trimmed {
        Ok(trimmed) => trimmed,
        // It may have reported. What it didn't comes with its next trim.
        Err(error) => {
            unsaved.iter().for_each(|(user, bytes)| core.sending.quotas.saved(user, chat, *bytes, None));
            return Err(error);
        }
    };
    let charges: Vec<_> = charges
        .into_iter()
        .map(|(user, bytes)| (unsaved.remove(&user).unwrap_or_default(), user, bytes))
        .collect();
    // Another trim has reported these.
    unsaved.iter().for_each(|(user, bytes)| core.sending.quotas.saved(user, chat, *bytes, None));
    let noted = stream::iter(charges)
        .map(|(unsaved, user, bytes)| async move {
            let stored = core.store.charge(&user, chat, bytes, account).await;
            core.sending.quotas.saved(&user, chat, unsaved, stored.as_ref().ok().copied());
            stored.map(drop)
        })
        .buffer_unordered(PARALLEL)
        .fold(Ok(()), |all: Result<()>, one| async { all.and(one) })
        .await;
    if let Some(overfull) = overfull {
        empty(core, chat, overfull).await;
    }
    noted
}

/// Empties these queues. The log serves what it has; for the rest the devices get a gap. A queue that can't be emptied now is
/// found again later: other chats don't wait for a hanging nsqd. While nsqd still copies messages it refills them, so they are
/// emptied again.
async fn empty(core: &Core, chat: ChatId, Overfull { node, devices, said }: Overfull) {
    if core.broker.down_for(&node).is_some() {
        return;
    }
    let (node, count) = (&node, devices.len());
    let Some(one) = devices.first() else { return };
    let refills = match core.broker.backlog(node, chat, *one).await {
        Ok(backlog) => backlog.is_some_and(|backlog| backlog.uncopied > UNCOPIED),
        Err(error) => {
            tracing::debug!(%chat, %error, "queues aren't emptied now");
            return;
        }
    };
    // Once a second while they are refilled; recorded when they stay empty.
    if refills {
        tracing::debug!(%chat, count, "queues over their bound: emptied, and filled again");
    } else {
        tracing::info!(%chat, count, "queues over their bound: emptied");
    }
    let emptied = until_one_fails(devices, |device| async move {
        if core.broker.empty_queue(node, chat, device).await? {
            tracing::debug!(%chat, %device, "queue emptied");
            core.metrics.queues_emptied.inc();
        }
        if refills {
            return Ok(());
        }
        if let Err(error) = core.store.emptied(chat, device, said).await {
            tracing::debug!(%chat, %device, %error, "a queue is emptied twice");
        }
        Ok(())
    });
    match emptied.await {
        Ok(()) if refills => core.sending.trims.due([chat]),
        Ok(()) => {}
        Err(error) => tracing::debug!(%chat, %error, "queues aren't emptied now"),
    }
}

/// For each of these devices, a few at a time; stops at the first failure, because the others would fail, too.
async fn until_one_fails<Done: Future<Output = broker::Result<()>>>(
    devices: Vec<DeviceId>,
    what: impl FnMut(DeviceId) -> Done,
) -> broker::Result<()> {
    stream::iter(devices.into_iter().map(Ok)).try_for_each_concurrent(PARALLEL, what).await
}

#[cfg(test)]
#[path = "../../tests/unit/sync/quota.rs"]
mod tests;
