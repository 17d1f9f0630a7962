//! A client of Keepstep, as `docs/protocol.md` says: HTTP to register, a socket that checks the order of what comes and
//! acknowledges it.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::FutureExt;
use keepstep_client::{
    ChatId, DeviceKind, Draft, MessageKey, Registration,
    transport::{self, Incoming, Utf8Bytes, WebSocketConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::tally::{Tally, stamp};

/// A registered device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Main or sub.
    pub main: bool,
    /// Opens its socket.
    pub token: String,
}

/// The HTTP interface, for any user.
#[derive(Debug, Clone)]
pub struct Api {
    api: keepstep_client::Api,
    secret: String,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    exp: u64,
}

impl Api {
    pub fn new(addr: &str, secret: &str) -> Result<Self, String> {
        let api = keepstep_client::Api::new(&format!("http://{addr}")).map_err(|error| error.to_string())?;
        Ok(Self { api, secret: secret.to_owned() })
    }

    fn token(&self, user: &str) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let key = jsonwebtoken::EncodingKey::from_secret(self.secret.as_bytes());
        let claims = Claims { sub: user, exp: now + 24 * 3600 };
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)
            .map_err(|error| error.to_string())
    }

    fn of(&self, user: &str) -> Result<keepstep_client::Api, String> {
        Ok(self.api.with_token(self.token(user)?))
    }

    /// Registers a device of a user.
    pub async fn register(&self, user: &str, main: bool) -> Result<Device, String> {
        let kind = if main { DeviceKind::Main } else { DeviceKind::Sub };
        let registered = self.of(user)?.register(&Registration::new(kind, "bench", "bench")).await;
        let registered = registered.map_err(|error| error.to_string())?;
        Ok(Device { main, token: registered.token })
    }

    /// The direct chat of two users.
    pub async fn direct_chat(&self, user: &str, with: &str) -> Result<String, String> {
        let chat = self.of(user)?.direct_chat(with).await.map_err(|error| error.to_string())?;
        Ok(chat.id.to_string())
    }

    /// Sends without a socket.
    pub async fn send(&self, user: &str, chat: &str, content: &str) -> Result<(), String> {
        let chat: ChatId = chat.parse().map_err(|error| format!("{chat}: {error}"))?;
        let sent = self.of(user)?.send(chat, key(), &Draft::text(content)).await;
        sent.map(drop).map_err(|error| error.to_string())
    }
}

fn key() -> MessageKey {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

/// An open socket. What comes is looked at as bytes: the benchmark's own work must not be what is measured.
pub type Socket = transport::Socket<TcpStream>;

/// Opens the socket of a device.
pub async fn open(addr: &str, token: &str) -> Result<Socket, String> {
    let stream = TcpStream::connect(addr).await.map_err(|error| format!("connect to {addr}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (url, bearer) = (format!("ws://{addr}/v1/socket"), format!("Bearer {token}"));
    let headers = [("Authorization", bearer.as_str()), ("Sec-WebSocket-Protocol", "keepstep.v1")];
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
    let opened = Socket::handshake(stream, &url, &headers, Some(config)).await;
    opened.map_err(|error| format!("open a socket: {error}"))
}

/// The next text frame.
pub async fn next_text(socket: &mut Socket) -> Result<Utf8Bytes, String> {
    loop {
        match socket.next().await {
            Incoming::Text(text) => return Ok(text),
            Incoming::Closed(close) => return Err(format!("closed: {close:?}")),
            Incoming::Lost(why) => return Err(format!("a socket broke: {why}")),
            Incoming::Binary(_) | Incoming::Other => {}
        }
    }
}

/// The next text frame of a type.
pub async fn next_of(socket: &mut Socket, kind: &str) -> Result<Utf8Bytes, String> {
    let begins = format!("{{\"type\":\"{kind}\"");
    loop {
        let text = next_text(socket).await?;
        if text.starts_with(&begins) {
            return Ok(text);
        }
        if text.starts_with("{\"type\":\"error\"") {
            return Err(format!("instead of {kind}: {text}"));
        }
    }
}

/// Sends a text frame.
pub async fn say(socket: &mut Socket, text: String) -> Result<(), String> {
    socket.send(text).await.map_err(|error| format!("a socket broke: {error}"))
}

const HEAD: &str = "{\"type\":\"message\",\"chat\":\"";
const CHAT_AT: usize = HEAD.len();
const SEQ_AT: usize = CHAT_AT + 36 + "\",\"seq\":".len();

/// The seq of a message frame, by its place; none when it is another frame.
pub fn seq_of<'a>(frame: &'a [u8], chat: &str) -> Option<Result<u64, &'a [u8]>> {
    if !frame.starts_with(HEAD.as_bytes()) {
        return None;
    }
    if frame.get(CHAT_AT..CHAT_AT + 36) != Some(chat.as_bytes()) {
        return Some(Err(frame));
    }
    let digits = frame.get(SEQ_AT..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit());
    Some(Ok(digits.fold(0, |seq, byte| seq * 10 + u64::from(byte - b'0'))))
}

/// The chat and the seq of a message frame.
pub fn chat_and_seq(frame: &[u8]) -> Option<(String, u64)> {
    let chat = std::str::from_utf8(frame.get(CHAT_AT..CHAT_AT + 36)?).ok()?;
    Some((chat.to_owned(), seq_of(frame, chat)?.ok()?))
}

fn stamp_of(frame: &[u8]) -> Option<u64> {
    const CONTENT: &[u8] = b"\"content\":\"";
    let at = frame.windows(CONTENT.len()).position(|window| window == CONTENT)?;
    stamp(frame.get(at + CONTENT.len()..)?)
}

#[derive(Deserialize)]
struct Reply<'a> {
    id: u64,
    #[serde(borrow)]
    ok: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    error: Option<&'a serde_json::value::RawValue>,
}

/// What a member can be asked for.
enum Ask {
    Send(String, oneshot::Sender<Result<(), String>>),
    /// An acknowledgement that is answered once it is durable.
    AckNow(oneshot::Sender<Result<(), String>>),
}

/// A connected device of one chat, in a task of its own. It acknowledges the highest seq of each burst that it reads.
#[derive(Debug)]
pub struct Member {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Member {
    /// Takes over a socket that was just opened.
    pub fn start(socket: Socket, device: &Device, chat: &str, tally: &Arc<Tally>) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let task = Task {
            socket,
            chat: chat.to_owned(),
            sub: !device.main,
            last: 0,
            acked: 0,
            replies: 0,
            waiting: VecDeque::new(),
            tally: tally.clone(),
        };
        let tally = tally.clone();
        tokio::spawn(async move {
            if let Err(why) = task.run(asked).await {
                tally.fail(why);
            }
        });
        Self { asks }
    }

    /// Sends, and waits for the reply.
    pub async fn send(&self, content: String) -> Result<(), String> {
        self.ask(|reply| Ask::Send(content, reply)).await
    }

    /// Acknowledges once more, and waits until it is durable.
    pub async fn ack_now(&self) -> Result<(), String> {
        self.ask(Ask::AckNow).await
    }

    async fn ask(&self, ask: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Ask) -> Result<(), String> {
        let (reply, replied) = oneshot::channel();
        let gone = || "a device's socket has ended".to_owned();
        self.asks.send(ask(reply)).map_err(|_| gone())?;
        replied.await.map_err(|_| gone())?
    }
}

struct Task {
    socket: Socket,
    chat: String,
    sub: bool,
    last: u64,
    acked: u64,
    replies: u64,
    waiting: VecDeque<oneshot::Sender<Result<(), String>>>,
    tally: Arc<Tally>,
}

impl Task {
    async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Ask>) -> Result<(), String> {
        loop {
            tokio::select! {
                frame = self.socket.next() => {
                    if !self.take(frame)? {
                        return Ok(());
                    }
                    // What was read from the socket with it.
                    while let Some(frame) = self.socket.next().now_or_never() {
                        if !self.take(frame)? {
                            return Ok(());
                        }
                    }
                    self.ack().await?;
                }
                ask = asked.recv() => {
                    let Some(ask) = ask else {
                        let _ = self.socket.close().await;
                        return Ok(());
                    };
                    self.ask(ask).await?;
                }
            }
        }
    }

    /// False: the server has closed the socket in the ordinary way.
    fn take(&mut self, came: Incoming) -> Result<bool, String> {
        const NO_CODE: u16 = 1005;
        let text = match came {
            Incoming::Text(text) => text,
            Incoming::Closed(close) if close.code == NO_CODE => return Ok(false),
            Incoming::Closed(close) => return Err(format!("closed by the server: {close:?}")),
            Incoming::Binary(_) | Incoming::Other => return Ok(true),
            Incoming::Lost(why) => return Err(format!("a socket broke: {why}")),
        };
        match seq_of(text.as_bytes(), &self.chat) {
            Some(Ok(seq)) if seq == self.last + 1 => {
                self.last = seq;
                self.tally.received.fetch_add(1, Ordering::Relaxed);
                if self.tally.timed.load(Ordering::Relaxed) {
                    self.tally.time(stamp_of(text.as_bytes()));
                }
            }
            Some(Ok(seq)) => return Err(format!("seq {seq} came after {}", self.last)),
            Some(Err(_)) => return Err(format!("a message of another chat: {text}")),
            None => self.take_other(&text)?,
        }
        Ok(true)
    }

    fn take_other(&mut self, text: &str) -> Result<(), String> {
        if text.starts_with("{\"type\":\"reply\"") {
            let reply: Reply<'_> = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
            self.replies += 1;
            if reply.id != self.replies {
                return Err(format!("reply {} instead of {}", reply.id, self.replies));
            }
            let result = match (reply.ok, reply.error) {
                (Some(_), None) => Ok(()),
                (_, error) => Err(error.map_or_else(|| text.to_owned(), |error| error.get().to_owned())),
            };
            if let Some(waiting) = self.waiting.pop_front() {
                let _ = waiting.send(result);
            }
        } else if text.starts_with("{\"type\":\"welcome\"") {
            let welcome: Value = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
            let entries = welcome["chats"].as_array().map(Vec::as_slice).unwrap_or_default();
            let entry = entries.iter().find(|entry| entry["id"] == self.chat.as_str());
            let cursor = entry.and_then(|entry| entry["cursor"].as_u64());
            self.last = cursor.ok_or_else(|| format!("the chat isn't in {text}"))?;
            self.acked = self.last;
            self.tally.ready.fetch_add(1, Ordering::Relaxed);
        } else if text.starts_with("{\"type\":\"error\"") || text.starts_with("{\"type\":\"gap\"") {
            return Err(format!("the server said {text}"));
        }
        Ok(())
    }

    async fn ack(&mut self) -> Result<(), String> {
        if self.sub {
            self.sub = false;
            say(&mut self.socket, "{\"type\":\"ready\"}".to_owned()).await?;
        }
        if self.last > self.acked {
            let frame = format!("{{\"type\":\"ack\",\"chat\":\"{}\",\"seq\":{}}}", self.chat, self.last);
            say(&mut self.socket, frame).await?;
            self.tally.acked.fetch_add(self.last - self.acked, Ordering::Relaxed);
            self.acked = self.last;
        }
        Ok(())
    }

    async fn ask(&mut self, ask: Ask) -> Result<(), String> {
        let id = self.replies + self.waiting.len() as u64 + 1;
        let chat = &self.chat;
        let (frame, reply) = match ask {
            Ask::Send(content, reply) => {
                let key = key();
                let frame = format!(
                    "{{\"type\":\"send\",\"id\":{id},\"chat\":\"{chat}\",\"key\":\"{key}\",\"kind\":\"text\",\"content\":\"{content}\"}}"
                );
                (frame, reply)
            }
            Ask::AckNow(reply) => {
                let seq = self.last;
                (format!("{{\"type\":\"ack\",\"id\":{id},\"chat\":\"{chat}\",\"seq\":{seq}}}"), reply)
            }
        };
        self.waiting.push_back(reply);
        say(&mut self.socket, frame).await
    }
}
