//! How a device connects (authorization, acquisition, notifications, the data of `welcome`), and how it disconnects.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{
    Core, heartbeat, listen, presence, registration,
    rereads::offsets,
    session_check,
    signal::{self, Signal},
    watches::{self, Watch},
};
use crate::{
    domain::{
        Millis, Seq,
        device::{Device, DeviceKind, DeviceState, Lease},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    hub::{EdgeLease, Followed, Readings, SessionHandle},
    protocol::{ChatEntry, CloseCode, DeviceEvent, MainInfo, Problem},
    store::{Attached, Opened, Read, ReadOffset, Result},
    tokens::DeviceClaims,
};

/// Returns the claims for a device's token.
#[must_use]
pub fn claims(device: &Device) -> DeviceClaims {
    DeviceClaims {
        user: device.user.clone(),
        device: device.id,
        kind: device.kind,
        generation: device.generation,
    }
}

/// Why a device is refused: the close code and, with `main_offline`, when the main was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The close code.
    pub code: CloseCode,
    /// With `main_offline`: null if there is no main.
    pub last_seen: Option<Millis>,
}

impl From<CloseCode> for Refusal {
    fn from(code: CloseCode) -> Self {
        Self { code, last_seen: None }
    }
}

/// Checks the device's right to act, at every use of its token: tokens don't expire, the store decides.
///
/// # Errors
/// `Terminated`, `Unauthorized`, or `BackendUnavailable` if the store doesn't answer.
pub async fn authorize(core: &Core, claims: &DeviceClaims) -> std::result::Result<Device, CloseCode> {
    authorize_at(core, claims).await.map(|(device, _)| device)
}

// Also returns when the device was read, by the store's clock.
async fn authorize_at(
    core: &Core,
    claims: &DeviceClaims,
) -> std::result::Result<(Device, Millis), CloseCode> {
    let found = core.store.device_at(&claims.user, claims.device).await.map_err(unavailable)?;
    match found {
        Some((device, _))
            if device.state == DeviceState::Terminating || device.generation != claims.generation =>
        {
            Err(CloseCode::Terminated)
        }
        Some((device, at)) if device.state == DeviceState::Active && device.kind == claims.kind => {
            Ok((device, at))
        }
        Some(_) => Err(CloseCode::Unauthorized),
        None => match core.store.owner(claims.device).await.map_err(unavailable)? {
            Some(owner) if owner.terminated.is_some() => Err(CloseCode::Terminated),
            _ => Err(CloseCode::Unauthorized),
        },
    }
}

fn unavailable(error: crate::store::StoreError) -> CloseCode {
    tracing::warn!(%error, "checking a device failed; will retry");
    CloseCode::BackendUnavailable
}

/// A device that this edge has acquired.
#[derive(Debug)]
pub struct Opening {
    /// The device.
    pub device: Device,
    /// The fencing number of the new session.
    pub session: u64,
    /// The previous session.
    pub previous: Option<Lease>,
    /// The edge's lease under which the session was opened.
    pub lease: Arc<EdgeLease>,
}

/// Attempts to open a device while others open it concurrently.
const OPENINGS: usize = 8;

/// Acquires the device. A sub is accepted only while its main is connected; a refusal changes nothing. `begun`: when
/// the device was first read for this connection.
///
/// # Errors
/// The close code for the socket.
pub async fn open(
    core: &Core,
    claims: &DeviceClaims,
    begun: &mut Option<Millis>,
) -> std::result::Result<Opening, Refusal> {
    for _ in 0..OPENINGS {
        let (device, read_at) = authorize_at(core, claims).await?;
        if device.kind == DeviceKind::Sub {
            require_main(core, &device.user).await?;
        }
        let Some(lease) = heartbeat::held(core).await else {
            tracing::warn!(device = %claims.device, "a connection is refused: no heartbeat of this edge gets through");
            return Err(CloseCode::BackendUnavailable.into());
        };
        let (user, id) = (&device.user, device.id);
        let after = Read { session: device.session, at: *begun.get_or_insert(read_at) };
        let opened = core.store.open_session(user, id, claims.generation, after, &lease.incarnation).await;
        match opened {
            Ok(Opened::Terminated) => return Err(CloseCode::Terminated.into()),
            Ok(Opened::Unknown) => return Err(CloseCode::Unauthorized.into()),
            // Another connection of the device was faster, or just ended: this one is the newer.
            Ok(Opened::Changed) => {}
            // This one is the older. Its client may have gone; if not, it comes back.
            Ok(Opened::Late) => {
                tracing::debug!(device = %id, "a newer connection of the device was faster: refusing this one");
                return Err(CloseCode::BackendUnavailable.into());
            }
            Ok(Opened::Session { session, previous, device }) => {
                return Ok(Opening { device: *device, session, previous, lease });
            }
            Err(error) => {
                // It may be open all the same.
                core.edge.session_expiry.begin();
                return Err(unavailable(error).into());
            }
        }
    }
    tracing::warn!(device = %claims.device, "others open the device again and again at the same time");
    Err(CloseCode::BackendUnavailable.into())
}

/// Returns the user's main as others see it.
///
/// # Errors
/// When the store fails.
pub async fn main_of(core: &Core, user: &UserId) -> Result<Option<MainInfo>> {
    let main = main_device(core, user).await?;
    Ok(main.map(|d| MainInfo { device: d.id, online: d.online(), last_seen: d.last_seen }))
}

async fn main_device(core: &Core, user: &UserId) -> Result<Option<Device>> {
    let devices = core.store.devices(user).await?;
    Ok(devices.into_iter().find(|d| d.kind == DeviceKind::Main && d.state == DeviceState::Active))
}

/// # Errors
/// `MainOffline` when the main isn't connected anywhere.
pub async fn require_main(core: &Core, user: &UserId) -> std::result::Result<(), Refusal> {
    match main_of(core, user).await.map_err(unavailable)? {
        Some(main) if main.online => Ok(()),
        other => Err(Refusal { code: CloseCode::MainOffline, last_seen: other.map(|main| main.last_seen) }),
    }
}

/// The same for an open session. A main whose edge merely looks dead isn't offline: if its edge has died, the main is
/// released within seconds.
///
/// # Errors
/// The same.
pub async fn still_has_main(core: &Core, user: &UserId) -> std::result::Result<(), Refusal> {
    match main_device(core, user).await.map_err(unavailable)? {
        Some(main) if main.online() || main.unrenewed => Ok(()),
        other => Err(Refusal { code: CloseCode::MainOffline, last_seen: other.map(|main| main.last_seen) }),
    }
}

/// The initial state of a session.
#[derive(Debug)]
pub struct Start {
    /// For `welcome`.
    pub main: Option<MainInfo>,
    /// For `welcome`, and to subscribe to.
    pub chats: Vec<(Attached, Seq)>,
    /// Offsets read by others since then are news to the session.
    pub readings: Readings,
}

/// Registers the session on this edge, subscribes to its events, then reads: in this order, so that no event is missed.
///
/// # Errors
/// When the store fails.
pub async fn attach(core: &Core, handle: &SessionHandle) -> Result<Start> {
    core.hub.attach(handle.clone());
    watches::subscribe(core, vec![Watch::User(handle.user.clone())]).await?;
    // Offsets before attaching: they end with membership, and a user who leaves now must not seem to have read nothing.
    let user = &handle.user;
    let readings = core.hub.readings(user);
    let (chats, reads, main) =
        futures_util::try_join!(core.store.chats_of(user), core.store.reads(user), main_of(core, user))?;
    let attached = core.store.attach(&chats, user, handle.device, handle.session).await?;
    let chats = attached
        .into_iter()
        .flatten()
        .map(|attached| {
            let read = read_of(&attached, &reads);
            (attached, read)
        })
        .collect();
    Ok(Start { main, chats, readings })
}

/// Returns the read offset of a chat; at least the boundary of the membership.
fn read_of(attached: &Attached, reads: &HashMap<ChatId, ReadOffset>) -> Seq {
    reads.get(&attached.chat.id).map_or(0, |offset| offset.seq).max(attached.boundary)
}

/// The last step of an opening: the session serves its device from here on, and an older one is closed. Not earlier: 4409
/// implies an established newer connection. False: another session has the device.
///
/// # Errors
/// When the store fails.
pub async fn take_over(core: &Core, handle: &SessionHandle, previous: Option<&Lease>) -> Result<bool> {
    if handle.lease.expired() {
        // Whoever ended the lease may not have seen the session.
        handle.mailbox.close_signal.close(CloseCode::BackendUnavailable);
        return Ok(false);
    }
    if !session_check::confirm(core, handle).await? {
        return Ok(false);
    }
    core.hub.supersede(&handle.user, handle.device, handle.session);
    if previous.is_some() {
        signal::publish(core, &handle.user, &Signal::Replaced(handle.device, handle.session)).await;
    }
    Ok(true)
}

/// The state of a session in one chat.
#[derive(Debug)]
pub enum Membership {
    /// It is attached, with this read offset.
    Attached(Box<Attached>, Seq),
    /// Its user is a member, and the device isn't subscribed (yet), or a newer session was first.
    NotYet,
    /// Its user isn't a member.
    Out,
}

/// The state of a session in some chats.
#[derive(Debug)]
pub struct CheckedMemberships {
    /// Of each that the store answered for.
    pub chats: Vec<(ChatId, Membership)>,
    /// The others.
    pub unknown: Vec<ChatId>,
    /// Offsets read by others since then are news to the session.
    pub readings: Readings,
}

/// Unattached chats that are checked at a time.
const PARALLEL: usize = 64;

/// Checks whether the session's user is in these chats, and attaches the session to those. All of them together cost little
/// more than one.
///
/// # Errors
/// When the store fails.
pub async fn check_memberships(
    core: &Core,
    handle: &SessionHandle,
    chats: &[ChatId],
) -> Result<CheckedMemberships> {
    let user = &handle.user;
    // Offsets first, as in `attach`.
    let readings = core.hub.readings(user);
    let reads = offsets(core, user, chats).await?;
    let attached = core.store.attach(chats, user, handle.device, handle.session).await?;
    let (mut found, mut others, mut known) = (Vec::new(), Vec::new(), Vec::with_capacity(chats.len()));
    for (chat, attached) in chats.iter().zip(attached) {
        match attached {
            Some(attached) => found.push(attached),
            None => others.push(*chat),
        }
    }
    // The fence is kept per chat, and a chat that the session enters only now knows no newer session yet. Owning the device
    // *after* attaching means that no other session had it before.
    let holds = found.is_empty() || session_check::holds(core, handle).await?;
    known.extend(found.into_iter().map(|attached| {
        let (chat, read) = (attached.chat.id, read_of(&attached, &reads));
        (chat, if holds { Membership::Attached(Box::new(attached), read) } else { Membership::NotYet })
    }));
    // Collected first: the compiler can't see that a lazily mapped stream of these is `Send`.
    let members: Vec<_> = others.iter().map(|chat| core.store.chat_of_member(*chat, user)).collect();
    let members: Vec<Result<_>> = stream::iter(members).buffered(PARALLEL).collect().await;
    let mut unknown = Vec::new();
    for (chat, member) in others.into_iter().zip(members) {
        match member {
            Ok(Some(_)) => known.push((chat, Membership::NotYet)),
            Ok(None) => known.push((chat, Membership::Out)),
            Err(error) => {
                tracing::debug!(%chat, %error, "whether a user is in a chat isn't known yet");
                unknown.push(chat);
            }
        }
    }
    Ok(CheckedMemberships { chats: known, unknown, readings })
}

/// Whether a device is subscribed in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribing {
    /// It is decided, or its user isn't a member.
    Fixed,
    /// It can't be decided now.
    Unknown,
}

/// Subscribes the devices of a member whose adding edge died. Normally that edge does it at once; this runs a second
/// later.
pub async fn complete(core: &Core, handle: &SessionHandle, chat: ChatId) -> Subscribing {
    let completed = async {
        if is_subscribed(core, handle, chat).await? {
            registration::complete_member(core, chat, &handle.user).await?;
        }
        Ok::<_, Problem>(())
    };
    match completed.await {
        Ok(()) => Subscribing::Fixed,
        Err(problem) => {
            tracing::debug!(%chat, device = %handle.device, error = %problem, "subscribing a device failed; will retry");
            Subscribing::Unknown
        }
    }
}

/// Returns whether the session's user is in the chat, and its device isn't subscribed.
async fn is_subscribed(core: &Core, handle: &SessionHandle, chat: ChatId) -> Result<bool> {
    let Some((_, member)) = core.store.chat_of_member(chat, &handle.user).await? else { return Ok(false) };
    let position = core.store.position(chat, handle.device).await?;
    Ok(position.is_none_or(|position| position.from < member.boundary))
}

/// Makes the session follow these chats, with read offsets of `readings` that it reports itself. Offsets that moved since are
/// read again. For doorbells, see [`hear`].
pub fn follow(core: &Core, handle: &SessionHandle, chats: Vec<(ChatId, Followed, Seq)>, readings: Readings) {
    if core.hub.follow(handle, chats, readings) {
        core.watching.rereads.ask(&handle.user);
    }
}

/// Subscribes to the doorbells of followed chats, and checks each tail once for earlier messages.
///
/// # Errors
/// When the store fails; it is retried then.
pub async fn subscribe_chats(core: &Core, chats: Vec<ChatId>) -> Result<()> {
    watches::subscribe(core, chats.iter().copied().map(Watch::Chat).collect()).await?;
    // A session that is idle in a chat learns only from a doorbell that there is something new.
    listen::ring_all(core, &chats).await;
    Ok(())
}

/// Stops following a chat.
pub fn unfollow(core: &Core, handle: &SessionHandle, chat: ChatId) {
    if core.hub.unfollow(handle, chat) {
        core.watching.watches.idle([Watch::Chat(chat)]);
    }
}

/// Stops following all chats.
pub fn unfollow_all(core: &Core, handle: &SessionHandle) {
    core.watching.watches.idle(core.hub.unfollow_all(handle).into_iter().map(Watch::Chat));
}

/// Unregisters a session and releases its device; its queues are released already.
pub async fn close(core: &Core, handle: &SessionHandle) {
    presence::forget(core, handle);
    if core.hub.detach(handle) {
        core.watching.watches.idle([Watch::User(handle.user.clone())]);
    }
    match core
        .store
        .close_session(&handle.user, handle.device, handle.session, &handle.lease.incarnation)
        .await
    {
        Ok(true) => publish_event(core, &handle.user, handle.device, DeviceEvent::Offline).await,
        // A newer session or a termination has it.
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(device = %handle.device, %error, "device not released; will retry");
            core.edge.session_expiry.begin();
        }
    }
}

/// Notifies the user's other devices.
pub async fn publish_event(core: &Core, user: &UserId, device: DeviceId, event: DeviceEvent) {
    publish_event_at(core, user, device, event, now_millis()).await;
}

/// The same, for an event at another time.
pub async fn publish_event_at(core: &Core, user: &UserId, device: DeviceId, event: DeviceEvent, at: Millis) {
    signal::publish(core, user, &Signal::Device(event, device, at)).await;
}

/// Returns the entry of `welcome` and of `chat joined`.
#[must_use]
pub fn entry(attached: &Attached, read: Seq) -> ChatEntry {
    ChatEntry {
        id: attached.chat.id,
        kind: attached.chat.kind,
        name: attached.chat.name.clone(),
        // The offset was read after the head, and is never above it.
        head: attached.chat.head.max(read),
        read,
        cursor: attached.position.cursor,
        from: attached.position.from,
    }
}

impl From<CloseCode> for Problem {
    fn from(code: CloseCode) -> Self {
        use crate::protocol::ErrorCode;
        match code {
            CloseCode::Terminated => {
                Problem::new(ErrorCode::Forbidden, "this device was ended: register a new one")
            }
            CloseCode::Unauthorized => {
                Problem::new(ErrorCode::Unauthorized, "this token isn't that of a registered device")
            }
            _ => Problem::new(ErrorCode::Unavailable, "the server can't reach its store now: try again"),
        }
    }
}
