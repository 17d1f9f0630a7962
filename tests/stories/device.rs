//! One device of one user, as an application would write it. Its copy of its chats survives its sockets. It acknowledges
//! what it stores and, as a phone, answers history requests.
//!
//! It is strict: everything that violates the contract (a hole, a repetition, a message of a chat it isn't in, an
//! unrequested reply, a missing field) is a fault. A fault fails the story at its next wait or, at the latest, when the
//! device is dropped.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::client::{Api, PATIENCE, Socket, soon};
use super::memory::{Memory, Phone};

/// See the module.
#[derive(Debug)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// `main` or `sub`.
    pub kind: String,
    /// Its device token.
    pub token: String,
    edges: Arc<[String]>,
    shared: Arc<Shared>,
    link: Option<Link>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    changed: Notify,
}

#[derive(Debug)]
struct Link {
    edge: usize,
    out: mpsc::UnboundedSender<Out>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Out {
    Frame(Value),
    Goodbye,
}

/// An acknowledged message.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub at: u64,
    /// Its idempotency key.
    pub key: String,
}

impl Device {
    /// Returns a registered device that has never been connected.
    pub fn new(id: &str, kind: &str, token: &str, edges: Arc<[String]>) -> Device {
        let shared = Shared { memory: Mutex::new(Memory::new(id)), changed: Notify::new() };
        Device {
            id: id.to_owned(),
            kind: kind.to_owned(),
            token: token.to_owned(),
            edges,
            shared: Arc::new(shared),
            link: None,
        }
    }

    /// Connects to an edge and waits for `welcome`.
    pub async fn connects(&mut self, edge: usize) {
        self.opens(edge).await;
        self.until("welcome", |memory| memory.welcome.is_object().then_some(())).await;
    }

    /// Connects to an edge, whatever the outcome.
    pub async fn opens(&mut self, edge: usize) {
        assert!(self.link.is_none(), "{} is connected already", self.id);
        let mut socket = Socket::open(self.at(edge), &self.token).await;
        self.memory().begins();
        let (out, mut queue) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    came = socket.come() => {
                        let (over, answers) = shared.lock().takes(came);
                        shared.changed.notify_waiters();
                        if over {
                            return;
                        }
                        for answer in answers {
                            // A server that has gone shows in what comes next.
                            let _ = socket.send_message(answer.to_string().into()).await;
                        }
                    }
                    out = queue.recv() => match out {
                        Some(Out::Frame(frame)) => {
                            let _ = socket.send_message(frame.to_string().into()).await;
                        }
                        Some(Out::Goodbye) => return socket.close().await,
                        None => return,
                    }
                }
            }
        });
        self.link = Some(Link { edge, out, task });
    }

    /// Disconnects with a close frame.
    pub async fn leaves(&mut self) {
        let link = self.link.take().expect("it is connected");
        let _ = link.out.send(Out::Goodbye);
        soon("the socket to close", link.task).await.expect("the device's task ends well");
    }

    /// Drops the connection without a close frame.
    pub async fn vanishes(&mut self) {
        let link = self.link.take().expect("it is connected");
        link.task.abort();
        let _ = link.task.await;
    }

    /// Disconnects and reconnects, perhaps to another edge.
    pub async fn reconnects(&mut self, edge: usize) {
        self.leaves().await;
        self.connects(edge).await;
    }

    /// Waits for the server to close the socket; returns code and reason. Afterwards it can connect again.
    pub async fn closed(&mut self) -> (u16, String) {
        let closed = self.until("the close frame", |memory| memory.closed.clone()).await;
        if let Some(link) = self.link.take() {
            soon("the device's task to end", link.task).await.expect("the device's task ends well");
        }
        closed
    }

    /// Waits for the connection to end without a close frame, as when a server dies.
    pub async fn lost(&mut self) {
        self.until("the connection to end", |memory| memory.lost.then_some(())).await;
        self.forgets_its_socket();
    }

    /// Notes that its connection is over.
    pub fn forgets_its_socket(&mut self) {
        self.link = None;
    }

    /// Returns an API with its own token, at the edge of its connection, or else the first.
    pub fn api(&self) -> Api {
        Api::new(self.at(self.link.as_ref().map_or(0, |link| link.edge)), &self.token)
    }

    fn at(&self, edge: usize) -> &str {
        &self.edges[edge % self.edges.len()]
    }

    /// Returns its state. Don't keep it over a wait.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.lock()
    }

    /// Stops automatic acknowledgements.
    pub fn stops_acking(&self) {
        self.memory().acking = false;
    }

    /// Acknowledges everything it has and, from now on, each message at once.
    pub fn resumes_acking(&self) {
        let acks = self.memory().resume_acks();
        acks.into_iter().for_each(|ack| self.puts(ack));
    }

    /// Sets how it answers history requests.
    pub fn answers(&self, phone: Phone) {
        self.memory().phone = phone;
    }

    /// Waits until its state satisfies the condition.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut(&mut Memory) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let mut memory = self.memory();
                    assert!(memory.faults.is_empty(), "{} ({}): {:#?}", self.id, self.kind, memory.faults);
                    if let Some(found) = look(&mut memory) {
                        return found;
                    }
                    if let Some(closed) = &memory.closed {
                        panic!(
                            "{} ({}) was closed with {closed:?} while it waited for: {what}",
                            self.id, self.kind
                        );
                    }
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => {
                panic!(
                    "{} ({}) waited in vain for: {what}\n{:#?}",
                    self.id,
                    self.kind,
                    self.memory().summary()
                )
            }
        }
    }

    /// Sends a frame unchanged.
    pub fn puts(&self, frame: Value) {
        let link = self.link.as_ref().expect("it is connected");
        let _ = link.out.send(Out::Frame(frame));
    }

    /// Sends a frame with a new id, and returns the id.
    pub fn asks(&self, mut frame: Value) -> u64 {
        let id = self.memory().ask(&frame);
        frame["id"] = id.into();
        self.puts(frame);
        id
    }

    /// Waits for the only reply to a frame.
    pub async fn reply(&self, id: u64) -> Result<Value, Value> {
        self.until("a reply", |memory| memory.reply(id)).await
    }

    /// Sends a frame and returns its reply.
    pub async fn requests(&self, frame: Value) -> Result<Value, Value> {
        self.reply(self.asks(frame)).await
    }

    /// Sends a frame that must be refused with this code.
    pub async fn is_refused(&self, frame: Value, code: &str) {
        let refusal = self.requests(frame.clone()).await;
        let text: String = frame.to_string().chars().take(200).collect();
        match refusal {
            Err(error) => assert_eq!(error["code"], code, "{text}: {error}"),
            Ok(ok) => panic!("{text} should have been refused with {code}, but: {ok}"),
        }
    }

    /// Sends a text message.
    pub async fn says(&self, chat: &str, content: &str) -> Sent {
        self.says_with(chat, &uuid::Uuid::new_v4().to_string(), content).await
    }

    /// Sends a text message with this key.
    pub async fn says_with(&self, chat: &str, key: &str, content: &str) -> Sent {
        let frame = json!({ "type": "send", "chat": chat, "key": key, "kind": "text", "content": content });
        sent(key, self.requests(frame).await)
    }

    /// Sends many texts, `"{what} 1"` and so on, without waiting for each; then waits for all.
    pub async fn says_many(&self, chat: &str, what: &str, count: u64) -> Vec<Sent> {
        let mut asked = Vec::new();
        for n in 1..=count {
            let (key, content) = (uuid::Uuid::new_v4().to_string(), format!("{what} {n}"));
            let frame =
                json!({ "type": "send", "chat": chat, "key": key, "kind": "text", "content": content });
            asked.push((self.asks(frame), key));
        }
        let mut all = Vec::new();
        for (id, key) in asked {
            all.push(sent(&key, self.reply(id).await));
        }
        all
    }

    /// Waits until it has everything up to this seq.
    pub async fn hears(&self, chat: &str, seq: u64) {
        let what = format!("message {seq} of {chat}");
        self.until(&what, |memory| (memory.chat(chat)?.last >= seq).then_some(())).await;
    }

    /// Acknowledges up to this seq and waits until that is durable.
    pub async fn acks(&self, chat: &str, seq: u64) {
        let ok =
            self.requests(json!({ "type": "ack", "chat": chat, "seq": seq })).await.expect("an ack is taken");
        assert_eq!(ok, json!({ "seq": seq }));
        self.memory().chat_mut(chat).confirmed = seq;
    }

    /// Moves the user's read offset, and returns its value.
    pub async fn reads(&self, chat: &str, seq: u64) -> u64 {
        let ok = self
            .requests(json!({ "type": "read", "chat": chat, "seq": seq }))
            .await
            .expect("a read is taken");
        ok["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {ok}"))
    }

    /// Requests a page from the phone: its messages, and whether there are more.
    pub async fn borrows(
        &self,
        chat: &str,
        before: Option<u64>,
        limit: u64,
    ) -> Result<(Vec<Value>, bool), Value> {
        let mut frame = json!({ "type": "history", "chat": chat, "limit": limit });
        if let Some(before) = before {
            frame["before"] = before.into();
        }
        let ok = self.requests(frame).await?;
        let messages = ok["messages"].as_array().unwrap_or_else(|| panic!("no messages in {ok}")).clone();
        Ok((messages, ok["more"].as_bool().unwrap_or_else(|| panic!("no more in {ok}"))))
    }

    /// Waits for a frame other than a message with these fields, and takes it out of the inbox.
    pub async fn gets(&self, fields: Value) -> Value {
        self.until(&fields.to_string(), |memory| memory.take(&fields)).await
    }
}

fn sent(key: &str, reply: Result<Value, Value>) -> Sent {
    let ok = reply.unwrap_or_else(|error| panic!("a send is refused: {error}"));
    let number = |name: &str| ok[name].as_u64().unwrap_or_else(|| panic!("no {name} in {ok}"));
    Sent { seq: number("seq"), at: number("at"), key: key.to_owned() }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        // A poisoned lock means that a story has failed already; what is inside is still whole.
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            link.task.abort();
        }
        if !std::thread::panicking() {
            let faults = std::mem::take(&mut self.memory().faults);
            assert!(faults.is_empty(), "{} ({}): {faults:#?}", self.id, self.kind);
        }
    }
}
