//! Registers a device: it is written as `registering`, then its queues are created, then it is subscribed chat by chat, and only
//! then it becomes active and gets its token. Every step may be repeated; a crash leaves a `registering` device, which the
//! client's retry completes.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use tokio::time::timeout;

use super::{
    Core, connect, seconds,
    signal::{self, Signal},
    termination,
    with_lease::with_lease,
};
use crate::{
    broker::{Flow, RemovalScope},
    domain::{
        chat::Chat,
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    protocol::{DeviceEvent, ErrorCode, Problem},
    store::{JoinBy, Joined, NewDevice, Registered, SubscribeFrom},
    tokens::DeviceClaims,
};

/// Time limit for the queues of a new member.
const QUEUES_WITHIN: Duration = Duration::from_secs(3);
/// Chats that are read, or subscribed, at a time.
const PARALLEL: usize = 16;

/// The request of a client.
#[derive(Debug, Clone)]
pub struct RegisterDevice {
    /// Chosen by the client, or none.
    pub id: Option<DeviceId>,
    /// Main or sub.
    pub kind: DeviceKind,
    /// Its display name.
    pub name: String,
    /// Its platform.
    pub platform: String,
    /// A main may terminate the user's other main.
    pub replace: bool,
    /// How many messages per chat below `from` a sub may ask the main for; none: all.
    pub history: Option<u64>,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The most concurrently registered mains that one registration terminates.
const REPLACES: u32 = 32;

/// Registers a device. True: it is new.
///
/// # Errors
/// `main_exists`, `limit_reached`, `conflict` (the id belongs to another user, is of the other kind, or was terminated),
/// `too_many_requests`, `unavailable` (retry with the same id).
pub async fn register(
    core: &std::sync::Arc<Core>,
    user: &UserId,
    wanted: RegisterDevice,
) -> Result<(Device, DeviceClaims, bool), Problem> {
    let new = NewDevice {
        id: wanted.id.unwrap_or_else(DeviceId::random),
        user: user.clone(),
        kind: wanted.kind,
        name: wanted.name,
        platform: wanted.platform,
        history: wanted.history,
        created: now_millis(),
    };
    let room = match wanted.kind {
        // The other main makes room.
        DeviceKind::Main if wanted.replace => usize::MAX,
        DeviceKind::Main => 1,
        DeviceKind::Sub => core.limits.subs_per_user as usize,
    };
    if would_be_new(core, &new, room).await? {
        may_register(core, user).await?;
    }
    let mut ends = 0;
    loop {
        let (device, created) = match core.store.register_device(&new).await? {
            Registered::Created(device) => (device, true),
            Registered::Existing(device) if device.state == DeviceState::Terminating => return Err(ended()),
            Registered::Existing(device) => (device, false),
            // A registration that terminates a main may lose to another one, which then has registered: each round, one gets through.
            Registered::MainExists(old) if wanted.replace && ends < REPLACES => {
                termination::begin(core, user, old, "replaced").await?;
                ends += 1;
                continue;
            }
            Registered::MainExists(_) if wanted.replace => {
                let detail = "other mains of the user are being registered at the same time: try again";
                return Err(Problem::new(ErrorCode::Unavailable, detail));
            }
            Registered::MainExists(_) => {
                let detail =
                    "the user has a main device already: end it first, or register with \"replace\": true";
                return Err(Problem::new(ErrorCode::MainExists, detail));
            }
            Registered::LimitReached => {
                let detail = format!("a user has at most {} subs: end one first", core.limits.subs_per_user);
                return Err(Problem::new(ErrorCode::LimitReached, detail));
            }
            Registered::Conflict => return Err(ended()),
        };
        if device.state == DeviceState::Registering {
            let chats = core.store.chats_of(user).await?;
            provision_all(core, user, device.id, chats).await?;
            if !core.store.activate_device(user, device.id).await? {
                return Err(ended());
            }
            connect::publish_event(core, user, device.id, DeviceEvent::Linked).await;
        }
        let claims = connect::claims(&device);
        return Ok((Device { state: DeviceState::Active, ..device }, claims, created));
    }
}

/// Returns whether the device would be new, with `room` for its kind: a certain refusal isn't counted.
async fn would_be_new(core: &Core, new: &NewDevice, room: usize) -> Result<bool, Problem> {
    let mut devices = core.store.devices(&new.user).await?;
    if devices.iter().any(|device| device.id == new.id) {
        return Ok(false);
    }
    devices.retain(|device| device.kind == new.kind && device.state != DeviceState::Terminating);
    Ok(devices.len() < room)
}

/// Counts one more device of the user, or refuses it. Terminated ones count: each costs a queue in each of the user's chats, a
/// receipt and a tombstone.
async fn may_register(core: &Core, user: &UserId) -> Result<(), Problem> {
    let (hour, day) = (core.limits.devices_per_hour, core.limits.devices_per_day);
    for (name, most, window) in
        [(format!("devices.{user}"), hour, HOUR), (format!("devices.day.{user}"), day, DAY)]
    {
        let (count, left) = core.store.counted(&name, window).await?;
        if count > u64::from(most) {
            let detail =
                format!("a user registers at most {hour} devices an hour and {day} a day: try again later");
            return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(seconds(left)));
        }
    }
    Ok(())
}

fn ended() -> Problem {
    let detail =
        "this device id is taken or was ended, and ids are never used again: register with a new one";
    Problem::new(ErrorCode::Conflict, detail)
}

/// Creates the device's queue in each chat of the user, then subscribes it there, to everything above the head read after the
/// queue exists. In the other order, messages in between would be in no queue.
async fn provision_all(
    core: &Core,
    user: &UserId,
    device: DeviceId,
    chats: Vec<ChatId>,
) -> Result<(), Problem> {
    let found = members_of(core, user, chats).await?;
    let queues: Vec<_> = found.into_iter().map(|chat| (chat.id, chat.node)).collect();
    provision_living(core, &Flow::of("devices", user), user, device, &queues).await?;
    let found = members_of(core, user, queues.iter().map(|queue| queue.0).collect()).await?;
    let subscriptions: Vec<_> = found
        .iter()
        .map(|chat| core.store.subscribe_device(chat.id, user, device, SubscribeFrom::Head(chat.head)))
        .collect();
    // (If the user has left meanwhile, the queue is an orphan: `reconcile` removes it, in turn with joins.)
    stream::iter(subscriptions).buffer_unordered(PARALLEL).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Returns those of these chats that the user is in, as they are now.
async fn members_of(core: &Core, user: &UserId, chats: Vec<ChatId>) -> Result<Vec<Chat>, Problem> {
    let reads: Vec<_> = chats.into_iter().map(|chat| core.store.chat_of_member(chat, user)).collect();
    let found: Vec<_> = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
    Ok(found.into_iter().flatten().map(|(chat, _)| chat).collect())
}

/// Creates queues of a device, and checks it once more: a termination takes no turn, and may have begun and finished since the
/// caller read it. Then they are removed again.
///
/// # Errors
/// `unavailable`: a queue can't be created, or the store.
pub async fn provision_living(
    core: &Core,
    flow: &Flow,
    user: &UserId,
    device: DeviceId,
    queues: &[(ChatId, String)],
) -> Result<(), Problem> {
    core.broker.provision(flow, device, queues).await.map_err(no_queue)?;
    if lives(core, user, device).await? {
        return Ok(());
    }
    let chats: Vec<ChatId> = queues.iter().map(|(chat, _)| *chat).collect();
    // Remaining ones are orphans: `reconcile` removes them.
    core.broker.remove_queues(flow, device, &chats, RemovalScope::NamedChats).await;
    Ok(())
}

async fn lives(core: &Core, user: &UserId, device: DeviceId) -> Result<bool, Problem> {
    let device = core.store.device(user, device).await?;
    Ok(device.is_some_and(|device| device.state != DeviceState::Terminating))
}

/// The same for one chat and all devices of a member. First each is subscribed, then their queues are created: a queue that
/// can't be created now is no error, because it is an expected one from now on, and is created before the next publication. The
/// other order, as above, for devices under registration: they receive nothing from before, even if they are found here first.
/// Returns how many of the others weren't subscribed before.
///
/// # Errors
/// `unavailable`: the store.
pub async fn provision_member(core: &Core, chat: ChatId, user: &UserId) -> Result<usize, Problem> {
    let (mut devices, mut registering, mut fixed) = (Vec::new(), Vec::new(), 0);
    let Some((_, member)) = core.store.chat_of_member(chat, user).await? else { return Ok(0) };
    for device in core.store.devices(user).await? {
        match device.state {
            DeviceState::Terminating => {}
            DeviceState::Registering => registering.push(device.id),
            DeviceState::Active => {
                let before = core.store.position(chat, device.id).await?;
                if core.store.subscribe_device(chat, user, device.id, SubscribeFrom::Joined).await?.is_some()
                {
                    fixed += usize::from(before.is_none_or(|before| before.from < member.boundary));
                    devices.push(device.id);
                }
            }
        }
    }
    devices.extend(&registering);
    // The same lease as for removing a user's queues after a leave, so that their steps don't interleave.
    let work = membership_work(chat, user);
    // A join doesn't wait for a hanging nsqd.
    let made = timeout(QUEUES_WITHIN, with_lease(core, &work, make_queues(core, chat, user, &devices)));
    match made.await {
        Ok(Ok(())) => {
            core.store.arrived(chat, user, member.version).await?;
            subscribe_from_now(core, chat, user, &registering).await?;
        }
        Ok(Err(problem)) => {
            tracing::warn!(%chat, %user, error = %problem, "creating queues of a member failed: created before the next message is published");
        }
        Err(_elapsed) => {
            tracing::warn!(%chat, %user, "queues of a member not created in time: created before the next message is published");
        }
    }
    Ok(fixed)
}

/// Subscribes devices to messages from now on. The head first, then the device: until that is registered, no answer has said
/// that it exists.
async fn subscribe_from_now(
    core: &Core,
    chat: ChatId,
    user: &UserId,
    devices: &[DeviceId],
) -> Result<(), Problem> {
    if devices.is_empty() {
        return Ok(());
    }
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(()) };
    for device in devices {
        let since = match core.store.device(user, *device).await?.map(|device| device.state) {
            Some(DeviceState::Registering) => SubscribeFrom::Head(found.head),
            // It is active by now, and its registration didn't know the chat yet.
            Some(DeviceState::Active) => SubscribeFrom::Joined,
            Some(DeviceState::Terminating) | None => continue,
        };
        core.store.subscribe_device(chat, user, *device, since).await?;
    }
    Ok(())
}

async fn make_queues(core: &Core, chat: ChatId, user: &UserId, devices: &[DeviceId]) -> Result<(), Problem> {
    // The user may have left while this waited.
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(()) };
    // nsqd isn't well: a join doesn't wait for it.
    if core.broker.down_for(&found.node).is_some() {
        return Err(Problem::new(ErrorCode::Unavailable, format!("{} isn't well", found.node)));
    }
    let queue = [(chat, found.node)];
    // Not behind the same user's registrations: others wait for a member to arrive.
    let flow = Flow::of("arrive", user);
    let made = join_all(devices.iter().map(|device| async {
        // It may have been terminated, too.
        match lives(core, user, *device).await? {
            true => provision_living(core, &flow, user, *device, &queue).await,
            false => Ok(()),
        }
    }));
    made.await.into_iter().collect()
}

/// Completes what an edge left half done that added a user and died, or couldn't reach anything: the chat is on the user's list,
/// each of their devices is subscribed and has a queue, and their sessions are notified. Returns how many weren't subscribed.
///
/// # Errors
/// `unavailable`: the store.
pub(super) async fn complete_member(core: &Core, chat: ChatId, user: &UserId) -> Result<usize, Problem> {
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(0) };
    // For a member this only puts the chat on the list. A user who has left since isn't added again.
    let joined = core.store.add_member(chat, user, JoinBy::Themselves, found.epoch).await?;
    if !matches!(joined, Joined::Already(_)) {
        return Ok(0);
    }
    let restored = provision_member(core, chat, user).await?;
    if restored > 0 {
        let count = core.metrics.reconciler_actions.with_label_values(&["position_restored"]);
        count.inc_by(restored as u64);
        tracing::warn!(%chat, %user, devices = restored, "a member's devices were not subscribed: subscribed now");
        signal::publish(core, user, &Signal::Joined(chat)).await;
    }
    Ok(restored)
}

/// The name of the leased work on one user's queues of one chat.
pub(super) fn membership_work(chat: ChatId, user: &UserId) -> String {
    format!("membership.{}.{user}", chat.hex())
}

pub(super) fn no_queue(error: crate::broker::BrokerError) -> Problem {
    Problem::new(
        ErrorCode::Unavailable,
        "the device's queues can't be made now: try again, with the same ids",
    )
    .because_of(&error)
}
