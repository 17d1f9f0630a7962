//! The flooding process: prepares itself, says `ready`, floods from the first line on its input until that ends, and tells what it did.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::client::user_token;
use super::kinds::Kind;
use super::wire::{BEGIN, PIECE, PING, TEXT, call, connect, frame, head, upgrade};

/// Accounts, each with a main and five subs.
const ACCOUNTS: usize = 6;
/// Bytes that are written at a time.
const CHUNK: usize = 64 << 10;

/// What was done.
#[derive(Debug, Default)]
pub struct Did {
    pub done: AtomicU64,
    pub refused: AtomicU64,
    pub bytes: AtomicU64,
}

/// The flooding side.
#[derive(Debug)]
pub struct Flood {
    pub edge: SocketAddr,
    go: Notify,
    pub did: Did,
}

/// `flood KIND EDGE`.
pub fn main(args: &[String]) -> ExitCode {
    let [kind, edge] = args else { return ExitCode::from(3) };
    let (Ok(kind), Ok(edge)) = (Kind::from_str(kind, false), edge.parse()) else { return ExitCode::from(3) };
    let _ = rlimit(); // As many connections as it may.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let flood = Arc::new(Flood { edge, go: Notify::new(), did: Did::default() });
    runtime.block_on(async {
        flood.clone().prepare(kind).await;
        println!("ready");
        let line = || tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        if matches!(line().await, Ok(Ok(1..))) {
            flood.go.notify_waiters();
            while matches!(line().await, Ok(Ok(1..))) {}
        }
        let Did { done, refused, bytes } = &flood.did;
        let did = json!({ "done": done.load(Relaxed), "refused": refused.load(Relaxed), "MB": bytes.load(Relaxed) >> 20 });
        println!("{did}");
    });
    // Without waiting for what is under way.
    std::process::exit(0)
}

fn rlimit() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

impl Flood {
    /// So many that do this again and again, from the beginning of the flood on.
    pub fn many<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        self: &Arc<Self>,
        count: usize,
        work: impl Fn(Arc<Self>, usize) -> F + Send + Sync + Clone + 'static,
    ) {
        for n in 0..count {
            let (flood, work) = (self.clone(), work.clone());
            tokio::spawn(async move {
                flood.go.notified().await;
                loop {
                    if work(flood.clone(), n).await.is_err() {
                        flood.did.refused.fetch_add(1, Relaxed);
                        // A flood that can't connect doesn't spin.
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
    }

    pub fn count(&self, status: u16) {
        let counter = if status < 400 { &self.did.done } else { &self.did.refused };
        counter.fetch_add(1, Relaxed);
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let mut stream = connect(self.edge).await.expect("connect");
        let body = body.to_string();
        let (status, answer) =
            call(&mut stream, self.edge, (method, path, token), &body).await.expect("an answer");
        assert!(status < 400, "{method} {path}: {status} {answer}");
        answer
    }

    /// Tokens of a main and five subs; the main first, and connected for good.
    pub async fn account(self: &Arc<Self>, user: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        for kind in ["main", "sub", "sub", "sub", "sub", "sub"] {
            let new = json!({ "kind": kind, "name": "flood", "platform": "abuse" });
            let device = self.ask("POST", "/v1/devices", &user_token(user), &new).await;
            tokens.push(device["token"].as_str().expect("a token").to_owned());
        }
        tokens
    }

    async fn devices(self: &Arc<Self>) -> Arc<Vec<String>> {
        let mut all = Vec::new();
        for account in 0..ACCOUNTS {
            all.extend(self.account(&format!("flood-{account}")).await);
        }
        Arc::new(all)
    }

    /// Writes the same to a device's socket for ever; what comes is read, or not.
    fn write(self: &Arc<Self>, devices: &Arc<Vec<String>>, first: Vec<u8>, flood: Vec<u8>, reads: Reads) {
        let count = (CHUNK / flood.len()).max(1);
        let (devices, chunk) = (devices.clone(), Arc::new(flood.repeat(count)));
        self.many(devices.len(), move |flood, n| {
            let (token, first, chunk) = (devices[n].clone(), first.clone(), chunk.clone());
            async move {
                // Mains first: subs need theirs.
                sleep(Duration::from_millis(if n % 6 == 0 { 0 } else { 300 })).await;
                let (stream, status) = upgrade(flood.edge, &token).await?;
                if status != 101 {
                    return Err(std::io::Error::other("refused"));
                }
                let (mut input, mut output) = stream.into_split();
                output.write_all(&first).await?;
                let read = async {
                    let mut bytes = vec![0; CHUNK];
                    loop {
                        match reads {
                            Reads::Everything if input.read(&mut bytes).await? == 0 => return Ok(()),
                            Reads::Everything => {}
                            Reads::Nothing => std::future::pending().await,
                        }
                    }
                };
                let write = async {
                    loop {
                        output.write_all(&chunk).await?;
                        flood.did.done.fetch_add(count as u64, Relaxed);
                        flood.did.bytes.fetch_add(chunk.len() as u64, Relaxed);
                    }
                };
                tokio::select! {
                    end = read => end,
                    end = write => end,
                }
            }
        });
    }

    async fn prepare(self: Arc<Self>, kind: Kind) {
        match kind {
            Kind::Pings => {
                self.write(&self.devices().await, Vec::new(), frame(PING, &[b'x'; 125]), Reads::Everything)
            }
            Kind::UnreadPings => {
                self.write(&self.devices().await, Vec::new(), frame(PING, &[b'x'; 125]), Reads::Nothing)
            }
            Kind::Acks => {
                let ack = json!({ "type": "ack", "chat": uuid::Uuid::new_v4(), "seq": 1 });
                let ack = frame(TEXT, ack.to_string().as_bytes());
                self.write(&self.devices().await, Vec::new(), ack, Reads::Everything);
            }
            Kind::JunkPages => {
                let messages = vec![Value::from("x".repeat(1000)); 100];
                let page =
                    json!({ "type": "history_page", "request": "none", "messages": messages, "more": false });
                let page = frame(TEXT, page.to_string().as_bytes());
                self.write(&self.devices().await, Vec::new(), page, Reads::Everything);
            }
            Kind::Pieces => {
                self.write(&self.devices().await, frame(BEGIN, b"{"), frame(PIECE, b""), Reads::Everything)
            }
            Kind::Sends => self.sends().await,
            Kind::BadConnects => self.many(64, |flood, _| async move {
                let (mut stream, status) = upgrade(flood.edge, "no.good.token").await?;
                flood.count(status);
                let _ = stream.read_to_end(&mut Vec::new()).await;
                Ok(())
            }),
            Kind::Reconnects => {
                let devices = self.devices().await;
                self.many(devices.len(), move |flood, n| {
                    let token = devices[n].clone();
                    async move {
                        let (mut stream, status) = upgrade(flood.edge, &token).await?;
                        flood.count(status);
                        let _ = stream.read_u8().await;
                        Ok(())
                    }
                });
            }
            Kind::HalfBodies => self.many(3_000, |flood, _| async move {
                let mut stream = connect(flood.edge).await?;
                let head = head(flood.edge, "POST", "/v1/chats", "no.good.token", 130_000);
                stream.write_all(head.as_bytes()).await?;
                let _ = stream.write_all(&[b' '; 120_000]).await;
                flood.did.bytes.fetch_add(120_000, Relaxed);
                let status = stream.read_u8().await;
                flood.count(if status.is_ok() { 401 } else { 0 });
                Ok(())
            }),
            Kind::Passwords => self.many(64, |flood, n| async move {
                let mut stream = connect(flood.edge).await?;
                let new = json!({ "kind": "group", "name": uuid::Uuid::new_v4(), "password": "a password" })
                    .to_string();
                let token = user_token(&format!("flood-{}", n % ACCOUNTS));
                let request = format!("{}{new}", head(flood.edge, "POST", "/v1/chats", &token, new.len()));
                stream.write_all(request.as_bytes()).await?;
                sleep(Duration::from_micros(1500)).await;
                flood.did.done.fetch_add(1, Relaxed);
                Ok(())
            }),
            Kind::SlowReaders => self.slow_readers().await,
            Kind::Lists => {
                let token = user_token("flood-0");
                let ask = json!({ "kind": "main", "name": "flood", "platform": "abuse" });
                self.ask("POST", "/v1/devices", &token, &ask).await;
                for n in 0..20 {
                    self.chat("flood-0", &format!("friend-{n}")).await;
                }
                self.calls(16, "GET", "/v1/chats", token);
            }
            Kind::Account => self.tilt().await,
            Kind::Devices => self.many(5, |flood, _| async move {
                let (mut stream, token) = (connect(flood.edge).await?, user_token("flood-0"));
                loop {
                    let new = json!({ "kind": "sub", "name": "flood", "platform": "abuse" }).to_string();
                    let (status, device) =
                        call(&mut stream, flood.edge, ("POST", "/v1/devices", &token), &new).await?;
                    flood.count(status);
                    if let Some(id) = device["device"]["id"].as_str().or(device["id"].as_str()) {
                        let path = format!("/v1/devices/{id}");
                        let (status, _) =
                            call(&mut stream, flood.edge, ("DELETE", &path, &token), "").await?;
                        flood.count(status);
                    }
                }
            }),
        }
    }

    /// The same call again and again, on connections that are kept.
    fn calls(self: &Arc<Self>, count: usize, method: &'static str, path: &'static str, token: String) {
        self.many(count, move |flood, _| {
            let token = token.clone();
            async move {
                let mut stream = connect(flood.edge).await?;
                loop {
                    let (status, _) = call(&mut stream, flood.edge, (method, path, &token), "").await?;
                    flood.count(status);
                }
            }
        });
    }

    /// A direct chat with a main of its own user, that has a bit of everything.
    pub async fn chat(self: &Arc<Self>, user: &str, with: &str) -> String {
        let new = json!({ "kind": "direct", "with": with });
        let chat = self.ask("POST", "/v1/chats", &user_token(user), &new).await;
        chat["id"].as_str().expect("an id").to_owned()
    }

    async fn sends(self: Arc<Self>) {
        let devices = self.devices().await;
        let mut chats = Vec::new();
        for account in 0..ACCOUNTS {
            chats.push(self.chat(&format!("flood-{account}"), "nobody").await);
        }
        self.many(devices.len(), move |flood, n| {
            let (token, chat) = (devices[n].clone(), chats[n / 6].clone());
            async move {
                sleep(Duration::from_millis(if n % 6 == 0 { 0 } else { 300 })).await;
                let (stream, status) = upgrade(flood.edge, &token).await?;
                if status != 101 {
                    return Err(std::io::Error::other("refused"));
                }
                let (mut input, mut output) = stream.into_split();
                let read = async {
                    let mut bytes = vec![0; CHUNK];
                    while input.read(&mut bytes).await? > 0 {}
                    Ok(())
                };
                let write = async {
                    // As was found: a new connection, and a new rate, after each 490.
                    for id in 0..490 {
                        let send = json!({ "type": "send", "id": id, "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text",
                            "content": "x".repeat(200) });
                        output.write_all(&frame(TEXT, send.to_string().as_bytes())).await?;
                        flood.did.done.fetch_add(1, Relaxed);
                    }
                    sleep(Duration::from_millis(20)).await;
                    Ok(())
                };
                tokio::select! {
                    end = read => end,
                    end = write => end,
                }
            }
        });
    }

    async fn slow_readers(self: Arc<Self>) {
        let device = self.account("flood-0").await.swap_remove(0);
        let chat = self.chat("flood-0", "nobody").await;
        let mut stream: TcpStream = connect(self.edge).await.expect("connect");
        for _ in 0..100 {
            let message =
                json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "x".repeat(60_000) })
                    .to_string();
            let path = format!("/v1/chats/{chat}/messages");
            let sent = call(&mut stream, self.edge, ("POST", &path, &device), &message).await;
            assert!(matches!(sent, Ok((200, _))), "{sent:?}");
            sleep(Duration::from_millis(15)).await;
        }
        self.many(300, move |flood, _| {
            let (token, path) = (device.clone(), format!("/v1/chats/{chat}/messages?limit=100"));
            async move {
                let mut stream = connect(flood.edge).await?;
                stream.write_all(head(flood.edge, "GET", &path, &token, 0).as_bytes()).await?;
                flood.did.done.fetch_add(1, Relaxed);
                // One byte a second, until it is hung up.
                while stream.read_u8().await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            }
        });
    }
}

/// Whether a flooding device reads.
#[derive(Debug, Clone, Copy)]
enum Reads {
    Everything,
    Nothing,
}
