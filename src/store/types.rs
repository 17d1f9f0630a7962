//! What the store's methods take and give.

use std::time::Duration;

use bytes::Bytes;

use crate::config::Limits;
use crate::domain::{
    Millis, Seq,
    chat::{Chat, ChatKind, Member, Owed},
    device::{Device, DeviceKind, Lease},
    id::{ChatId, DeviceId, LinkId, MessageKey, TerminationId, UserId},
    link::LinkCode,
    message::Unnumbered,
};

/// Why the store didn't do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached; surely nothing happened.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// No answer in time: it may have happened.
    #[error("the store didn't answer in time, so the outcome is unknown: {0}")]
    Unknown(String),
    /// It holds something that this version can't read.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

/// How large a signal may be; a larger one isn't sent (and is [`StoreError::Unavailable`]: surely nothing happened).
pub const MAX_SIGNAL: usize = 1 << 20;

pub(super) fn too_large(bytes: usize) -> StoreError {
    StoreError::Unavailable(format!("a signal of {bytes} bytes is over the limit of {MAX_SIGNAL}"))
}

/// What most methods give.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A device to be registered.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Its id, chosen by the client or by the server.
    pub id: DeviceId,
    /// Whose it is.
    pub user: UserId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// What people call it.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// How many messages per chat, below where it begins, it may ask the main for; none: all.
    pub history: Option<u64>,
    /// Now.
    pub created: Millis,
}

/// What [`Store::register_device`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// Written as `registering`.
    Created(Device),
    /// This user has this device already, of the same kind; nothing changed.
    Existing(Device),
    /// The user has another main.
    MainExists(DeviceId),
    /// The user has as many subs as allowed.
    LimitReached,
    /// The id belongs to another user, to a device of the other kind, or to one that was terminated.
    Conflict,
}

/// What whoever opens a session has read before, with [`Store::device_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The number of the newest session, as it was read last.
    pub session: u64,
    /// When the device was read first for this session, by the store's clock: which of two that are opened at once is newer.
    pub at: Millis,
}

/// What [`Store::open_session`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The device is this session's.
    Session {
        /// The new fencing number.
        session: u64,
        /// Who held it until now, or did when it last said so; it must be told.
        previous: Option<Lease>,
        /// The device as it is now.
        device: Box<Device>,
    },
    /// Another session was opened since the caller read the device: nothing is changed. Read again.
    Changed,
    /// The newest session was begun clearly later than this one: the device is its.
    Late,
    /// It was terminated, or the token's generation is an older one.
    Terminated,
    /// No such device, or it isn't active yet.
    Unknown,
}

/// What [`Store::renew_session`] and [`Store::confirm_session`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Still this session's.
    Held,
    /// Its lease had been given back by somebody; now it is this session's again, because no newer one was opened.
    Revived,
    /// A newer number was given, and nobody is known to be there with it (yet, or any more): not renewed.
    Unconfirmed,
    /// A newer session serves the device.
    Replaced,
    /// The device was terminated.
    Terminated,
}

/// A session that an edge has, as others know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NotedSession {
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Its number.
    pub session: u64,
}

/// What [`Store::lapse_session`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapsed {
    /// Its lease hasn't run out.
    Held,
    /// It had run out and is given back now; the device was last seen then.
    Now(Millis),
    /// It has no lease, and a call that is late may still give it one: its number wasn't given yet, or can be taken again.
    Coming,
    /// It is over already: given back, or a newer session has the device.
    Before,
}

/// Where what a device is owed begins, in [`Store::owe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwedSince {
    /// At this head, which the caller has read: the device is new, and its main has what was before. (Not "now": the call may
    /// be executed late.)
    Head(Seq),
    /// At the head when its user joined: all their devices are owed the same, however long each one's turn takes.
    Joined,
}

/// What is owed in one chat; see [`Store::owing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owing {
    /// Which chat.
    pub chat: ChatId,
    /// The node that carries it.
    pub node: String,
    /// Who is in it.
    pub members: Vec<Member>,
    /// For which devices something is kept, and where what they are owed begins: of members and, for a moment or after a
    /// crash, of others.
    pub devices: Vec<(DeviceId, Seq)>,
    /// The lowest message that the broker hasn't confirmed.
    pub unconfirmed: Option<Seq>,
}

/// Some of all chats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwingPage {
    /// In no order.
    pub chats: Vec<Owing>,
    /// Indexed without a chat: being created or deleted, or nothing came of them.
    pub absent: Vec<ChatId>,
    /// Where the next page begins; none: there is none.
    pub next: Option<u64>,
}

/// Whom [`Store::owner`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Whose device it is or was.
    pub user: UserId,
    /// Its termination, if it had one: the tombstone.
    pub terminated: Option<TerminationId>,
}

/// A link to be opened.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// Its id.
    pub id: LinkId,
    /// Its code.
    pub code: LinkCode,
    /// The SHA-256 of its secret, in hexadecimal digits.
    pub secret: String,
    /// What the new device is to be called.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// The only user who may decide; none: whoever has the code.
    pub bound: Option<UserId>,
    /// For how long it may be decided.
    pub lifetime: Duration,
    /// For how long it is kept after that, so that the asking page can learn what became of it.
    pub kept: Duration,
}

/// What [`Store::open_link`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOpened {
    /// It waits for a main now.
    Opened,
    /// Another link has the code: make another one.
    CodeTaken,
    /// As many as allowed are waiting.
    Full,
}

/// What [`Store::decide_link`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The decision counts, from now on or since the same one was made before; with yes, this is the id of the device.
    Counts(DeviceId),
    /// The user has decided otherwise.
    Otherwise,
    /// No such link for this user, its time is over, or another user has decided.
    Gone,
}

/// A chat to be created.
#[derive(Debug, Clone)]
pub struct NewChat {
    /// Its id, chosen by the client or by the server.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// Anyone may join, and the name is unique among such groups.
    pub public: bool,
    /// The hash of the password that lets people join.
    pub password_hash: Option<String>,
    /// Who makes it.
    pub owner: UserId,
    /// The other one of a direct chat.
    pub with: Option<UserId>,
    /// The nsqd that shall carry it.
    pub node: String,
    /// Now.
    pub created: Millis,
}

/// What [`Store::create_chat`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// Made; the owner (and the other of a direct chat) are members with boundary 0.
    New(Chat),
    /// It was there: the same id made by the same owner with the same kind, or the direct chat of this pair.
    Existing(Chat),
    /// Another public group has the name.
    NameTaken,
    /// The id belongs to another chat.
    Conflict,
    /// One of its users is in as many chats as allowed.
    LimitReached,
}

/// By what right somebody joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinBy {
    /// By themselves: a removed user is refused.
    Themselves,
    /// By the owner's invitation: lifts an earlier removal.
    Invitation,
}

/// What [`Store::add_member`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// A member now, owed everything above this boundary (the head at this moment).
    New(Seq),
    /// Was a member already.
    Already(Seq),
    /// No such chat, or a removed user without invitation.
    Refused,
    /// The chat has as many members, or the user as many chats, as allowed.
    LimitReached,
    /// The user has left, or was removed, since the epoch that was given: read the chat again.
    Stale,
}

/// A message to be appended.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub chat: ChatId,
    /// Who sends: must be a member.
    pub user: UserId,
    /// Its idempotency key.
    pub key: MessageKey,
    /// A hash of what the sender wrote (without times), to tell a retry from another message under the same key.
    pub fingerprint: u64,
    /// The sender's edge's time.
    pub at: Millis,
    /// The frame, still without its seq.
    pub frame: Unnumbered,
}

/// What [`Store::append`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// In the log and in the outbox; the doorbell was rung.
    New {
        /// Its number.
        seq: Seq,
        /// The nsqd that carries the chat.
        node: String,
        /// The chat's epoch, which stands behind the frame.
        epoch: u64,
        /// Some member's queues aren't known to be there: it is to stay in the outbox until they are.
        held: bool,
    },
    /// The key was used for the same content before; nothing changed.
    Again {
        /// The number it got then.
        seq: Seq,
        /// The time it got then.
        at: Millis,
    },
    /// The key was used for other content.
    KeyConflict,
    /// The sender isn't a member, or there is no such chat.
    NotMember,
}

/// Where a chat stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tip {
    /// Its head; 0 when it isn't there.
    pub head: Seq,
    /// The node that carries it; empty when it isn't there.
    pub node: String,
}

/// Bytes of messages in one page of an outbox, about: many are read at a time.
pub(super) const OUTBOX_PAGE_BYTES: usize = 256 << 10;

/// Who reads a chat's log as a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The member.
    pub user: UserId,
    /// Where what they (or their device) are owed begins: names the membership, whose boundary isn't above it.
    pub since: Seq,
}

/// A stretch of a chat's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Ascending, without holes. Bodies: frames and, behind them, the epoch (`domain::message::split_epoch`).
    pub messages: Vec<(Seq, Bytes)>,
    /// The lowest seq that the log still holds; where there is a hole at the beginning of what was asked for, the first
    /// behind it (head + 1 when it holds none).
    pub floor: Seq,
    /// The chat's head.
    pub head: Seq,
}

/// What a session learns of one chat when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The chat.
    pub chat: Chat,
    /// What the device is owed.
    pub owed: Owed,
    /// The boundary of the user's membership: at least so far everything counts as read.
    pub boundary: Seq,
    /// The chat's membership epoch: it rises whenever somebody leaves or is removed. The user was a member at this epoch.
    pub epoch: u64,
}

/// One cursor to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMove {
    /// Whose.
    pub device: DeviceId,
    /// The session that says so.
    pub session: u64,
    /// Where what the session is owed begins: names the membership that it attached in.
    pub from: Seq,
    /// Up to where.
    pub seq: Seq,
}

/// What became of a [`CursorMove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMoved {
    /// The cursor stands here now (where it was, if that was further).
    At(Seq),
    /// Another session or a termination owns the device, or its user has left the chat since (and perhaps come back);
    /// nothing changed.
    Fenced,
}

/// A user's read offset in one chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOffset {
    /// The highest seq read.
    pub seq: Seq,
    /// On which device; none when it came by joining, or from a user token.
    pub device: Option<DeviceId>,
}

/// How many events a window has; see [`Store::count`].
pub type Count = u64;

/// "Read again." See the contract: hints only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The read offsets of a watched user may have moved (in Redis: a keyspace notification).
    ReadsChanged(UserId),
    /// A watched chat has a message with this number.
    Doorbell(ChatId, Seq),
    /// A member of a watched chat types. Left out when there is much else to tell.
    Typing(ChatId, UserId),
    /// A device of a user whose presence is watched may have come or gone.
    Presence(UserId),
    /// Somebody called [`Store::signal`] or [`Store::announce`] for a watched user.
    Signal(UserId, Bytes),
    /// Events may have been missed: read everything watched again.
    Resubscribed,
}

/// Sizes that scripts check. All inclusive maxima.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Sub devices per user.
    pub subs_per_user: u32,
    /// Chats per user.
    pub chats_per_user: u32,
    /// Members per group.
    pub members_per_group: u32,
    /// Messages that a chat's log keeps although every device that was owed them has them.
    pub log_keep: u64,
    /// Messages that a chat's log keeps at most.
    pub log_messages: u64,
    /// Bytes of messages that a chat's log keeps at most.
    pub log_bytes: u64,
    /// How long the log and the idempotency keys are kept; at least 24 hours.
    pub log_age: Duration,
}

impl From<&Limits> for StoreLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            subs_per_user: limits.subs_per_user,
            chats_per_user: limits.chats_per_user,
            members_per_group: limits.members_per_group,
            log_keep: limits.log_keep,
            log_messages: limits.log_messages,
            log_bytes: limits.log_bytes,
            log_age: limits.log_age,
        }
    }
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            subs_per_user: 5,
            chats_per_user: 1_000,
            members_per_group: 500,
            log_keep: 1_000,
            log_messages: 10_000,
            log_bytes: 16 << 20,
            log_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
