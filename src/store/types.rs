//! Arguments and results of the store's methods.

use std::time::Duration;

use bytes::Bytes;

use crate::config::{Limits, Timing};
use crate::domain::{
    Millis, Seq,
    chat::{Chat, ChatKind, DevicePosition, Entry, Member},
    device::{Device, DeviceKind, Lease},
    id::{ChatId, DeviceId, MessageKey, TerminationId, UserId},
    message::FrameTemplate,
};

/// Why a call to the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store can't be reached; certainly nothing happened.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// The store didn't answer in time: the change may have happened.
    #[error("the store didn't answer in time, so the outcome is unknown: {0}")]
    Unknown(String),
    /// The store holds data that this version can't read.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(String),
}

/// The maximum size of a signal, in bytes. A larger one isn't sent (its error is [`StoreError::Unavailable`]: certainly
/// nothing happened).
pub const MAX_SIGNAL: usize = 1 << 20;

pub(super) fn too_large(bytes: usize) -> StoreError {
    StoreError::Unavailable(format!("a signal of {bytes} bytes is over the limit of {MAX_SIGNAL}"))
}

/// The result of most methods.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A device to be registered.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// The device's id, chosen by the client or by the server.
    pub id: DeviceId,
    /// The device's user.
    pub user: UserId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The name that people give it.
    pub name: String,
    /// The platform it runs on.
    pub platform: String,
    /// How many messages per chat, below the start of its subscription, it may ask the main for; none: all.
    pub history: Option<u64>,
    /// The current time.
    pub created: Millis,
}

/// The result of [`super::Store::register_device`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The device is written as `registering`.
    Created(Device),
    /// The user has this device already, with the same kind; nothing changed.
    Existing(Device),
    /// The user has another main.
    MainExists(DeviceId),
    /// The user has as many subs as allowed.
    LimitReached,
    /// The id belongs to another user, to a device of the other kind, or to a terminated device.
    Conflict,
}

/// What the opener of a session has read before, with [`super::Store::device_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The number of the newest session, as read last.
    pub session: u64,
    /// When the device was first read for this session, by the store's clock: decides which of two sessions that are
    /// opened at once is newer.
    pub at: Millis,
}

/// The result of [`super::Store::open_session`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The session owns the device.
    Session {
        /// The new fencing number.
        session: u64,
        /// The previous owner's lease, as last recorded; that edge must be notified.
        previous: Option<Lease>,
        /// The device as it is now.
        device: Box<Device>,
    },
    /// Another session was opened since the caller read the device; nothing changed. Read it again.
    Changed,
    /// The newest session began clearly later than this one and keeps the device.
    Late,
    /// The device was terminated, or the token's generation is an older one.
    Terminated,
    /// The device doesn't exist, or isn't active yet.
    Unknown,
}

/// The result of [`super::Store::check_session`] and [`super::Store::confirm_session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionCheck {
    /// The session still owns the device.
    Held,
    /// The device had been released by another edge. The session owns it again, because no newer session was opened.
    Revived,
    /// A newer session number was assigned, and no session is known to serve with it (yet, or any more).
    Unconfirmed,
    /// A newer session serves the device.
    Replaced,
    /// The device was terminated.
    Terminated,
}

/// A session of an edge, as other edges know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegisteredSession {
    /// The session's user.
    pub user: UserId,
    /// The session's device.
    pub device: DeviceId,
    /// The session's number.
    pub session: u64,
    /// The id of the incarnation under which it was opened; empty if an older build registered it.
    pub incarnation: String,
}

/// The result of [`super::Store::expire_session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiredSession {
    /// The lease that an older build gave the session hasn't run out.
    Held,
    /// The device is released now; it was last seen at this time.
    Now(Millis),
    /// The session has no device, and a late call may still give it one: its number wasn't assigned yet, or can be
    /// assigned again.
    Coming,
    /// The session is over already: its device was released, or a newer session owns it.
    Before,
}

/// Where a device's subscription begins, in [`super::Store::subscribe_device`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// At this head, which the caller has read: the device is new, and its main has the earlier messages. (Not "now":
    /// the call may be executed late.)
    Head(Seq),
    /// At the head when its user joined: all devices of the user receive the same, however late each one is subscribed.
    Joined,
}

/// The subscriptions to one chat; see [`super::Store::subscriptions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriptions {
    /// The chat.
    pub chat: ChatId,
    /// The node that carries it.
    pub node: String,
    /// The chat's members.
    pub members: Vec<Member>,
    /// The devices with a position, and where the subscription of each begins: devices of members and, for a moment or
    /// after a crash, of others.
    pub devices: Vec<(DeviceId, Seq)>,
    /// The lowest message that the broker hasn't confirmed.
    pub unconfirmed: Option<Seq>,
}

/// The result of [`super::Store::owner`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user who owns or owned the device.
    pub user: UserId,
    /// The device's termination, if it had one: the tombstone.
    pub terminated: Option<TerminationId>,
}

/// A chat to be created.
#[derive(Debug, Clone)]
pub struct NewChat {
    /// The chat's id, chosen by the client or by the server.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// Whether anyone may join. The name is unique among such groups.
    pub public: bool,
    /// The hash of the password that lets users join.
    pub password_hash: Option<String>,
    /// The creator and owner.
    pub owner: UserId,
    /// The other user of a direct chat.
    pub with: Option<UserId>,
    /// How the owner and the other user enter the chat.
    pub entry: Entry,
    /// The nsqd that shall carry it.
    pub node: String,
    /// The current time.
    pub created: Millis,
}

/// The result of [`super::Store::create_chat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The chat was created. The owner (and the other user of a direct chat, at once) are members with boundary 0.
    New(Chat),
    /// The chat existed: the same id, created by the same owner with the same kind, or the direct chat of this pair.
    Existing(Chat),
    /// Another public group has the name.
    NameTaken,
    /// The id belongs to another chat.
    Conflict,
    /// One of the users is in as many chats as allowed.
    LimitReached,
}

/// The right by which a user joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinBy {
    /// By themselves: a removed user is refused.
    Themselves,
    /// By the owner's invitation, which lifts an earlier removal.
    Invitation,
}

/// How a membership ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The user may join again.
    Left,
    /// Somebody else removed the user, who needs an invitation from now on.
    Removed,
}

/// The result of [`super::Store::add_member`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The user is a member now and receives everything above this boundary (the head at this moment).
    New(Seq),
    /// The user was a member already, with this boundary.
    Already(Seq),
    /// There is no such chat, or the user was removed and has no invitation.
    Refused,
    /// The chat has as many members, or the user as many chats, as allowed.
    LimitReached,
    /// The user has left, or was removed, since the given epoch: read the chat again.
    Stale,
}

/// A message to be appended.
#[derive(Debug, Clone)]
pub struct Append {
    /// The target chat.
    pub chat: ChatId,
    /// The sender, who must be a member.
    pub user: UserId,
    /// The message's idempotency key.
    pub key: MessageKey,
    /// A hash of the sender's content (without times), which distinguishes a retry from another message with the same
    /// key.
    pub fingerprint: u64,
    /// The time at the sender's edge.
    pub at: Millis,
    /// The frame, still without its seq.
    pub frame: FrameTemplate,
    /// Whether the logs have room for more of the sender. If not, the store only recognises messages that it accepted
    /// before.
    pub has_room: bool,
}

/// The result of [`super::Store::append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// The message is in the log and in the outbox; the doorbell was rung.
    New {
        /// The message's number.
        seq: Seq,
        /// The nsqd that carries the chat.
        node: String,
        /// The chat's epoch, which follows the frame.
        epoch: u64,
        /// Whether some member's queues aren't known to exist: the message stays in the outbox until they are.
        held: bool,
        /// How many devices have a queue of the chat: each receives a copy.
        queues: u64,
    },
    /// The key was used for the same content before; nothing changed.
    Again {
        /// The number that the first append assigned.
        seq: Seq,
        /// The time that the first append recorded.
        at: Millis,
    },
    /// The key was used for other content.
    KeyConflict,
    /// The sender isn't a member, or there is no such chat.
    NotMember,
    /// The sender has no room, or the log holds so much that wasn't trimmed yet that it accepts no more.
    Full,
}

/// The head of a chat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatHead {
    /// The head; 0 if the chat doesn't exist.
    pub head: Seq,
    /// The node that carries the chat; empty if the chat doesn't exist.
    pub node: String,
}

/// The approximate size of one outbox page, in bytes of messages: many pages are read at a time.
pub(super) const OUTBOX_PAGE_BYTES: usize = 256 << 10;

/// A reader of a chat's log who is a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The member.
    pub user: UserId,
    /// Where the member's (or their device's) subscription begins. It names the membership, whose boundary isn't above
    /// it.
    pub since: Seq,
}

/// A range of a chat's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The messages, ascending, without holes. Each body is a frame followed by the epoch
    /// (`domain::message::split_epoch`).
    pub messages: Vec<(Seq, Bytes)>,
    /// The lowest seq that the log still holds. If the requested range begins with a hole, the first seq behind the
    /// hole (head + 1 if the log holds none).
    pub floor: Seq,
    /// The chat's head.
    pub head: Seq,
}

/// What a session learns of one chat when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The chat.
    pub chat: Chat,
    /// The device's position.
    pub position: DevicePosition,
    /// The boundary of the user's membership: everything up to it counts as read.
    pub boundary: Seq,
    /// The chat's membership epoch, which rises whenever a member leaves or is removed. The user was a member at this
    /// epoch.
    pub epoch: u64,
    /// Whether the store came back with an older copy of its data since the chat's last message: its queues may hold what
    /// the store doesn't know.
    pub restored: bool,
}

/// A cursor move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMove {
    /// The device.
    pub device: DeviceId,
    /// The session that moves the cursor.
    pub session: u64,
    /// Where the session's subscription begins: names the membership that the session attached in.
    pub from: Seq,
    /// The new cursor.
    pub seq: Seq,
}

/// The result of a [`CursorMove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMoved {
    /// The cursor is here now (unchanged if it was further).
    At(Seq),
    /// Another session or a termination owns the device, or its user has left the chat since (and perhaps rejoined);
    /// nothing changed.
    Fenced,
}

/// A user's read offset in one chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOffset {
    /// The highest seq read.
    pub seq: Seq,
    /// The device that read it; none if the offset comes from joining, or from a user token.
    pub device: Option<DeviceId>,
}

/// The number of events in a window; see [`super::Store::count`].
pub type Count = u64;

/// An event: "read again". Events are hints only; see the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The read offsets of a watched user may have moved (in Redis: a keyspace notification).
    ReadsChanged(UserId),
    /// A watched chat has a message with this number.
    Doorbell(ChatId, Seq),
    /// Queues of the chat hold messages that were announced long before, those of these devices (none: of all): they may have
    /// them from the log.
    Queued(ChatId, Vec<DeviceId>),
    /// A member of a watched chat types. Dropped when many other events are waiting.
    Typing(ChatId, UserId),
    /// A device of a user whose presence is watched may have come online or gone offline.
    Presence(UserId),
    /// A [`super::Store::signal`] or [`super::Store::announce`] for a watched user.
    Signal(UserId, Bytes),
    /// Events may have been lost: read everything watched again.
    Resubscribed,
}

/// A margin for what is under way when a device expires.
const MARGIN: Duration = Duration::from_secs(20 * 24 * 3600);

/// Limits that scripts check. All are inclusive maxima.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Sub devices per user.
    pub subs_per_user: u32,
    /// Chats per user.
    pub chats_per_user: u32,
    /// Members per group.
    pub members_per_group: u32,
    /// Messages that a chat's log keeps although every subscribed device has them.
    pub log_keep: u64,
    /// The maximum number of messages in a chat's log.
    pub log_messages: u64,
    /// The maximum bytes of messages in a chat's log.
    pub log_bytes: u64,
    /// How long the log and the idempotency keys are kept; at least 24 hours.
    pub log_age: Duration,
    /// The maximum bytes of one chat in the queue of one device.
    pub queue_bytes: u64,
    /// The maximum bytes in all queues of a chat.
    pub chat_queue_bytes: u64,
    /// How long the tombstones of terminated devices and of deleted chats are kept.
    pub tombstones: Duration,
}

impl StoreLimits {
    /// Returns the limits for these settings. A tombstone is kept until every device that knew the deleted thing has
    /// been online since, or has itself expired because it was offline for so long.
    #[must_use]
    pub fn new(limits: &Limits, timing: &Timing) -> Self {
        Self {
            tombstones: timing.mains_expire.max(timing.subs_expire) + MARGIN,
            subs_per_user: limits.subs_per_user,
            chats_per_user: limits.chats_per_user,
            members_per_group: limits.members_per_group,
            log_keep: limits.log_keep,
            log_messages: limits.log_messages,
            log_bytes: limits.log_bytes,
            log_age: limits.log_age,
            queue_bytes: limits.queue_bytes,
            chat_queue_bytes: limits.chat_queue_bytes,
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
            queue_bytes: 64 << 20,
            chat_queue_bytes: 1 << 30,
            tombstones: Duration::from_secs(200 * 24 * 3600),
        }
    }
}
