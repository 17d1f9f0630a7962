//! A device connects: who may, who is told, and what it must know before its first frame. And how it leaves.

use futures_util::{StreamExt, stream};

use super::{
    Core, leases, presence, rereads,
    signal::{self, Signal},
    watches::{self, Watch},
};
use crate::{
    domain::{
        Millis, Seq,
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    hub::{Followed, Readings, SessionHandle},
    protocol::{ChatEntry, CloseCode, DeviceEvent, MainInfo, Problem},
    store::{Attached, Opened, Result},
    tokens::DeviceClaims,
};

/// What the token of a device says.
#[must_use]
pub fn claims(device: &Device) -> DeviceClaims {
    DeviceClaims {
        user: device.user.clone(),
        device: device.id,
        kind: device.kind,
        generation: device.generation,
    }
}

/// Why a device isn't let in: the close code and, with `main_offline`, when the main was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The close code.
    pub code: CloseCode,
    /// With `main_offline`: null when there is no main at all.
    pub last_seen: Option<Millis>,
}

impl From<CloseCode> for Refusal {
    fn from(code: CloseCode) -> Self {
        Self { code, last_seen: None }
    }
}

/// Checks the device's right to act, as every use of its token must: tokens carry no end, the store knows it.
///
/// # Errors
/// `Terminated`, `Unauthorized`, or `BackendUnavailable` when the store doesn't answer.
pub async fn authorize(core: &Core, claims: &DeviceClaims) -> std::result::Result<Device, CloseCode> {
    let found = core.store.device(&claims.user, claims.device).await.map_err(unavailable)?;
    match found {
        Some(device) if planted!(NoTombstoneCheck) => Ok(device),
        Some(device)
            if device.state == DeviceState::Terminating || device.generation != claims.generation =>
        {
            Err(CloseCode::Terminated)
        }
        Some(device) if device.state == DeviceState::Active && device.kind == claims.kind => Ok(device),
        Some(_) => Err(CloseCode::Unauthorized),
        None => match core.store.owner(claims.device).await.map_err(unavailable)? {
            Some(owner) if owner.terminated.is_some() => Err(CloseCode::Terminated),
            _ => Err(CloseCode::Unauthorized),
        },
    }
}

fn unavailable(error: crate::store::StoreError) -> CloseCode {
    tracing::warn!(%error, "a device can't be checked");
    CloseCode::BackendUnavailable
}

/// Makes this edge own the device. An older session, wherever it is, is told that it is over. A sub is let in only
/// while its main is there; a refusal changes nothing.
///
/// # Errors
/// The close code with which to end the socket.
pub async fn open(core: &Core, claims: &DeviceClaims) -> std::result::Result<(Device, u64), Refusal> {
    let device = authorize(core, claims).await?;
    if device.kind == DeviceKind::Sub {
        require_main(core, &device.user).await?;
    }
    let lease = core.timing.lease;
    let opened = core.store.open_session(&device.user, device.id, claims.generation, &core.edge, lease).await;
    match opened.map_err(unavailable)? {
        Opened::Terminated => Err(CloseCode::Terminated.into()),
        Opened::Unknown => Err(CloseCode::Unauthorized.into()),
        Opened::Session { session, previous, device } => {
            if previous.is_some() {
                signal::tell(core, &device.user, &Signal::Replaced(device.id, session)).await;
            }
            Ok((*device, session))
        }
    }
}

/// The user's main as others see it.
///
/// # Errors
/// When the store fails.
pub async fn main_of(core: &Core, user: &UserId) -> Result<Option<MainInfo>> {
    let devices = core.store.devices(user).await?;
    let main = devices.iter().find(|d| d.kind == DeviceKind::Main && d.state == DeviceState::Active);
    Ok(main.map(|d| MainInfo { device: d.id, online: d.online(), last_seen: d.last_seen }))
}

/// # Errors
/// `MainOffline` when the main isn't connected anywhere.
pub async fn require_main(core: &Core, user: &UserId) -> std::result::Result<(), Refusal> {
    match main_of(core, user).await.map_err(unavailable)? {
        Some(main) if main.online => Ok(()),
        other => Err(Refusal { code: CloseCode::MainOffline, last_seen: other.map(|main| main.last_seen) }),
    }
}

/// What a session starts with.
#[derive(Debug)]
pub struct Start {
    /// For `welcome`.
    pub main: Option<MainInfo>,
    /// For `welcome`, and to subscribe to.
    pub chats: Vec<(Attached, Seq)>,
    /// Since when others' looks at the offsets are news to the session.
    pub readings: Readings,
}

/// Puts the session on this edge's lists, hears for it, then reads: in this order, so that nothing falls between.
///
/// # Errors
/// When the store fails.
pub async fn attach(core: &Core, handle: &SessionHandle) -> Result<Start> {
    core.hub.attach(handle.clone());
    watches::hear(core, vec![Watch::User(handle.user.clone())]).await?;
    let chats = core.store.chats_of(&handle.user).await?;
    let attached = core.store.attach(&chats, &handle.user, handle.device, handle.session).await?;
    let attached: Vec<Attached> = attached.into_iter().flatten().collect();
    let readings = core.hub.readings(&handle.user);
    let reads = offsets(core, handle, &attached).await?;
    let main = main_of(core, &handle.user).await?;
    Ok(Start { main, chats: attached.into_iter().zip(reads).collect(), readings })
}

/// The read offsets of these chats, in their order.
async fn offsets(core: &Core, handle: &SessionHandle, attached: &[Attached]) -> Result<Vec<Seq>> {
    let chats: Vec<ChatId> = attached.iter().map(|attached| attached.chat.id).collect();
    let reads = rereads::offsets(core, &handle.user, &chats).await?;
    Ok(chats.iter().map(|chat| reads.get(chat).map_or(0, |offset| offset.seq)).collect())
}

/// How a session stands to one chat.
#[derive(Debug)]
pub enum Membership {
    /// It is attached, with this read offset.
    Attached(Box<Attached>, Seq),
    /// Its user is in the chat, and nothing is owed (yet), or a newer session was first.
    NotYet,
    /// Its user isn't in the chat.
    Out,
}

/// How a session stands to some chats.
#[derive(Debug)]
pub struct Looked {
    /// To each.
    pub chats: Vec<(ChatId, Membership)>,
    /// Since when others' looks at the offsets are news to the session.
    pub readings: Readings,
}

/// Chats in which nothing is attached that are looked at at a time.
const PARALLEL: usize = 64;

/// Looks whether the session's user is in these chats, and attaches the session to those. All of them together cost little
/// more than one.
///
/// # Errors
/// When the store fails.
pub async fn look(core: &Core, handle: &SessionHandle, chats: &[ChatId]) -> Result<Looked> {
    let attached = core.store.attach(chats, &handle.user, handle.device, handle.session).await?;
    let (mut found, mut others, mut known) = (Vec::new(), Vec::new(), Vec::with_capacity(chats.len()));
    for (chat, attached) in chats.iter().zip(attached) {
        match attached {
            Some(attached) => found.push(attached),
            None => others.push(*chat),
        }
    }
    let readings = core.hub.readings(&handle.user);
    if !found.is_empty() {
        // What fences an older session is kept per chat, and a chat that it is only now in knows no newer one yet. Held
        // *after* attaching means that nobody had taken the device before.
        if leases::holds(core, handle).await? {
            let reads = offsets(core, handle, &found).await?;
            let attached = found.into_iter().zip(reads);
            known.extend(attached.map(|(it, read)| (it.chat.id, Membership::Attached(Box::new(it), read))));
        } else {
            known.extend(found.into_iter().map(|attached| (attached.chat.id, Membership::NotYet)));
        }
    }
    // Collected first: the compiler can't see that a lazily mapped stream of these may move between threads.
    let members: Vec<_> = others.iter().map(|chat| core.store.chat_of_member(*chat, &handle.user)).collect();
    let members: Vec<Result<_>> = stream::iter(members).buffered(PARALLEL).collect().await;
    for (chat, member) in others.into_iter().zip(members) {
        known.push((chat, if member?.is_some() { Membership::NotYet } else { Membership::Out }));
    }
    Ok(Looked { chats: known, readings })
}

/// The session follows these chats from now on, with the read offsets that it tells its client by itself; those were read
/// at `readings`. What is read meanwhile and wasn't told it, is read again. To be heard of, see [`hear`].
pub fn follow(core: &Core, handle: &SessionHandle, chats: Vec<(ChatId, Followed, Seq)>, readings: Readings) {
    if core.hub.follow(handle, chats, readings) {
        core.rereads.ask(&handle.user);
    }
}

/// Hears the doorbells of chats that a session follows. Its tail is checked once, for what came before.
///
/// # Errors
/// When the store fails; it is tried again then.
pub async fn hear(core: &Core, chats: Vec<ChatId>) -> Result<()> {
    watches::hear(core, chats.into_iter().map(Watch::Chat).collect()).await
}

/// The session follows a chat no longer.
pub fn unfollow(core: &Core, handle: &SessionHandle, chat: ChatId) {
    if core.hub.unfollow(handle, chat) {
        core.watches.idle([Watch::Chat(chat)]);
    }
}

/// The session follows none any more.
pub fn unfollow_all(core: &Core, handle: &SessionHandle) {
    core.watches.idle(core.hub.unfollow_all(handle).into_iter().map(Watch::Chat));
}

/// Takes a session off the lists and gives its device back; its queues are given back already.
pub async fn close(core: &Core, handle: &SessionHandle) {
    presence::forget(core, handle);
    if core.hub.detach(handle) {
        core.watches.idle([Watch::User(handle.user.clone())]);
    }
    match core.store.close_session(&handle.user, handle.device, handle.session, &core.edge).await {
        Ok(true) => told(core, &handle.user, handle.device, DeviceEvent::Offline).await,
        // A newer session or a termination has it.
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(device = %handle.device, %error, "a lease isn't given back; it runs out by itself");
            core.lapsing.begin();
        }
    }
}

/// Tells the user's other devices.
pub async fn told(core: &Core, user: &UserId, device: DeviceId, event: DeviceEvent) {
    told_at(core, user, device, event, now_millis()).await;
}

/// The same, of what happens or has happened at another time.
pub async fn told_at(core: &Core, user: &UserId, device: DeviceId, event: DeviceEvent, at: Millis) {
    signal::tell(core, user, &Signal::Device(event, device, at)).await;
}

/// The entry of `welcome` and of `chat joined`.
#[must_use]
pub fn entry(attached: &Attached, read: Seq) -> ChatEntry {
    ChatEntry {
        id: attached.chat.id,
        kind: attached.chat.kind,
        name: attached.chat.name.clone(),
        // The offset was read after the head, and is never above it.
        head: attached.chat.head.max(read),
        read,
        cursor: attached.owed.cursor,
        from: attached.owed.from,
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
