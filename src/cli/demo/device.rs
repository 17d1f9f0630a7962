//! A device that speaks nothing but the public contract: it connects, keeps what it is sent, acknowledges, lends its
//! past (a phone) or borrows it (a web session), and notes every departure from the contract that it sees.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::{timeout, timeout_at},
};
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::HeaderValue};

use super::{
    PATIENCE,
    cast::Role,
    memory::Memory,
    socket::{self, Clock},
    stage::Edge,
};
use crate::cli::Failure;

/// What the device's user, or fate, wants of an open line.
#[derive(Debug)]
pub(super) enum Order {
    /// Say this.
    Say(String),
    /// Hang up as one should.
    HangUp,
    /// The network is gone: no goodbye.
    Cut,
}

/// How a try to connect ended.
#[derive(Debug, Clone)]
pub enum Opened {
    /// Let in; the `welcome` frame.
    In(Box<Value>),
    /// Closed at once.
    Refused {
        /// The close code.
        code: u16,
        /// Its reason.
        reason: String,
    },
}

/// What the device and the task of its line share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    memory: Mutex<Memory>,
    changed: Notify,
}

impl Shared {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it and tells whoever waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
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
    pub id: String,
    /// Its token.
    pub token: String,
    shared: Arc<Shared>,
    line: Option<mpsc::Sender<Order>>,
    number: u64,
    next_id: AtomicU64,
    clock: Clock,
}

impl Device {
    /// One that is registered.
    #[must_use]
    pub fn new(role: Role, id: String, token: String, clock: Clock) -> Self {
        let shared = Arc::new(Shared::default());
        Self { role, id, token, shared, line: None, number: 0, next_id: AtomicU64::new(1), clock }
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
    /// When the server can't be reached, or says nothing.
    pub async fn connect(&mut self, edge: &Edge) -> Result<Opened, Failure> {
        let broken = |what: &str, error: &dyn std::fmt::Display| {
            Failure::run(format!("{} can't connect: {what}: {error}", self.role.name()))
        };
        let address = edge.address();
        let mut request = format!("ws://{address}/v1/socket")
            .into_client_request()
            .map_err(|error| broken("the address", &error))?;
        // A phone sends its token as a header; a browser has only the subprotocols to put it into.
        let (name, value) = if self.role.is_main() {
            ("Authorization", format!("Bearer {}", self.token))
        } else {
            ("Sec-WebSocket-Protocol", format!("keepstep.v1, bearer.{}", self.token))
        };
        let value = HeaderValue::from_str(&value).map_err(|error| broken("the token", &error))?;
        request.headers_mut().insert(name, value);
        let opening = async {
            let stream = TcpStream::connect(&address).await.map_err(|error| broken(&address, &error))?;
            let _ = stream.set_nodelay(true);
            let opened = tokio_tungstenite::client_async(request, stream).await;
            opened.map(|(socket, _)| socket).map_err(|error| broken("the upgrade", &error))
        };
        let socket = timeout(PATIENCE, opening).await.map_err(|_| self.in_vain("the socket to open"))??;
        self.number += 1;
        let number = self.number;
        let (orders, inbox) = mpsc::channel(256);
        self.shared.change(|memory| memory.open(number));
        tokio::spawn(socket::serve(
            socket,
            inbox,
            self.shared.clone(),
            self.role,
            number,
            self.clock.clone(),
        ));
        self.line = Some(orders);
        self.until("the first frame", |memory| match memory.close_of(number) {
            Some((code, reason)) => Some(Opened::Refused { code, reason }),
            None => memory.welcome(number).map(|welcome| Opened::In(Box::new(welcome))),
        })
        .await
    }

    /// Ends the line: with a goodbye, or as a lost network does. Its end has come when this returns.
    ///
    /// # Errors
    /// When it doesn't end.
    pub async fn leave(&mut self, order: Departure) -> Result<(), Failure> {
        let Some(line) = self.line.take() else { return Ok(()) };
        let order = match order {
            Departure::Goodbye => Order::HangUp,
            Departure::Cut => Order::Cut,
        };
        // A line that is gone already has its end noted.
        let _ = line.send(order).await;
        let number = self.number;
        self.until("its own socket to close", |memory| memory.closed(number).then_some(())).await
    }

    /// A frame that is to be answered: its `ok`.
    ///
    /// # Errors
    /// A refusal, no answer, or a line that isn't open.
    pub async fn request(&self, mut frame: Value) -> Result<Value, Failure> {
        let kind = frame.get("type").and_then(Value::as_str).unwrap_or("frame").to_owned();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        frame["id"] = json!(id);
        let (answer, answered) = oneshot::channel();
        self.shared.change(|memory| memory.expect_reply(id, answer));
        self.say(frame.to_string()).await?;
        match timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(ok))) => Ok(ok),
            Ok(Ok(Err(error))) => {
                Err(Failure::run(format!("{}: `{kind}` was refused: {error}", self.role.name())))
            }
            Ok(Err(_)) => Err(Failure::run(format!(
                "{}: its line ended before `{kind}` was answered",
                self.role.name()
            ))),
            Err(_) => Err(self.in_vain(&format!("the reply to `{kind}`"))),
        }
    }

    async fn say(&self, text: String) -> Result<(), Failure> {
        let offline = || Failure::run(format!("{} has no open line to say that on", self.role.name()));
        let line = self.line.as_ref().ok_or_else(offline)?;
        line.send(Order::Say(text)).await.map_err(|_| offline())
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

    /// Everything it has is acknowledged, and that is durable, when this returns.
    ///
    /// # Errors
    /// When the server doesn't say so.
    pub async fn settle(&self) -> Result<(), Failure> {
        let held: Vec<(String, u64)> = self.memory().highest();
        for (chat, seq) in held.into_iter().filter(|(_, seq)| *seq > 0) {
            self.request(json!({"type": "ack", "chat": chat, "seq": seq})).await?;
        }
        Ok(())
    }

    /// The user has read up to `seq` on this device: the offset that counts from now on.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn read(&self, chat: &str, seq: u64) -> Result<u64, Failure> {
        let ok = self.request(json!({"type": "read", "chat": chat, "seq": seq})).await?;
        let effective = ok.get("seq").and_then(Value::as_u64).unwrap_or(0);
        self.shared.change(|memory| memory.read_moved(chat, effective));
        Ok(effective)
    }

    /// Borrows one page of the past from the main: the messages it brought, and whether there are more.
    ///
    /// # Errors
    /// When it is refused, or the page isn't what was asked for.
    pub async fn borrow(&self, chat: &str, before: Option<u64>, limit: u64) -> Result<Page, Failure> {
        let mut frame = json!({"type": "history", "chat": chat, "limit": limit});
        if let Some(before) = before {
            frame["before"] = json!(before);
        }
        let begun = Instant::now();
        let mut ok = self.request(frame).await?;
        let took = begun.elapsed();
        let more = ok.get("more").and_then(Value::as_bool).unwrap_or(false);
        let items = match ok.get_mut("messages").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => return Err(Failure::run(format!("{}: a page without messages", self.role.name()))),
        };
        let count = items.len() as u64;
        let lowest =
            self.shared.change(|memory| memory.borrowed(chat, before, items)).map_err(Failure::run)?;
        Ok(Page { count, lowest, more, took })
    }
}

/// How a device goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It closes its socket.
    Goodbye,
    /// Its network is gone.
    Cut,
}

/// One page of the past.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Messages in it.
    pub count: u64,
    /// The lowest seq of them.
    pub lowest: Option<u64>,
    /// Whether there are older ones.
    pub more: bool,
    /// From the question to the answer.
    pub took: Duration,
}
