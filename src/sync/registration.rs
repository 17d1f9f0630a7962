//! A device comes: written first as `registering`, then what it is owed is fixed chat by chat, then its queues are
//! made, and only then it becomes active and gets its token. Every step may be done again; a crash leaves a
//! `registering` device, which the client's next try completes.

use super::{Core, connect, termination, turn::in_turn};
use crate::{
    domain::{
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    protocol::{DeviceEvent, ErrorCode, Problem},
    store::{NewDevice, OwedSince, Registered},
    tokens::DeviceClaims,
};

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
    // Ending the old main takes one more try; a third main that comes in between, another.
    let early = if planted!(RegisterLate) { Some(core.store.chats_of(user).await?) } else { None };
    for _ in 0..3 {
        let (device, created) = match core.store.register_device(&new).await? {
            Registered::Created(device) => (device, true),
            Registered::Existing(device) if device.state == DeviceState::Terminating => return Err(ended()),
            Registered::Existing(device) => (device, false),
            Registered::MainExists(old) if wish.replace => {
                termination::begin(core, user, old, "replaced").await?;
                continue;
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
    Err(Problem::new(ErrorCode::Conflict, "other mains are being registered at the same time: try again"))
}

fn ended() -> Problem {
    let detail =
        "this device id is taken or was ended, and ids are never used again: register with a new one";
    Problem::new(ErrorCode::Conflict, detail)
}

/// Fixes what the device is owed in each chat of the user, and makes its queues.
async fn provision_all(
    core: &Core,
    user: &UserId,
    device: DeviceId,
    chats: Vec<ChatId>,
) -> Result<(), Problem> {
    let mut queues = Vec::new();
    for chat in chats {
        if core.store.owe(chat, user, device, OwedSince::Now).await?.is_some()
            && let Some(found) = core.store.chat(chat).await?
        {
            queues.push((chat, found.node));
        }
    }
    core.broker.provision(device, &queues).await.map_err(no_queue)
}

/// The same for one chat and all devices of a user who has just come into it. The work is leased together with the
/// removal of a user's queues on leaving, so that neither does half of it between the other's steps.
///
/// # Errors
/// `unavailable`.
pub async fn provision_member(core: &Core, chat: ChatId, node: &str, user: &UserId) -> Result<(), Problem> {
    in_turn(core, &membership_work(chat, user), provision_devices(core, chat, node, user)).await
}

async fn provision_devices(core: &Core, chat: ChatId, node: &str, user: &UserId) -> Result<(), Problem> {
    for device in core.store.devices(user).await? {
        // One that is just being registered is owed nothing from before, even if it is found here first.
        let since = match device.state {
            DeviceState::Terminating => continue,
            DeviceState::Registering => OwedSince::Now,
            DeviceState::Active => OwedSince::Joined,
        };
        if core.store.owe(chat, user, device.id, since).await?.is_some() {
            core.broker.provision(device.id, &[(chat, node.to_owned())]).await.map_err(no_queue)?;
        }
    }
    Ok(())
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
