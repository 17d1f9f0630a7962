//! What a session is told, and how: its mailbox, the order to end, and until when it may act.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::lock;
use crate::{
    domain::{
        Millis, Seq,
        id::{ChatId, DeviceId, UserId},
    },
    protocol::{ChatEvent, CloseCode, DeviceEvent, ErrorCode, Presence},
    store::{CursorMoved, ReadOffset},
};

/// What a session is told by others. Everything here can be read again or asked for again, so that a session whose
/// mailbox is full may lose it: it is closed as a slow consumer then.
#[derive(Debug, Clone)]
pub enum Command {
    /// The user's read offset in a chat moved.
    Read(ChatId, ReadOffset),
    /// Something happened to a device of the user.
    Device(DeviceEvent, DeviceId, Millis),
    /// The user may have come into this chat, or gone: look, and attach or detach.
    Membership(ChatId),
    /// Somebody else came or went.
    Member(ChatEvent, ChatId, UserId),
    /// The chat has messages up to this seq, and the queue hasn't brought them in time: look into the log.
    Tail(ChatId, Seq),
    /// The chat is carried by another node of the broker now: take it from there.
    Placed(ChatId, Arc<str>),
    /// A cursor that the session handed in stands here now; none: the store failed, and it is asked again.
    Moved(ChatId, Option<CursorMoved>),
    /// To a main: a sub asks for a page.
    HistoryAsk(Arc<HistoryAsk>),
    /// To a sub: the answer.
    HistoryAnswer(Arc<HistoryAnswer>),
    /// Somebody else in the chat types.
    Typing(ChatId, UserId),
    /// A watched user came online or went; and in which round of watching that is.
    Presence(u64, Arc<Presence>),
    /// To a main: a page asks to be linked.
    LinkRequest(Arc<LinkRequest>),
}

/// A sub's question to the main, on its way between sessions.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct HistoryAsk {
    /// The main.
    pub to: DeviceId,
    /// The sub.
    pub device: DeviceId,
    /// Names the question; unique.
    pub request: String,
    /// Which chat.
    pub chat: ChatId,
    /// Messages below this …
    pub before: Seq,
    /// … at most so many …
    pub limit: u64,
    /// … and only those above this: what is at or below it isn't for this sub.
    #[serde(default)]
    pub floor: Seq,
}

/// The main's answer on its way back.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct HistoryAnswer {
    /// The sub.
    pub to: DeviceId,
    /// Which question.
    pub request: String,
    /// The JSON text of `ok`, or why there is none.
    pub result: Result<String, ErrorCode>,
}

/// A page that asks to become a sub, as the main sees it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct LinkRequest {
    /// To be approved or refused by this.
    pub code: String,
    /// What the new device is to be called.
    pub name: String,
    /// What it runs on.
    pub platform: String,
}

/// The order to end a session. It can't be refused or overlooked, whatever else the session is busy with; the first
/// one counts.
#[derive(Debug, Default)]
pub struct Doom {
    code: Mutex<Option<CloseCode>>,
    told: Notify,
}

impl Doom {
    /// Ends the session with this code.
    pub fn seal(&self, code: CloseCode) {
        let mut sealed = lock(&self.code);
        if sealed.is_none() {
            *sealed = Some(code);
            drop(sealed);
            self.told.notify_one();
        }
    }

    /// The code, once there is one.
    pub fn code(&self) -> Option<CloseCode> {
        *lock(&self.code)
    }

    /// Waits for the code.
    pub async fn sealed(&self) -> CloseCode {
        loop {
            let told = self.told.notified();
            if let Some(code) = self.code() {
                return code;
            }
            told.await;
        }
    }
}

/// Until when a session may act for its device, by this machine's monotonic clock: a frozen edge must not go on when
/// it wakes, because somebody else may own the device by then.
#[derive(Debug)]
pub struct LeaseClock {
    started: Instant,
    until_ms: AtomicU64,
}

impl LeaseClock {
    /// Runs from now.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        let clock = Self { started: Instant::now(), until_ms: AtomicU64::new(0) };
        clock.renewed(clock.started, ttl);
        clock
    }

    /// Runs from when the lease was *asked for*: the store's began no earlier, and may have begun long before its answer.
    #[must_use]
    pub fn since(asked: Instant, ttl: Duration) -> Self {
        let started = if planted!(LeaseFromAnswer) { Instant::now() } else { asked };
        let clock = Self { started, until_ms: AtomicU64::new(0) };
        clock.renewed(started, ttl);
        clock
    }

    /// A renewal that was *asked for* at `asked` succeeded.
    pub fn renewed(&self, asked: Instant, ttl: Duration) {
        let until = asked.saturating_duration_since(self.started) + ttl;
        self.until_ms.fetch_max(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether it has run out.
    #[must_use]
    pub fn expired(&self) -> bool {
        let now = self.started.elapsed().as_millis();
        !planted!(NoLeaseCheck) && now > u128::from(self.until_ms.load(Ordering::Relaxed))
    }
}

/// What a session is told by, and how it is ended.
#[derive(Debug, Clone)]
pub struct Mailbox {
    // Boxed: a channel keeps room for 32 of them, for each idle device.
    commands: mpsc::Sender<Box<Command>>,
    /// Its end.
    pub doom: Arc<Doom>,
}

impl Mailbox {
    /// A mailbox with room for so many commands, and where they come out.
    #[must_use]
    pub fn new(room: usize) -> (Self, mpsc::Receiver<Box<Command>>) {
        let (commands, out) = mpsc::channel(room);
        (Self { commands, doom: Arc::default() }, out)
    }

    /// Puts a command in that can wait or be lost: only while at least half of the room is free. False: it wasn't put in.
    pub fn offer(&self, command: Command) -> bool {
        self.commands.capacity() > self.commands.max_capacity() / 2
            && self.commands.try_send(Box::new(command)).is_ok()
    }

    /// Puts a command in; a session that doesn't empty its mailbox is closed.
    pub fn tell(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.commands.try_send(Box::new(command)) {
            self.doom.seal(CloseCode::SlowConsumer);
        }
    }
}
