//! The store: truth and order. Chat heads and logs, cursors, read offsets, membership, devices, leases, terminations.
//!
//! # The contract, in words
//!
//! Two variants keep it: [`redis::RedisStore`] for a deployment, [`embedded::EmbeddedStore`] for one process with
//! nothing installed. `store/contract` in the tests runs the same stories over both.
//!
//! - **Atomic.** Each method is one step: others see all of it or nothing, except where its doc names the steps.
//!   In Redis that is one script on one hash slot; everything of a chat shares a slot, everything of a user another.
//! - **Durable.** When a method that changes something returns `Ok`, a crash of this process no longer loses it (and of
//!   Redis neither, with `appendfsync always`). The embedded store lives as long as its process.
//! - **Idempotent.** Every change may be asked for again with the same arguments, and then changes nothing more.
//! - **Fenced.** What a session writes carries its session number, and is refused once a newer session or a
//!   termination owns the device.
//! - **Errors.** [`StoreError::Unavailable`]: surely nothing happened. [`StoreError::Unknown`]: it may have happened
//!   (a time-out); ask again, everything is idempotent. No method waits longer than its time-out (2 s by default).
//! - **Events are hints.** [`StoreEvent`]s say "read again"; they may be lost, doubled or late, and carry no truth.
//!   After any gap in what is heard there comes [`StoreEvent::Resubscribed`].

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::domain::{
    Millis, Seq,
    chat::{Chat, ChatKind, Member, Owed},
    device::{Device, DeviceKind, Lease},
    id::{ChatId, DeviceId, MessageKey, TerminationId, UserId},
    message::Unnumbered,
    termination::Termination,
};

pub mod embedded;
mod events;
pub mod redis;

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

fn too_large(bytes: usize) -> StoreError {
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

/// What [`Store::open_session`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The device is this session's.
    Session {
        /// The new fencing number.
        session: u64,
        /// Who held it until now; it must be told.
        previous: Option<Lease>,
        /// The device as it is now.
        device: Device,
    },
    /// It was terminated, or the token's generation is an older one.
    Terminated,
    /// No such device, or it isn't active yet.
    Unknown,
}

/// What [`Store::renew_session`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Still this session's.
    Held,
    /// A newer session owns the device.
    Replaced,
    /// The device was terminated.
    Terminated,
}

/// Whom [`Store::owner`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Whose device it is or was.
    pub user: UserId,
    /// Its termination, if it had one: the tombstone.
    pub terminated: Option<TerminationId>,
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

/// A stretch of a chat's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Ascending, without holes.
    pub messages: Vec<(Seq, Bytes)>,
    /// The lowest seq that the log still holds (head + 1 when it holds none).
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
}

/// One cursor to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMove {
    /// Whose.
    pub device: DeviceId,
    /// The session that says so.
    pub session: u64,
    /// Up to where.
    pub seq: Seq,
}

/// What became of a [`CursorMove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorMoved {
    /// The cursor stands here now (where it was, if that was further).
    At(Seq),
    /// Another session or a termination owns the device; nothing changed.
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
    /// Somebody called [`Store::signal`] for a watched user.
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
    /// Messages that a chat's log keeps.
    pub log_messages: u64,
    /// How long the log and the idempotency keys are kept; at least 24 hours.
    pub log_age: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            subs_per_user: 5,
            chats_per_user: 1_000,
            members_per_group: 500,
            log_messages: 10_000,
            log_age: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The store, one of two.
#[derive(Debug, Clone)]
pub enum Store {
    /// A Redis server.
    Redis(redis::RedisStore),
    /// This process's memory.
    Embedded(embedded::EmbeddedStore),
}

macro_rules! each {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self {
            Store::Redis(store) => store.$method($($arg),*).await,
            Store::Embedded(store) => store.$method($($arg),*).await,
        }
    };
}

// Devices and sessions
impl Store {
    /// Claims the id for the user (ids are global and never used again), then writes the device as `registering`.
    pub async fn register_device(&self, new: &NewDevice) -> Result<Registered> {
        each!(self.register_device(new))
    }

    /// `registering` -> `active`. False when it is being terminated or isn't there.
    pub async fn activate_device(&self, user: &UserId, device: DeviceId) -> Result<bool> {
        each!(self.activate_device(user, device))
    }

    /// One device; none when it isn't there (any more).
    pub async fn device(&self, user: &UserId, device: DeviceId) -> Result<Option<Device>> {
        each!(self.device(user, device))
    }

    /// All devices of a user, in any state, by creation.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        each!(self.devices(user))
    }

    /// Whose device an id is or was.
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        each!(self.owner(device))
    }

    /// Makes `edge` own an active device whose generation is `generation`, for `ttl` from now.
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        edge: &str,
        ttl: Duration,
    ) -> Result<Opened> {
        each!(self.open_session(user, device, generation, edge, ttl))
    }

    /// Holds the device for `ttl` from now, if `session` still owns it. Also moves `last_seen`.
    pub async fn renew_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        ttl: Duration,
    ) -> Result<Renewed> {
        each!(self.renew_session(user, device, session, ttl))
    }

    /// Gives the lease back, if it is still this session's; else changes nothing and says false. Works while terminating.
    pub async fn close_session(&self, user: &UserId, device: DeviceId, session: u64) -> Result<bool> {
        each!(self.close_session(user, device, session))
    }
}

// Terminations and leased work
impl Store {
    /// The durable fence: writes the record to the list of unfinished terminations, sets the tombstone, then the state
    /// `terminating` and the next generation (in this order: a crash between leaves work that can be done again).
    /// Answers the record that counts: the earlier one, if the device has one already. None: no such device of this user.
    pub async fn begin_termination(&self, new: &Termination) -> Result<Option<Termination>> {
        each!(self.begin_termination(new))
    }

    /// A termination by its id.
    pub async fn termination(&self, id: TerminationId) -> Result<Option<Termination>> {
        each!(self.termination(id))
    }

    /// Writes how far it got; a `done` one leaves the list of unfinished ones and is kept for 30 days.
    pub async fn save_termination(&self, termination: &Termination) -> Result<()> {
        each!(self.save_termination(termination))
    }

    /// All that aren't `done`.
    pub async fn unfinished_terminations(&self) -> Result<Vec<TerminationId>> {
        each!(self.unfinished_terminations())
    }

    /// Removes every key of the device but its tombstone: from its user, and from each of these chats.
    pub async fn forget_device(&self, user: &UserId, device: DeviceId, chats: &[ChatId]) -> Result<()> {
        each!(self.forget_device(user, device, chats))
    }

    /// Takes or renews the right of `holder` to do the work called `name`, for `ttl`. False: somebody else has it.
    pub async fn take_work(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        each!(self.take_work(name, holder, ttl))
    }

    /// Gives it back, if it is the holder's.
    pub async fn release_work(&self, name: &str, holder: &str) -> Result<()> {
        each!(self.release_work(name, holder))
    }

    /// Counts one more event called `name` in the present window and answers how many that makes. The window starts
    /// with its first event.
    pub async fn count(&self, name: &str, window: Duration) -> Result<Count> {
        each!(self.count(name, window))
    }
}

// Chats and membership
impl Store {
    /// Makes a chat. Indexes (each user's list of chats, names, pairs) are written before the chat itself, so that a
    /// crash leaves at most an index entry that points nowhere; readers skip those.
    pub async fn create_chat(&self, new: &NewChat) -> Result<Created> {
        each!(self.create_chat(new))
    }

    /// One chat.
    pub async fn chat(&self, chat: ChatId) -> Result<Option<Chat>> {
        each!(self.chat(chat))
    }

    /// A chat as one of its members sees it; none when the user isn't one.
    pub async fn chat_of_member(&self, chat: ChatId, user: &UserId) -> Result<Option<(Chat, Member)>> {
        each!(self.chat_of_member(chat, user))
    }

    /// All members, by name.
    pub async fn members(&self, chat: ChatId) -> Result<Vec<Member>> {
        each!(self.members(chat))
    }

    /// The chats that the user is (by its index: or was) in. Ascending by id.
    pub async fn chats_of(&self, user: &UserId) -> Result<Vec<ChatId>> {
        each!(self.chats_of(user))
    }

    /// The groups that can be joined by this name: the public one first, then those with a password (at most 16).
    pub async fn chats_named(&self, name: &str) -> Result<Vec<ChatId>> {
        each!(self.chats_named(name))
    }

    /// Writes the membership: first the user's index, then the chat; then read = max(read, boundary).
    pub async fn add_member(&self, chat: ChatId, user: &UserId, by: JoinBy) -> Result<Joined> {
        each!(self.add_member(chat, user, by))
    }

    /// Ends the membership; `ban`: until invited. Answers how many members stay; none when the user wasn't one.
    pub async fn remove_member(&self, chat: ChatId, user: &UserId, ban: bool) -> Result<Option<u64>> {
        each!(self.remove_member(chat, user, ban))
    }

    /// Removes everything of a chat that has no members; with members it changes nothing and says false.
    pub async fn delete_chat(&self, chat: ChatId) -> Result<bool> {
        each!(self.delete_chat(chat))
    }
}

// Messages
impl Store {
    /// One step: member? -> key seen? -> seq = head + 1 -> log -> key -> outbox -> doorbell. `Ok` means durable.
    pub async fn append(&self, append: &Append) -> Result<Appended> {
        each!(self.append(append))
    }

    /// From `from` (inclusive) at most `count` messages and about `bytes` bytes (at least one message).
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        each!(self.log(chat, from, count, bytes))
    }

    /// The heads of these chats, in their order; 0 for one that isn't there.
    pub async fn heads(&self, chats: &[ChatId]) -> Result<Vec<Seq>> {
        each!(self.heads(chats))
    }

    /// The lowest `count` messages that NSQ hasn't confirmed, with the chat's node.
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<(String, Vec<(Seq, Bytes)>)> {
        each!(self.outbox(chat, count))
    }

    /// NSQ confirmed these.
    pub async fn published(&self, chat: ChatId, seqs: &[Seq]) -> Result<()> {
        each!(self.published(chat, seqs))
    }

    /// Notes durably that this edge appends to this chat, so that another edge finds its outbox should this one die.
    /// Called once per edge and chat, before the first append.
    pub async fn note_sender(&self, edge: &str, chat: ChatId) -> Result<()> {
        each!(self.note_sender(edge, chat))
    }

    /// The chats noted for an edge.
    pub async fn noted_chats(&self, edge: &str) -> Result<Vec<ChatId>> {
        each!(self.noted_chats(edge))
    }

    /// Forgets one note, once the chat's outbox is empty and the edge doesn't send there.
    pub async fn forget_note(&self, edge: &str, chat: ChatId) -> Result<()> {
        each!(self.forget_note(edge, chat))
    }

    /// Says that this edge lives, and answers the edges that have notes but haven't said so for `dead_after`.
    pub async fn edge_alive(&self, edge: &str, dead_after: Duration) -> Result<Vec<String>> {
        each!(self.edge_alive(edge, dead_after))
    }

    /// Takes an edge without notes off the list.
    pub async fn forget_edge(&self, edge: &str) -> Result<()> {
        each!(self.forget_edge(edge))
    }
}

// What a device is owed, and read offsets
impl Store {
    /// Fixes what a device is owed: `from` = `cursor` = the head now, unless it was fixed before. None: not a member.
    pub async fn owe(&self, chat: ChatId, user: &UserId, device: DeviceId) -> Result<Option<Owed>> {
        each!(self.owe(chat, user, device))
    }

    /// What a device is owed; none when nothing was fixed.
    pub async fn owed(&self, chat: ChatId, device: DeviceId) -> Result<Option<Owed>> {
        each!(self.owed(chat, device))
    }

    /// Attaches a session to chats: raises the fence of the device in each to `session`, and answers, in the order
    /// given, what it must know; none for a chat that the user isn't a member of, or where nothing is owed, or where a
    /// newer session was first.
    pub async fn attach(
        &self,
        chats: &[ChatId],
        user: &UserId,
        device: DeviceId,
        session: u64,
    ) -> Result<Vec<Option<Attached>>> {
        each!(self.attach(chats, user, device, session))
    }

    /// Moves cursors of one chat, forward only, never above the head; in the order given.
    pub async fn move_cursors(&self, chat: ChatId, moves: &[CursorMove]) -> Result<Vec<CursorMoved>> {
        each!(self.move_cursors(chat, moves))
    }

    /// Takes a device out of a chat: nothing is owed any more.
    pub async fn disown(&self, chat: ChatId, device: DeviceId) -> Result<()> {
        each!(self.disown(chat, device))
    }

    /// Moves the user's read offset forward to `seq` (which the caller has checked against the head), never back.
    /// Answers where it stands.
    pub async fn move_read(
        &self,
        user: &UserId,
        chat: ChatId,
        seq: Seq,
        device: Option<DeviceId>,
    ) -> Result<Seq> {
        each!(self.move_read(user, chat, seq, device))
    }

    /// All read offsets of a user.
    pub async fn reads(&self, user: &UserId) -> Result<HashMap<ChatId, ReadOffset>> {
        each!(self.reads(user))
    }
}

// Events
impl Store {
    /// The events of everything watched through this store. The first call has the receiver; later ones none. Bounded:
    /// what doesn't fit is dropped and told as [`StoreEvent::Resubscribed`].
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        match self {
            Store::Redis(store) => store.take_events(),
            Store::Embedded(store) => store.take_events(),
        }
    }

    /// From when this returns, read offsets and signals of the user are heard.
    pub async fn watch_user(&self, user: &UserId) -> Result<()> {
        each!(self.watch_user(user))
    }

    /// No longer.
    pub async fn unwatch_user(&self, user: &UserId) -> Result<()> {
        each!(self.unwatch_user(user))
    }

    /// From when this returns, doorbells of these chats are heard.
    pub async fn watch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.watch_chats(chats))
    }

    /// No longer.
    pub async fn unwatch_chats(&self, chats: &[ChatId]) -> Result<()> {
        each!(self.unwatch_chats(chats))
    }

    /// Sends bytes to every edge (this one too) that watches the user. At most once; at most 1 MiB.
    pub async fn signal(&self, user: &UserId, payload: Bytes) -> Result<()> {
        each!(self.signal(user, payload))
    }

    /// How often notifications were found not to flow. Only Redis has them.
    #[must_use]
    pub fn notifications_missed(&self) -> u64 {
        match self {
            Store::Redis(store) => store.notifications_missed(),
            Store::Embedded(_) => 0,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<()> {
        each!(self.ping())
    }
}
