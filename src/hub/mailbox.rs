//! A session's commands, its close signal, and the clock of its lease.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::lock;
use crate::{
    domain::{
        Millis, Seq,
        chat::ChatKind,
        id::{ChatId, DeviceId, UserId},
    },
    protocol::{ChatEvent, CloseCode, DeviceEvent, ErrorCode, Presence},
    store::{CursorMoved, ReadOffset},
};

/// A command to a session. News of a chat is state, so a newer command replaces a waiting one; of the rest only a
/// bounded number may wait (see [`super::Mailbox`]). The session can read or request everything again.
#[derive(Debug, Clone)]
pub enum Command {
    /// The user's read offset in a chat moved.
    Read(ChatId, ReadOffset),
    /// An event of a device of the user.
    Device(DeviceEvent, DeviceId, Millis),
    /// The user may have joined or left these chats: check, and attach or detach.
    Membership(Vec<ChatId>),
    /// The same, from a comparison, which may have been made before the session last checked.
    CheckMemberships(Vec<ChatId>),
    /// Another user joined or left.
    Member(ChatEvent, ChatId, UserId),
    /// The chat has messages up to this seq, and the session doesn't consume its queue: attach.
    Doorbell(ChatId, Seq),
    /// The chat has messages up to this seq, and the queue hasn't delivered them in time: read the log.
    Tail(ChatId, Seq),
    /// Another node of the broker carries the chat now: receive it from there.
    ChatRelocated(ChatId, Arc<str>),
    /// A cursor that the session submitted is here now; none: the store failed, and the move is retried.
    CursorPersisted(ChatId, Option<CursorMoved>),
    /// To a main: a sub requests a page.
    HistoryAsk(Arc<HistoryAsk>),
    /// To a sub: the answer.
    HistoryAnswer(Arc<HistoryAnswer>),
    /// Another user in the chat types.
    Typing(ChatId, UserId),
    /// A watched user came online or went offline, with the round of watching to which this belongs.
    Presence(u64, Arc<Presence>),
    /// To a main: a page asks to be linked.
    LinkRequest(Arc<LinkRequest>),
    /// An invitation of the user is open, or no longer.
    Invitation(Arc<InvitationNews>),
    /// This other user must not be visible to the session's user, nor the other way round.
    Apart(UserId),
}

/// A sub's history request to the main, on its way between sessions.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct HistoryAsk {
    /// The main.
    pub to: DeviceId,
    /// The sub.
    pub device: DeviceId,
    /// The request's unique id.
    pub request: String,
    /// The chat.
    pub chat: ChatId,
    /// Messages below this seq.
    pub before: Seq,
    /// The maximum number of messages.
    pub limit: u64,
    /// Only messages above this seq: what is at or below it isn't for this sub.
    #[serde(default)]
    pub floor: Seq,
}

/// The main's answer on its way back.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct HistoryAnswer {
    /// The sub.
    pub to: DeviceId,
    /// The request's id.
    pub request: String,
    /// The JSON text of `ok`, or why there is none.
    pub result: Result<String, ErrorCode>,
}

/// A page that asks to become a sub, as the main sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LinkRequest {
    /// The code by which the main approves or refuses it.
    pub code: String,
    /// The name of the new device.
    pub name: String,
    /// The platform of the new device.
    pub platform: String,
}

/// News of an invitation, for the invited user's devices.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum InvitationNews {
    /// The invitation awaits an answer.
    Pending {
        /// The chat.
        chat: ChatId,
        /// Direct or group.
        kind: ChatKind,
        /// A group's name.
        name: Option<String>,
        /// The user who invites.
        by: UserId,
        /// When the invitation began.
        at: Millis,
    },
    /// The invitation into this chat is over.
    Over(ChatId),
}

/// Ends a session with a close code. It bypasses the bounded mailbox, so a busy session can't miss it. The first code
/// wins.
#[derive(Debug, Default)]
pub struct CloseSignal {
    code: Mutex<Option<CloseCode>>,
    changed: Notify,
}

impl CloseSignal {
    /// Sets the code, if none is set yet.
    pub fn close(&self, code: CloseCode) {
        let mut closed = lock(&self.code);
        if closed.is_none() {
            *closed = Some(code);
            drop(closed);
            self.changed.notify_one();
        }
    }

    /// Returns the code, if one is set.
    pub fn code(&self) -> Option<CloseCode> {
        *lock(&self.code)
    }

    /// Waits until a code is set, and returns it.
    pub async fn closed(&self) -> CloseCode {
        loop {
            let changed = self.changed.notified();
            if let Some(code) = self.code() {
                return code;
            }
            changed.await;
        }
    }
}

/// The time until which a lease is held, by this machine's monotonic clock: a frozen edge must not go on when it wakes,
/// because another may own its devices by then.
#[derive(Debug)]
pub struct LeaseClock {
    started: Instant,
    until_ms: AtomicU64,
}

impl LeaseClock {
    /// Returns a clock that runs from now.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let clock = Self { started: Instant::now(), until_ms: AtomicU64::new(0) };
        clock.renewed(clock.started, ttl);
        clock
    }

    /// Returns a clock that runs from when the lease was *requested*: the store's lease began no earlier, and may have
    /// begun long before its response.
    #[must_use]
    pub fn since(asked: Instant, ttl: Duration) -> Self {
        let clock = Self { started: asked, until_ms: AtomicU64::new(0) };
        clock.renewed(asked, ttl);
        clock
    }

    /// Records that a renewal *requested* at `asked` succeeded.
    pub fn renewed(&self, asked: Instant, ttl: Duration) {
        let until = asked.saturating_duration_since(self.started) + ttl;
        self.until_ms.fetch_max(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns when the time runs out.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.started + Duration::from_millis(self.until_ms.load(Ordering::Relaxed))
    }

    /// Returns whether the time has run out.
    #[must_use]
    pub fn expired(&self) -> bool {
        let now = self.started.elapsed().as_millis();
        now > u128::from(self.until_ms.load(Ordering::Relaxed))
    }
}
