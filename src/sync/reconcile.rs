//! The queues that are there, compared with those that should be: the answer to whatever was forgotten, lost or brought
//! back behind our back. NSQ saves its lists of channels late, remembers deleted ones in nsqlookupd, and knows no
//! subscribe-if-exists; an edge may die between any two steps of a leave.
//!
//! 1. Look what is there, on every server that answers.
//! 2. Then read what should be: the devices to which something is owed in the chats their users are in. In this order,
//!    because what is owed is written before its queue is made: what was there and isn't owed is nobody's.
//! 3. A chat whose node is away for good gets another (`placement`).
//! 4. What is wrong twice in a row is put right, each queue after a last look, in turn with those who come and go.
//!
//! Places of chats that aren't there (any more), and queues that only nsqlookupd remembers, go the same way. A restart of an
//! nsqd begins it at once.
//!
//! Queues of devices that this store never knew are left alone: they may be another deployment's.
//!
//! One edge does it for all, as long as it lives. Every step may be repeated or done twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Core, placement,
    registration::{membership_work, no_queue},
    turn::in_turn,
};
use crate::{
    broker::{Present, QueueAt},
    domain::{
        Seq,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
        termination::TerminationState,
    },
    protocol::Problem,
    store::{Owing, Owner, Result as Stored},
};

/// The name of the work that one edge does for all.
const WORK: &str = "reconcile";
/// Another edge takes it over from one that died after this …
const LEASE: Duration = Duration::from_secs(6);
/// … because one that lives says so this often.
const RENEWAL: Duration = Duration::from_secs(2);
/// The pages (256 of them) are spread over three quarters of the time between two comparisons: nobody's send shall wait for
/// them.
const PAUSES: u32 = 340;
/// Devices that are looked up at a time.
const PARALLEL: usize = 64;

/// What one pass found wrong.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    pub(super) orphans: HashSet<QueueAt>,
    missing: HashSet<QueueAt>,
    // Places of chats without a queue, where the chat isn't (any more).
    topics: HashSet<(Arc<str>, ChatId)>,
    // Chats that nobody is in, and since when that is seen.
    deserted: HashMap<ChatId, Instant>,
    // The lowest message of a chat that nobody has published.
    unconfirmed: HashSet<(ChatId, Seq)>,
    // Chats whose node has been away for so long that they get another. They needn't be so twice.
    adrift: HashMap<ChatId, String>,
}

/// After a restart of a server, this long between the two comparisons that it takes to put things right.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// And this long between their pages: somewhat in a hurry, it may be felt.
pub(super) const BRISK: Duration = Duration::from_millis(2);
/// Whoever lets the last member of a chat go deletes the chat, mostly within this time. (Should both do it, nothing is lost.)
const LEAVING: Duration = Duration::from_secs(5);
/// The node of a queue that only a directory remembers.
pub(super) const DIRECTORY: &str = "nsqlookupd";

pub(super) async fn run(core: Arc<Core>) {
    if planted!(NoReconciler) {
        return;
    }
    let chosen = AtomicBool::new(false);
    tokio::select! {
        biased;
        () = keep(&core, &chosen) => {}
        () = compare_all(&core, &chosen) => {}
    }
}

/// Takes the work for this edge when nobody has it, and keeps it.
async fn keep(core: &Core, chosen: &AtomicBool) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let taken = core.store.take_work(WORK, &core.edge, LEASE).await;
        // Without an answer two may be at it for a while: each step looks anew before it changes anything.
        if let Ok(taken) = taken {
            chosen.store(taken, Ordering::Relaxed);
        }
    }
}

async fn compare_all(core: &Arc<Core>, chosen: &AtomicBool) {
    let mut ticks = interval(core.timing.reconcile);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Wrong::default();
    // A device is one user's for ever.
    let mut users = HashMap::new();
    // A server that was restarted may have lost queues, or brought some back: twice, and without the usual pauses.
    let (mut restarts, mut hurry, mut was_chosen) = (0, 0u32, false);
    loop {
        tokio::select! {
            biased;
            count = core.broker.restarted(restarts) => (restarts, hurry) = (count, 2),
            () = tokio::time::sleep(SOON), if hurry > 0 => {}
            _ = ticks.tick() => {}
            // Not at the next tick only.
            () = tokio::time::sleep(RENEWAL), if !was_chosen => {}
        }
        // Whoever had it before may have left something half done.
        let is_chosen = chosen.load(Ordering::Relaxed);
        if is_chosen && !was_chosen {
            hurry = 2;
        }
        was_chosen = is_chosen;
        let leisurely = hurry == 0;
        let pause = (core.timing.reconcile / PAUSES).min(if leisurely { Duration::MAX } else { BRISK });
        hurry = hurry.saturating_sub(1);
        let look = async {
            match is_chosen {
                true => compare(core, &mut users, pause).await,
                // Another edge is at it.
                false => Ok(Wrong::default()),
            }
        };
        let found = tokio::select! {
            biased;
            found = look => found,
            // What was seen of that server isn't so any more.
            count = core.broker.restarted(restarts), if leisurely => {
                (restarts, hurry) = (count, 2);
                continue;
            }
        };
        match found {
            Ok(mut found) => {
                for (chat, since) in &mut found.deserted {
                    *since = before.deserted.get(chat).map_or(*since, |before| *before);
                }
                placement::move_all(core, &found.adrift).await;
                put_right(core, &before, &found).await;
                before = found;
            }
            Err(error) => tracing::debug!(%error, "queues can't be compared now"),
        }
    }
}

async fn compare(core: &Core, users: &mut HashMap<DeviceId, UserId>, pause: Duration) -> Stored<Wrong> {
    let remembered = core.broker.remembered().await;
    let present = core.broker.queues().await;
    // At once, and not only if it is so twice: nobody loses anything by it, and an nsqd that makes a topic anew makes all that
    // is remembered.
    for queue in shown_by_none(remembered, &present) {
        remove_orphan(core, &queue).await;
    }
    judge(core, users, pause, present, &mut |_, _| {}).await
}

/// What is wrong with what is there. Changes nothing. `is_owed` is told of each queue that should be there.
pub(super) async fn judge(
    core: &Core,
    users: &mut HashMap<DeviceId, UserId>,
    pause: Duration,
    present: Present,
    is_owed: &mut (dyn FnMut(ChatId, DeviceId) + Send),
) -> Stored<Wrong> {
    let Present { queues, empty, silent } = present;
    let mut there: HashSet<QueueAt> = queues.into_iter().collect();
    let mut empty: HashSet<(Arc<str>, ChatId)> = empty.into_iter().collect();
    let mut wrong = Wrong::default();
    let (mut next, mut known) = (Some(0), HashSet::new());
    while let Some(page) = next {
        let page = core.store.owing(page).await?;
        next = page.next;
        if next.is_some() {
            tokio::time::sleep(pause).await;
        }
        look_up(core, users, &page.chats).await?;
        for Owing { chat, node, members, devices, unconfirmed } in page.chats {
            wrong.unconfirmed.extend(unconfirmed.map(|seq| (chat, seq)));
            let down = core.broker.down_for(&node);
            if !core.timing.nsqd_give_up.is_zero()
                && down.is_some_and(|down| down >= core.timing.nsqd_give_up)
            {
                wrong.adrift.insert(chat, node.clone());
            }
            empty.remove(&(Arc::from(node.as_str()), chat));
            let (node, members) = (Arc::<str>::from(node), members.into_iter().collect::<HashSet<UserId>>());
            if members.is_empty() {
                wrong.deserted.insert(chat, Instant::now());
            }
            for device in devices {
                known.insert(device);
                let queue = QueueAt { node: node.clone(), chat, device };
                let owed = users.get(&device).is_some_and(|user| members.contains(user));
                if owed {
                    is_owed(chat, device);
                }
                if !owed {
                    // Left over from a leave that wasn't finished: even without a queue it is to be forgotten.
                    wrong.orphans.insert(queue);
                } else if !there.remove(&queue)
                    && down.is_none()
                    && !silent.iter().any(|node| **node == *queue.node)
                {
                    wrong.missing.insert(queue);
                }
            }
        }
    }
    users.retain(|device, _| known.contains(device));
    wrong.orphans.extend(there);
    wrong.topics = empty;
    Ok(wrong)
}

/// The queues that directories remember and no server shows.
pub(super) fn shown_by_none(remembered: Vec<(ChatId, DeviceId)>, present: &Present) -> Vec<QueueAt> {
    if remembered.is_empty() {
        return Vec::new();
    }
    let shown: HashSet<_> = present.queues.iter().map(|queue| (queue.chat, queue.device)).collect();
    let node = Arc::<str>::from(DIRECTORY);
    let not_shown = remembered.into_iter().filter(|queue| !shown.contains(queue));
    not_shown.map(|(chat, device)| QueueAt { node: node.clone(), chat, device }).collect()
}

/// Whose devices these are, of those not known yet.
async fn look_up(core: &Core, users: &mut HashMap<DeviceId, UserId>, chats: &[Owing]) -> Stored<()> {
    let devices: HashSet<DeviceId> = chats.iter().flat_map(|owing| &owing.devices).copied().collect();
    let unknown: Vec<DeviceId> = devices.into_iter().filter(|device| !users.contains_key(device)).collect();
    let asked = unknown.into_iter().map(|device| async move {
        let owner = core.store.owner(device).await?;
        Ok(owner.map(|owner| (device, owner.user)))
    });
    let found: Vec<_> = stream::iter(asked).buffer_unordered(PARALLEL).try_collect().await?;
    users.extend(found.into_iter().flatten());
    Ok(())
}

async fn remove_orphan(core: &Core, queue: &QueueAt) {
    let QueueAt { node, chat, device } = queue;
    match remove(core, queue).await {
        Ok(true) => {
            core.metrics.reconciler_actions.with_label_values(&["orphan_removed"]).inc();
            tracing::info!(%chat, %device, %node, "a queue that was nobody's is removed");
        }
        Ok(false) => {}
        Err(problem) => {
            tracing::warn!(%chat, %device, %node, error = %problem, "a queue that is nobody's stays for now")
        }
    }
}

async fn put_right(core: &Core, before: &Wrong, now: &Wrong) {
    let count = |action: &str| core.metrics.reconciler_actions.with_label_values(&[action]).inc();
    for queue in now.orphans.intersection(&before.orphans) {
        remove_orphan(core, queue).await;
    }
    for queue in now.missing.intersection(&before.missing) {
        let QueueAt { node, chat, device } = queue;
        match restore(core, queue).await {
            Ok(true) => {
                count("queue_restored");
                tracing::warn!(%chat, %device, %node, "a queue was gone and is made again; the log fills its hole");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %device, %node, error = %problem, "a queue that is gone stays so for now")
            }
        }
    }
    // The edge that took it died when the others had forgotten it already, because it had been silent before.
    for (chat, _) in now.unconfirmed.intersection(&before.unconfirmed) {
        count("outbox_found");
        core.relay.behind(*chat);
    }
    for (chat, since) in &now.deserted {
        if since.elapsed() < LEAVING {
            continue;
        }
        match remove_chat(core, *chat).await {
            Ok(true) => {
                count("chat_removed");
                tracing::info!(%chat, "a chat that its last member had left is removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, error = %problem, "a chat that its last member has left stays for now")
            }
        }
    }
    for (node, chat) in now.topics.intersection(&before.topics) {
        match remove_topic(core, node, *chat).await {
            Ok(true) => {
                count("topic_removed");
                tracing::info!(%chat, %node, "the place of a chat that isn't there is removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %node, error = %problem, "the place of a chat stays for now")
            }
        }
    }
}

/// True: something was there and is gone. False: it is wanted, or was gone already, or isn't ours to judge.
pub(super) async fn remove(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    match core.store.owner(queue.device).await? {
        Some(Owner { terminated: Some(id), .. }) => {
            let termination = core.store.termination(id).await?;
            // A termination at work removes its queues itself, and notes them in its receipt.
            if termination.is_some_and(|termination| termination.state != TerminationState::Done) {
                return Ok(false);
            }
            take_away(core, queue).await
        }
        Some(Owner { user, terminated: None }) => {
            let removed = async {
                match node_if_owed(core, queue, &user).await? {
                    None => take_away(core, queue).await,
                    Some(node) if *node == *queue.node || *queue.node == *DIRECTORY => Ok(false),
                    // The chat has moved; or an nsqd on which a topic was made anew made all channels that nsqlookupd knows.
                    Some(_) if is_needed(core, queue).await? => Ok(false),
                    Some(_) => {
                        let stray = core.broker.remove_stray(&queue.node, queue.chat, queue.device).await;
                        stray.map_err(no_queue)
                    }
                }
            };
            in_turn(core, &membership_work(queue.chat, &user), removed).await
        }
        // Of another deployment on the same nsqd, or made by hand: not ours to judge.
        None => Ok(false),
    }
}

/// Whether a queue where its chat isn't any more may hold what the device is owed and the log no longer has: then it stays
/// until the device has had it (see `session::placement`).
async fn is_needed(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    let (queues, silent) = core.broker.queues_of(queue.device).await;
    let here = queues.iter().find(|one| one.chat == queue.chat && *one.node == *queue.node);
    match here {
        Some(here) if here.depth + here.in_flight == 0 => return Ok(false),
        None if !silent.iter().any(|node| **node == *queue.node) => return Ok(false),
        _ => {}
    }
    let Some(owed) = core.store.owed(queue.chat, queue.device).await? else { return Ok(false) };
    Ok(core.store.log(queue.chat, owed.cursor + 1, 1, 1).await?.floor > owed.cursor + 1)
}

/// Forgets what is owed, and removes the queue on every server. True: something was there and is gone.
pub(super) async fn take_away(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    core.store.disown(queue.chat, queue.device).await?;
    let removal = core.broker.remove_queues(queue.device, &[queue.chat], true).await;
    let forgotten = *queue.node == *DIRECTORY && removal.unreachable.is_empty();
    Ok(forgotten || !removal.removed.is_empty())
}

/// Whoever was to delete the chat died, or couldn't reach the store. True: it is gone; its place, too, or that goes by the
/// next comparisons. False: somebody is in it again.
async fn remove_chat(core: &Core, chat: ChatId) -> Result<bool, Problem> {
    let deleted = core.store.delete_chat(chat).await?;
    if deleted {
        core.broker.remove_chat(chat).await;
    }
    Ok(deleted)
}

/// A topic without channels: of a chat that was deleted while its server didn't answer, or has moved. True: it is gone.
async fn remove_topic(core: &Core, node: &str, chat: ChatId) -> Result<bool, Problem> {
    let removed = async {
        match core.store.chat(chat).await? {
            Some(found) if found.node == node => Ok(false),
            Some(_) => core.broker.remove_empty(node, chat).await.map_err(no_queue),
            None if core.store.was_deleted(chat).await? => {
                Ok(!core.broker.remove_chat(chat).await.iter().any(|silent| silent == node))
            }
            // Of another deployment, or being created.
            None => Ok(false),
        }
    };
    in_turn(core, &placement::work(chat), removed).await
}

/// True: it was gone and is there again.
pub(super) async fn restore(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    let user = match core.store.owner(queue.device).await? {
        Some(Owner { user, terminated: None }) => user,
        // It had left the chat, half, when it was ended, and its user came back: then it looks like one that is owed.
        Some(Owner { terminated: Some(_), .. }) => return remove(core, queue).await.map(|_| false),
        None => return Ok(false),
    };
    let restored = async {
        if node_if_owed(core, queue, &user).await?.is_none() {
            return Ok(false);
        }
        let made = core.broker.provision(queue.device, &[(queue.chat, queue.node.to_string())]).await;
        made.map_err(no_queue)?;
        // A termination takes no turn: had it begun and ended meanwhile, this would have brought a queue back.
        if node_if_owed(core, queue, &user).await?.is_some() {
            return Ok(true);
        }
        core.broker.remove_queues(queue.device, &[queue.chat], true).await;
        Ok(false)
    };
    in_turn(core, &membership_work(queue.chat, &user), restored).await
}

/// The last look before anything is changed: where the queue belongs; none: nowhere.
async fn node_if_owed(core: &Core, queue: &QueueAt, user: &UserId) -> Result<Option<String>, Problem> {
    let device = core.store.device(user, queue.device).await?;
    if device.is_none_or(|device| device.state == DeviceState::Terminating)
        || core.store.owed(queue.chat, queue.device).await?.is_none()
    {
        return Ok(None);
    }
    let chat = core.store.chat_of_member(queue.chat, user).await?;
    Ok(chat.map(|(chat, _)| chat.node))
}
