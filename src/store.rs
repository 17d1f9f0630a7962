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
//! - **Late.** A change may be executed, even a second time, up to 30 s after its caller gave up and others went on; it then
//!   undoes nothing of what they did. So it names what it was meant for: a session, a token, a membership's version, an epoch.
//! - **Fenced.** What a session writes carries its session number, and is refused once a newer session or a
//!   termination owns the device.
//! - **Errors.** [`StoreError::Unavailable`]: surely nothing happened. [`StoreError::Unknown`]: it may have happened
//!   (a time-out); ask again, everything is idempotent. No method waits longer than its time-out (2 s by default).
//! - **Events are hints.** [`StoreEvent`]s say "read again"; they may be lost, doubled or late, and carry no truth.
//!   After any gap in what is heard there comes [`StoreEvent::Resubscribed`].

use std::{collections::HashMap, time::Duration};

use crate::domain::{
    Millis, Seq,
    chat::{Chat, Member, Owed},
    device::{Device, DeviceState},
    id::{ChatId, DeviceId, TerminationId, UserId},
    termination::Termination,
};

mod bounds;
pub mod embedded;
mod events;
#[cfg(feature = "simulation")]
pub mod faulty;
mod outbox;
pub mod redis;
mod types;

pub use bounds::UNBORN;
pub use outbox::*;
pub use types::*;

/// The store, one of two.
#[derive(Debug, Clone)]
pub enum Store {
    /// A Redis server.
    Redis(redis::RedisStore),
    /// This process's memory.
    Embedded(embedded::EmbeddedStore),
    /// The same behind a link that fails.
    #[cfg(feature = "simulation")]
    Faulty(faulty::FaultyStore),
}

macro_rules! each {
    ($self:ident.$method:ident($($arg:ident),*)) => {
        match $self {
            Store::Redis(store) => store.$method($($arg),*).await,
            Store::Embedded(store) => store.$method($($arg),*).await,
            #[cfg(feature = "simulation")]
            Store::Faulty(store) => match store.late(stringify!($method)) {
                None => store.call(stringify!($method), store.inner.$method($($arg),*)).await,
                Some(late) => {
                    let inner = store.inner.clone();
                    $(let $arg = $crate::store::faulty::late::Keep::keep(&$arg);)*
                    let again = move || {
                        let inner = inner.clone();
                        $(let $arg = $arg.clone();)*
                        async move { inner.$method($($crate::store::faulty::late::Lend::lend(&$arg)),*).await.map(drop) }
                    };
                    store.call_late(stringify!($method), late, again).await
                }
            },
        }
    };
}

// Behind the macro, because they use it.
mod console;
mod edges;
mod hearing;
mod links;

pub use console::*;
pub use edges::*;

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

    /// The same, and when that was, by the store's clock.
    pub async fn device_at(&self, user: &UserId, device: DeviceId) -> Result<Option<(Device, Millis)>> {
        each!(self.device_at(user, device))
    }

    /// All devices of a user, in any state, by creation.
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>> {
        each!(self.devices(user))
    }

    /// Whose device an id is or was.
    pub async fn owner(&self, device: DeviceId) -> Result<Option<Owner>> {
        each!(self.owner(device))
    }

    /// Notes the session for the edge, and makes `edge` own an active device whose generation is `generation`, for `ttl` from
    /// now (in this order: whatever becomes of the call, its lease is found); unless another session was opened since the caller read which is the newest (`after`): so a call that comes late,
    /// or twice, takes the device from nobody.
    pub async fn open_session(
        &self,
        user: &UserId,
        device: DeviceId,
        generation: u32,
        after: Read,
        edge: &str,
        ttl: Duration,
    ) -> Result<Opened> {
        each!(self.open_session(user, device, generation, after, edge, ttl))
    }

    /// Says that a session serves its device from now on, and holds the device for `ttl`. Only such a one replaces older ones.
    pub async fn confirm_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        each!(self.confirm_session(user, device, session, edge, ttl))
    }

    /// Holds the device for `ttl` from now, if `session` is the newest. Also moves `last_seen`. A lease that was given back
    /// meanwhile is taken again, and the session noted for its edge again.
    pub async fn renew_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
        ttl: Duration,
    ) -> Result<Renewed> {
        each!(self.renew_session(user, device, session, edge, ttl))
    }

    /// Gives the lease back and uses up the number, if it is the newest; else changes nothing. True: there was a lease. Works
    /// while terminating.
    pub async fn close_session(
        &self,
        user: &UserId,
        device: DeviceId,
        session: u64,
        edge: &str,
    ) -> Result<bool> {
        each!(self.close_session(user, device, session, edge))
    }

    /// The sessions that were opened for an edge and not closed, or that are to be opened.
    pub async fn noted_sessions(&self, edge: &str) -> Result<Vec<NotedSession>> {
        each!(self.noted_sessions(edge))
    }

    /// Gives back the lease of an edge's session if it has run out, once; and forgets the note when it is over, unless the
    /// edge has said within `silence` that it lives: it may have taken the lease again. The note of one that may still get a
    /// lease ([`Lapsed::Coming`]) stays, for the caller to forget when that can't be any more.
    pub async fn lapse_session(
        &self,
        edge: &str,
        session: &NotedSession,
        silence: Duration,
    ) -> Result<Lapsed> {
        each!(self.lapse_session(edge, session, silence))
    }

    /// Forgets the note of a session that can't get a lease any more, unless the edge has said within `silence` that it lives.
    pub async fn forget_session(&self, edge: &str, session: &NotedSession, silence: Duration) -> Result<()> {
        each!(self.forget_session(edge, session, silence))
    }
}

// Devices that nobody sees
impl Store {
    /// Some of the devices whose time to be looked at has come, those that wait longest first, and what time it is. A device
    /// is due at once when it is registered, and then when it was put off to.
    pub async fn due_devices(&self, count: usize) -> Result<(Millis, Vec<(UserId, DeviceId)>)> {
        each!(self.due_devices(count))
    }

    /// Looks again `until` then; none: never.
    pub async fn put_off(&self, user: &UserId, device: DeviceId, until: Option<Millis>) -> Result<()> {
        each!(self.put_off(user, device, until))
    }

    /// Notes that an active device expires at `at`, unless that is noted already, or it was seen since it was read. True: now.
    pub async fn warn_device(&self, device: &Device, at: Millis) -> Result<bool> {
        each!(self.warn_device(device, at))
    }

    /// Fences a device (`terminating`, the next generation) that still is as it was read: in that state, offline, not seen
    /// since; and not within `notice` after it was warned of (or written, while it registers), by a clock that nobody sets.
    /// False: it isn't so, and nothing changed.
    pub async fn expire_device(&self, device: &Device, notice: Duration) -> Result<bool> {
        each!(self.expire_device(device, notice))
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

    /// Writes how far it got, and only forward: neither over one that is further, nor over one that has removed more. A `done`
    /// one leaves the list of unfinished ones and is kept for 30 days.
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

    /// Whether there was a chat with this id.
    pub async fn was_deleted(&self, chat: ChatId) -> Result<bool> {
        each!(self.was_deleted(chat))
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

    /// Writes the membership: first the user's index, then the chat; then read = max(read, boundary). `epoch` is the chat's as
    /// the caller read it: who has left since isn't brought back by a call that is late.
    pub async fn add_member(&self, chat: ChatId, user: &UserId, by: JoinBy, epoch: u64) -> Result<Joined> {
        each!(self.add_member(chat, user, by, epoch))
    }

    /// Ends this membership, as the caller read it, and no later one; `ban`: until invited. The chat's epoch rises; what the
    /// user has read of it is forgotten. An owner who goes hands the chat on to who has been in it longest. Answers how many
    /// members stay; none when there is no such membership (any more).
    pub async fn remove_member(&self, chat: ChatId, member: &Member, ban: bool) -> Result<Option<u64>> {
        each!(self.remove_member(chat, member, ban))
    }

    /// Gives a chat to another node of the broker, if it is still at `from`. True: it is at `to` now.
    pub async fn move_chat(&self, chat: ChatId, from: &str, to: &str) -> Result<bool> {
        each!(self.move_chat(chat, from, to))
    }

    /// Takes an id off the index of all chats that has been there for a minute without a chat: for another minute none comes to
    /// be with it (`create_chat` is [`StoreError::Unavailable`]). False: there is a chat.
    pub async fn unlist_unborn(&self, chat: ChatId) -> Result<bool> {
        each!(self.unlist_unborn(chat))
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

    /// Lets go of what the log keeps no longer (see [`StoreLimits`]): what is too much or too old, and what every device has but
    /// for the newest. To be called with about every 64th message, and once in a while: sizes and ages are known in steps
    /// of these calls. What the broker hasn't confirmed stays longer, up to four times as much.
    pub async fn trim(&self, chat: ChatId) -> Result<()> {
        each!(self.trim(chat))
    }

    /// From `from` (inclusive), or the next that is there, at most `count` messages and about `bytes` bytes (at least one
    /// message), up to the first hole. For the server's own use: what goes to a member is read by
    /// [`Store::log_of_member`].
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        each!(self.log(chat, from, count, bytes))
    }

    /// The same for a member, in one step with the look whether they are one; none: they aren't, or only since later. So
    /// nothing leaves this way that was appended after somebody had left.
    pub async fn log_of_member(
        &self,
        chat: ChatId,
        reader: &Reader,
        from: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        each!(self.log_of_member(chat, reader, from, count, bytes))
    }

    /// Raises the head to `seen`, a number that was given once, and answers where it stands; 0: there is no such chat. Only a
    /// Redis that came back with an older copy of its data has heads below what was seen. What is skipped is a hole in the log.
    pub async fn raise_head(&self, chat: ChatId, seen: Seq) -> Result<Seq> {
        each!(self.raise_head(chat, seen))
    }

    /// The heads of these chats and who carries each, in their order.
    pub async fn tips(&self, chats: &[ChatId]) -> Result<Vec<Tip>> {
        each!(self.tips(chats))
    }

    /// Members whose queues aren't known to be there, each with the version of the membership. A membership begins so, in the
    /// step that writes it, and stays so until [`Store::arrived`] or its end.
    pub async fn arriving(&self, chat: ChatId) -> Result<Vec<(UserId, u64)>> {
        each!(self.arriving(chat))
    }

    /// All queues of this membership are there. Of another version: nothing happens.
    pub async fn arrived(&self, chat: ChatId, user: &UserId, version: u64) -> Result<()> {
        each!(self.arrived(chat, user, version))
    }

    /// The lowest `count` messages that NSQ hasn't confirmed (fewer when they are large, but one at least), with the chat's
    /// node.
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<OutboxPage> {
        each!(self.outbox(chat, count))
    }

    /// How much is in the outboxes of these chats, in their order.
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<OutboxSize>> {
        each!(self.outbox_sizes(chats))
    }

    /// NSQ confirmed these.
    pub async fn published(&self, chat: ChatId, seqs: &[Seq]) -> Result<()> {
        each!(self.published(chat, seqs))
    }
}

// What a device is owed, and read offsets
impl Store {
    /// Fixes what a device is owed, unless it was fixed before in this membership: `from` = `cursor` = `since`, not below the
    /// boundary. None: not a member.
    pub async fn owe(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: OwedSince,
    ) -> Result<Option<Owed>> {
        each!(self.owe(chat, user, device, since))
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

    /// All chats and what is owed in them, page by page, the first with 0. A chat that is there all the time is on one of
    /// the pages. Two steps (which chats, then what of each), each with a time-out of its own.
    pub async fn owing(&self, page: u64) -> Result<OwingPage> {
        each!(self.owing(page))
    }

    /// Takes a device out of a chat: nothing is owed any more. False: its user is in the chat, and nothing changed. (A device
    /// that was ended is forgotten by [`Store::forget_device`]; `user` is none for one of which this store knows no user.)
    pub async fn disown(&self, chat: ChatId, user: Option<&UserId>, device: DeviceId) -> Result<bool> {
        each!(self.disown(chat, user, device))
    }

    /// The devices of each of these users and their states, in their order.
    pub async fn device_states(&self, users: &[UserId]) -> Result<Vec<Vec<(DeviceId, DeviceState)>>> {
        each!(self.device_states(users))
    }

    /// Moves the user's read offset forward to `seq` (which the caller has checked against the head), never back, and only
    /// in a chat that is on their list. Answers where it stands.
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

    /// A user's read offsets in these chats; it costs what is asked for, however many others there are.
    pub async fn reads_in(&self, user: &UserId, chats: &[ChatId]) -> Result<HashMap<ChatId, ReadOffset>> {
        each!(self.reads_in(user, chats))
    }
}
