//! A device of the demo: a [`Client`] of the SDK, what it knows, and every departure from the contract that it sees.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use keepstep_client::{
    Builder, ChatId, Client, Close, Credential, DeviceId, Dial, Draft, Error, Event, Events, Message,
    MessageKey, Page, Reconnect,
    frame::{ClientFrame, Welcome},
};
use tokio::{
    sync::Notify,
    time::{timeout, timeout_at},
};

use super::{PATIENCE, cast::Role, memory::Memory, stage::Edge};
use crate::cli::Failure;

/// 1006: it ended without a close frame.
const ABNORMAL: u16 = 1006;

/// How a try to connect ended.
#[derive(Debug, Clone)]
pub enum Opened {
    /// Let in.
    In(Box<Welcome>),
    /// Closed at once.
    Refused(Close),
}

/// How a device goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It closes its socket.
    Goodbye,
    /// Its network is gone.
    Cut,
}

/// When each message was sent, by its key: all devices of the demo are in this process, so one clock serves them all.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<HashMap<MessageKey, Instant>>>);

impl Clock {
    /// Notes that a message goes out now.
    pub fn note(&self, key: MessageKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Instant::now());
    }

    fn sent(&self, message: &Message) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&message.key).copied()
    }
}

/// What the device and the task of its line share.
#[derive(Debug, Default)]
struct Shared {
    memory: Mutex<Memory>,
    changed: Notify,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it and tells whoever waits.
    fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        let result = change(&mut self.memory());
        self.changed.notify_waiters();
        result
    }
}

/// One device.
#[derive(Debug)]
pub struct Device {
    /// Which of the story's.
    pub role: Role,
    /// Its id.
    pub id: DeviceId,
    /// Its token.
    pub token: String,
    shared: Arc<Shared>,
    line: Option<Client>,
    number: u64,
    clock: Clock,
}

impl Device {
    /// One that is registered.
    #[must_use]
    pub fn new(role: Role, id: DeviceId, token: String, clock: Clock) -> Self {
        Self { role, id, token, shared: Arc::default(), line: None, number: 0, clock }
    }

    /// What it knows now.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory()
    }

    /// Whether it has an open line.
    #[must_use]
    pub fn online(&self) -> bool {
        self.line.is_some() && !self.memory().closed(self.number)
    }

    /// The number of its newest line, for [`Memory::close_of`].
    #[must_use]
    pub fn line(&self) -> u64 {
        self.number
    }

    /// Opens a socket. An open one stays as it is: that is for the server to end.
    ///
    /// # Errors
    /// When the server says nothing.
    pub async fn connect(&mut self, edge: &Edge) -> Result<Opened, Failure> {
        // A phone sends its token as a header; a browser has only the subprotocols to put it into.
        let credential = if self.role.is_main() { Credential::Header } else { Credential::Subprotocol };
        let dial = Dial::new(edge.base.as_str()).map_err(Failure::run)?.credential(credential);
        let (client, events) = Builder::new(dial, &self.token).reconnect(Reconnect::Never).start();
        self.number += 1;
        let number = self.number;
        self.shared.change(|memory| memory.open(number));
        tokio::spawn(listen(client.clone(), events, self.shared.clone(), number, self.clock.clone()));
        self.line = Some(client);
        self.until("the first frame", |memory| match memory.close_of(number) {
            Some(close) => Some(Opened::Refused(close)),
            None => memory.welcome(number).map(Opened::In),
        })
        .await
    }

    /// Ends the line: with a goodbye, or as a lost network does. Its end has come when this returns.
    ///
    /// # Errors
    /// When it doesn't end.
    pub async fn leave(&mut self, departure: Departure) -> Result<(), Failure> {
        let Some(line) = self.line.take() else { return Ok(()) };
        match departure {
            Departure::Goodbye => line.close().await,
            Departure::Cut => line.cut().await,
        }
        let number = self.number;
        self.until("its own socket to close", |memory| memory.closed(number).then_some(())).await
    }

    /// Asks something of the open line.
    async fn ask<T>(
        &self,
        what: &str,
        ask: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let name = self.role.name();
        let line = self
            .line
            .as_ref()
            .ok_or_else(|| Failure::run(format!("{name} has no open line for `{what}`")))?;
        match timeout(PATIENCE, ask(line)).await {
            Ok(answer) => {
                answer.map_err(|error| Failure::run(format!("{name}: `{what}` was refused: {error}")))
            }
            Err(_) => Err(self.in_vain(&format!("the reply to `{what}`"))),
        }
    }

    /// Sends a message; its seq.
    ///
    /// # Errors
    /// A refusal, no answer, or a line that isn't open.
    pub async fn send(&self, chat: ChatId, draft: Draft) -> Result<u64, Failure> {
        let key = MessageKey::new_v4();
        self.clock.note(key);
        Ok(self.ask("send", async |line| line.send_as(key, chat, draft).await).await?.seq)
    }

    /// Says that it has its past; the server knows when this returns.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub async fn ready(&self) -> Result<(), Failure> {
        let frame = |id| ClientFrame::Ready { id: Some(id) };
        self.ask("ready", async |line| line.request(frame).await).await.map(drop)
    }

    /// Waits until what the device knows gives an answer.
    ///
    /// # Errors
    /// When it doesn't within 10 s: what was waited for, and by whom.
    pub async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&Memory) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // From here on nothing is missed, and only then is it looked at.
            changed.as_mut().enable();
            if let Some(answer) = look(&self.memory()) {
                return Ok(answer);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(self.in_vain(what));
            }
        }
    }

    fn in_vain(&self, what: &str) -> Failure {
        Failure::run(format!("{} waited {} s in vain for {what}", self.role.name(), PATIENCE.as_secs()))
    }

    /// Stops or goes on acknowledging.
    pub fn hold_acks(&self, hold: bool) {
        self.shared.change(|memory| memory.hold_acks = hold);
    }

    /// Everything it has of a chat is acknowledged, and that is durable, when this returns.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub async fn settle(&self, chat: ChatId) -> Result<(), Failure> {
        let seq = self.memory().highest(chat);
        self.ask("ack", async |line| line.ack_durably(chat, seq).await).await
    }

    /// The user has read up to `seq` on this device: the offset that counts from now on.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub async fn read(&self, chat: ChatId, seq: u64) -> Result<u64, Failure> {
        let effective = self.ask("read", async |line| line.read(chat, seq).await).await?;
        self.shared.change(|memory| memory.read_moved(chat, effective));
        Ok(effective)
    }

    /// Borrows one page of the past from the main; and how long that took.
    ///
    /// # Errors
    /// As [`Device::send`]; or the page isn't what was asked for.
    pub async fn borrow(
        &self,
        chat: ChatId,
        before: Option<u64>,
        limit: u64,
    ) -> Result<(Page, Duration), Failure> {
        let begun = Instant::now();
        let page = self.ask("history", async |line| line.history(chat, before, limit).await).await?;
        let took = begun.elapsed();
        self.shared.change(|memory| memory.borrowed(&page));
        Ok((page, took))
    }
}

/// Hears a line to its end: stores, acknowledges, and lends the past.
async fn listen(client: Client, mut events: Events, shared: Arc<Shared>, line: u64, clock: Clock) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected(welcome) => shared.change(|memory| memory.welcomed(line, welcome)),
            Event::Message(message) | Event::Duplicate(message) => {
                let holds = shared.change(|memory| {
                    memory.arrived(line, &message, clock.sent(&message));
                    memory.hold_acks
                });
                if !holds {
                    // A line that has gone has its end in the next event.
                    let _ = client.ack(message.chat, message.seq);
                }
            }
            Event::HistoryRequest(request) => {
                let page = shared.memory().history().page(request.chat, request.before, request.limit);
                let _ = client.serve(&request, page);
            }
            Event::Read(notice) => shared.change(|memory| memory.read_moved(notice.chat, notice.seq)),
            Event::Device(notice) => shared.change(|memory| memory.event(notice)),
            Event::Violation(violation) => shared.change(|memory| memory.faults.push(violation.to_string())),
            Event::Gap(_) | Event::Problem(_) | Event::Delayed(_) => {
                shared.change(|memory| memory.faults.push(format!("{event:?}")));
            }
            Event::Stopped(ended) => {
                let close = ended.close.unwrap_or(Close { code: ABNORMAL, reason: ended.text });
                shared.change(|memory| memory.close(line, close));
            }
            _ => {}
        }
    }
}
