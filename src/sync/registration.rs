//! A device comes: written first as `registering`, then its queues are made, then what it is owed is fixed chat by chat,
//! and only then it becomes active and gets its token. Every step may be done again; a crash leaves a
//! `registering` device, which the client's next try completes.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use tokio::time::timeout;

use super::{
    Core, connect,
    signal::{self, Signal},
    termination,
    turn::in_turn,
};
use crate::{
    domain::{
        chat::Chat,
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    protocol::{DeviceEvent, ErrorCode, Problem},
    store::{JoinBy, Joined, NewDevice, OwedSince, Registered},
    tokens::DeviceClaims,
};

/// For the queues of a member who is just let in.
const QUEUES_WITHIN: Duration = Duration::from_secs(3);
/// Chats that are read, or in which something is fixed, at a time.
const PARALLEL: usize = 16;

/// What the client asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Chosen by the client, or none.
    pub id: Option<DeviceId>,
    /// Main or sub.
    pub kind: DeviceKind,
    /// What people call it.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// A main may end another main of the user.
    pub replace: bool,
    /// How many messages per chat, below where it begins, a sub may ask the main for; none: all.
    pub history: Option<u64>,
}

/// So many mains that others register at the same time one registration ends; then it ends none any more.
const REPLACES: u32 = 32;

/// Registers a device. True: it is new.
///
/// # Errors
/// `main_exists`, `limit_reached`, `conflict` (the id is somebody else's, of the other kind, or was ended),
/// `unavailable` (try again with the same id).
pub async fn register(
    core: &std::sync::Arc<Core>,
    user: &UserId,
    wish: Wish,
) -> Result<(Device, DeviceClaims, bool), Problem> {
    let new = NewDevice {
        id: wish.id.unwrap_or_else(DeviceId::random),
        user: user.clone(),
        kind: wish.kind,
        name: wish.name,
        platform: wish.platform,
        history: wish.history,
        created: now_millis(),
    };
    let early = if planted!(RegisterLate) { Some(core.store.chats_of(user).await?) } else { None };
    let mut ends = 0;
    loop {
        let (device, created) = match core.store.register_device(&new).await? {
            Registered::Created(device) => (device, true),
            Registered::Existing(device) if device.state == DeviceState::Terminating => return Err(ended()),
            Registered::Existing(device) => (device, false),
            // Whoever ends a main registers afterwards, or others ended it for nothing: one of all gets through each time.
            Registered::MainExists(old) if wish.replace && ends < REPLACES => {
                termination::begin(core, user, old, "replaced").await?;
                ends += 1;
                continue;
            }
            Registered::MainExists(_) if wish.replace => {
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
            let chats = match &early {
                Some(chats) => chats.clone(),
                None => core.store.chats_of(user).await?,
            };
            provision_all(core, user, device.id, chats).await?;
            if !core.store.activate_device(user, device.id).await? {
                return Err(ended());
            }
            connect::told(core, user, device.id, DeviceEvent::Linked).await;
        }
        let claims = connect::claims(&device);
        return Ok((Device { state: DeviceState::Active, ..device }, claims, created));
    }
}

fn ended() -> Problem {
    let detail =
        "this device id is taken or was ended, and ids are never used again: register with a new one";
    Problem::new(ErrorCode::Conflict, detail)
}

/// Makes the device's queues in each chat of the user, and then fixes what it is owed there: everything above the head that is
/// read when the queue is there already. The other way round, what is said in between would be in no queue.
async fn provision_all(
    core: &Core,
    user: &UserId,
    device: DeviceId,
    chats: Vec<ChatId>,
) -> Result<(), Problem> {
    let found = members_of(core, user, chats).await?;
    let queues: Vec<_> = found.into_iter().map(|chat| (chat.id, chat.node)).collect();
    provision_living(core, user, device, &queues).await?;
    let found = members_of(core, user, queues.iter().map(|queue| queue.0).collect()).await?;
    let owes: Vec<_> =
        found.iter().map(|chat| core.store.owe(chat.id, user, device, OwedSince::Head(chat.head))).collect();
    // (Where its user has left meanwhile the queue is nobody's: `reconcile` removes it, in turn with whoever comes back.)
    stream::iter(owes).buffer_unordered(PARALLEL).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Those of these chats that the user is in, as they are now.
async fn members_of(core: &Core, user: &UserId, chats: Vec<ChatId>) -> Result<Vec<Chat>, Problem> {
    let reads: Vec<_> = chats.into_iter().map(|chat| core.store.chat_of_member(chat, user)).collect();
    let found: Vec<_> = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
    Ok(found.into_iter().flatten().map(|(chat, _)| chat).collect())
}

/// Makes queues of a device, and looks at the device once more: an end takes no turn, and may have begun and be done since
/// the caller has seen the device. Then they go again.
///
/// # Errors
/// `unavailable`: a queue can't be made, or the store.
pub async fn provision_living(
    core: &Core,
    user: &UserId,
    device: DeviceId,
    queues: &[(ChatId, String)],
) -> Result<(), Problem> {
    core.broker.provision(device, queues).await.map_err(no_queue)?;
    if lives(core, user, device).await? {
        return Ok(());
    }
    let chats: Vec<ChatId> = queues.iter().map(|(chat, _)| *chat).collect();
    // What can't be removed now is nobody's: `reconcile` does it.
    core.broker.remove_queues(device, &chats, true).await;
    Ok(())
}

async fn lives(core: &Core, user: &UserId, device: DeviceId) -> Result<bool, Problem> {
    let device = core.store.device(user, device).await?;
    Ok(device.is_some_and(|device| device.state != DeviceState::Terminating) || planted!(LateQueueStays))
}

/// The same for one chat and all devices of a user who is in it. First what each is owed, then their queues: a queue that can't
/// be made now is no error, because from now on it is one that should be there, and it is before the next message is published.
/// The other way round for devices that are just being registered, as above: they are owed nothing from before, even if they
/// are found here first. Answers to how many of the others nothing was owed before.
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
                let before = core.store.owed(chat, device.id).await?;
                if core.store.owe(chat, user, device.id, OwedSince::Joined).await?.is_some() {
                    fixed += usize::from(before.is_none_or(|before| before.from < member.boundary));
                    devices.push(device.id);
                }
            }
        }
    }
    devices.extend(&registering);
    // Leased together with the removal of a user's queues on leaving, so that neither does half of it between the other's
    // steps.
    let work = membership_work(chat, user);
    // Whoever joins doesn't wait for an nsqd that hangs.
    let made = timeout(QUEUES_WITHIN, in_turn(core, &work, make_queues(core, chat, user, &devices)));
    match made.await {
        Ok(Ok(())) => {
            core.store.arrived(chat, user, member.version).await?;
            owe_from_now(core, chat, user, &registering).await?;
        }
        Ok(Err(problem)) => {
            tracing::warn!(%chat, %user, error = %problem, "queues of a member can't be made now; they are before the next message is published");
        }
        Err(_elapsed) => {
            tracing::warn!(%chat, %user, "queues of a member aren't made in time; they are before the next message is published");
        }
    }
    Ok(fixed)
}

/// What is said from now on is in their queues. The head first, then the device: as long as that isn't registered, nobody was
/// told that it is there.
async fn owe_from_now(core: &Core, chat: ChatId, user: &UserId, devices: &[DeviceId]) -> Result<(), Problem> {
    if devices.is_empty() {
        return Ok(());
    }
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(()) };
    for device in devices {
        let since = match core.store.device(user, *device).await?.map(|device| device.state) {
            Some(DeviceState::Registering) => OwedSince::Head(found.head),
            // It is by now, and its registration didn't know of the chat yet.
            Some(DeviceState::Active) => OwedSince::Joined,
            Some(DeviceState::Terminating) | None => continue,
        };
        core.store.owe(chat, user, *device, since).await?;
    }
    Ok(())
}

async fn make_queues(core: &Core, chat: ChatId, user: &UserId, devices: &[DeviceId]) -> Result<(), Problem> {
    // The user may have left while the turn was waited for.
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(()) };
    // nsqd isn't well: whoever joins doesn't wait for it.
    if core.broker.down_for(&found.node).is_some() {
        return Err(Problem::new(ErrorCode::Unavailable, format!("{} isn't well", found.node)));
    }
    let queue = [(chat, found.node)];
    let made = join_all(devices.iter().map(|device| async {
        // It may have been ended, too.
        match lives(core, user, *device).await? {
            true => provision_living(core, user, *device, &queue).await,
            false => Ok(()),
        }
    }));
    made.await.into_iter().collect()
}

/// What an edge left half done that let a user in and died, or couldn't reach anything: the chat is on the user's list, each
/// of their devices is owed it and has a queue, and their sessions are told. Answers to how many devices nothing was owed.
///
/// # Errors
/// `unavailable`: the store.
pub(super) async fn complete_member(core: &Core, chat: ChatId, user: &UserId) -> Result<usize, Problem> {
    let Some((found, _)) = core.store.chat_of_member(chat, user).await? else { return Ok(0) };
    // A member already, this only puts the chat on the list. Who has left since isn't brought back.
    let joined = core.store.add_member(chat, user, JoinBy::Themselves, found.epoch).await?;
    if !matches!(joined, Joined::Already(_)) {
        return Ok(0);
    }
    let restored = provision_member(core, chat, user).await?;
    if restored > 0 {
        let count = core.metrics.reconciler_actions.with_label_values(&["position_restored"]);
        count.inc_by(restored as u64);
        tracing::warn!(%chat, %user, devices = restored, "a member's devices were owed nothing, and are now");
        signal::tell(core, user, &Signal::Joined(chat)).await;
    }
    Ok(restored)
}

/// The name of the work of making and removing one user's queues of one chat.
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
