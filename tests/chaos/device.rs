//! A device of the campaign. It keeps its copy, reconnects to any edge whenever its connection ends, repeats unanswered
//! sends under the same key, and records everything.
//!
//! It uses the SDK's core (`keepstep_client::session`), so the campaign tests that too. It keeps its own outbox: it has
//! several messages of a chat in flight, and abandons some.

mod ears;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepstep_client::frame::{ClientFrame, MessageKey, ServerFrame};
use keepstep_client::session::Session;
use keepstep_client::transport::WireMessage;
use keepstep_client::{ChatId, Draft};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use crate::client::{Came, Socket};
use crate::closes::Close;
use crate::gaps::Witness;
use crate::history::{Seq, What};
use crate::memory::{Memory, entry};
use crate::record::{Recorder, count};

/// A device's orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    /// Be connected.
    pub online: bool,
    /// Send and read.
    pub talks: bool,
    /// Acknowledge.
    pub acks: bool,
    /// Read the socket.
    pub reads: bool,
    /// A changed number: drop the connection and reconnect.
    pub round: u64,
    /// Stop for good.
    pub over: bool,
}

/// The visible state of a device.
#[derive(Debug, Default, Clone)]
pub struct Sight {
    /// The edge that has welcomed it, if any.
    pub edge: Option<usize>,
    /// By chat: the last message, and the read offset as the device knows it.
    pub chats: HashMap<String, (Seq, Seq)>,
    /// Whether it knows that it was terminated.
    pub ended: bool,
    /// The last entries of its chats.
    pub entries: HashMap<String, crate::history::Entry>,
}

/// A handle to a device.
#[derive(Debug)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// Its user.
    pub user: String,
    /// Whether it is the user's main.
    pub main: bool,
    /// Its token.
    pub token: String,
    /// Its orders.
    pub orders: watch::Sender<Orders>,
    sight: Mutex<Sight>,
}

impl Device {
    /// Returns a device that isn't connected yet.
    pub fn new(id: String, user: String, main: bool, token: String) -> Arc<Device> {
        let orders = Orders { online: true, talks: true, acks: true, reads: true, round: 0, over: false };
        let orders = watch::Sender::new(orders);
        Arc::new(Device { id, user, main, token, orders, sight: Mutex::default() })
    }

    /// Returns its present state.
    pub fn sight(&self) -> Sight {
        self.sight.lock().unwrap().clone()
    }

    /// Changes its orders.
    pub fn told(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }
}

/// A message in progress.
#[derive(Debug, Clone)]
struct Letter {
    chat: ChatId,
    key: MessageKey,
    content: String,
}

/// What a reply is for.
enum Asked {
    Send(Letter),
    Ack(ChatId, Seq),
    Page(ChatId, Seq),
}

/// What all devices of a run share.
#[derive(Debug)]
pub struct Surroundings {
    /// The edges' addresses.
    pub edges: Arc<[String]>,
    /// The recorder.
    pub record: Arc<Recorder>,
    /// The reader of queues.
    pub witness: Witness,
    /// The time limit of a connection, and of its welcome.
    pub patience: Duration,
}

/// One in this many sends of unknown outcome is given up by its client.
pub const GIVEN_UP: u32 = 8;

/// The life of a device: a task to be spawned.
pub struct Life {
    device: Arc<Device>,
    around: Arc<Surroundings>,
    record: Arc<Recorder>,
    random: StdRng,
    memory: Memory,
    session: Session,
    outbox: VecDeque<Letter>,
    asked: HashMap<u64, Asked>,
    // Read offsets without a reply on this connection.
    marking: HashMap<ChatId, Seq>,
    socket: u64,
    edge: usize,
    heard: Instant,
    // When it was last told not to acknowledge.
    idle: Option<u64>,
    // How often the end was told.
    refused: u32,
}

/// Interval of a connected device's own actions.
const TICK: Duration = Duration::from_millis(50);

impl Life {
    /// Returns the life of a device, with seeded decisions.
    pub fn new(device: Arc<Device>, around: Arc<Surroundings>, seed: u64) -> Life {
        Life {
            device,
            record: around.record.clone(),
            around,
            random: StdRng::seed_from_u64(seed),
            memory: Memory::default(),
            session: Session::new(),
            outbox: VecDeque::new(),
            asked: HashMap::new(),
            marking: HashMap::new(),
            socket: 0,
            edge: 0,
            heard: Instant::now(),
            idle: None,
            refused: 0,
        }
    }

    /// Until it is over.
    pub async fn live(mut self) {
        let mut orders = self.device.orders.subscribe();
        loop {
            let now = *orders.borrow_and_update();
            // An ended device tries a few doors more: all must be closed.
            if now.over || self.refused > 3 {
                return;
            }
            if !now.online {
                let _ = orders.changed().await;
                continue;
            }
            let code = self.connection(&mut orders).await;
            self.record.write(What::Closed { device: self.device.id.clone(), socket: self.socket, code });
            self.ends(code);
            let pause = if code == Some(4303) { 300 } else { 30 };
            let pause = self.random.random_range(pause..pause * 8);
            let _ = timeout(Duration::from_millis(pause), orders.wait_for(|orders| orders.over)).await;
        }
    }

    fn ends(&mut self, code: Option<u16>) {
        self.session.disconnected();
        self.marking.clear();
        let mut letters: Vec<Letter> = Vec::new();
        let asked: Vec<Asked> = self.asked.drain().map(|(_, asked)| asked).collect();
        for asked in asked {
            if let Asked::Send(letter) = asked {
                count(&self.record.tally.unknown);
                if !self.gives_up() {
                    letters.push(letter);
                }
            }
        }
        self.outbox.extend(letters);
        let mut sight = self.device.sight.lock().unwrap();
        sight.edge = None;
        if matches!(code, Some(4403 | 4401)) {
            self.refused += 1;
            sight.ended = true;
        }
    }

    /// Whether it never repeats a send of unknown outcome.
    fn gives_up(&mut self) -> bool {
        self.random.random_ratio(1, GIVEN_UP)
    }

    /// The server closed it.
    fn closed(&self, code: u16, reason: String) {
        let (device, user) = (self.device.id.clone(), self.device.user.clone());
        let (at, socket, edge, idle) = (self.record.now(), self.socket, self.edge, self.idle);
        let close = Close { at, device, user, socket, edge, code, reason, idle };
        self.record.closes.lock().unwrap().push(close);
    }

    /// One connection; returns the code with which the server closed it.
    async fn connection(&mut self, orders: &mut watch::Receiver<Orders>) -> Option<u16> {
        let began = *orders.borrow_and_update();
        self.socket = self.record.socket();
        let (device, socket) = (self.device.id.clone(), self.socket);
        self.record.write(What::Connecting { device, socket });
        let edge = self.random.random_range(0..self.around.edges.len());
        self.edge = edge;
        let authorization = format!("Bearer {}", self.device.token);
        let headers = [("Authorization", authorization.as_str())];
        let patience = self.around.patience;
        let opening = Socket::handshake(&self.around.edges[edge], "/v1/socket", &headers);
        let Ok(Ok(mut socket)) = timeout(patience, opening).await else { return None };
        let welcome = match timeout(patience + Duration::from_secs(2), socket.come()).await {
            Ok(Came::Frame(text)) => text,
            Ok(Came::Closed(code, reason)) => {
                self.closed(code, reason);
                return Some(code);
            }
            Ok(Came::Lost) | Err(_) => return None,
        };
        self.welcomed(&welcome, edge)?;
        self.says_ready();
        self.speaks(&mut socket).await?;
        let mut ticks: Interval = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.heard = Instant::now();
        loop {
            tokio::select! {
                came = socket.come() => match came {
                    Came::Frame(text) => self.hears(&mut socket, &text).await?,
                    Came::Closed(code, reason) => {
                        count(&self.record.tally.dropped);
                        self.closed(code, reason);
                        return Some(code);
                    }
                    Came::Lost => {
                        count(&self.record.tally.dropped);
                        return None;
                    }
                },
                _ = ticks.tick() => {
                    // The pong of a frozen or unreachable edge never comes.
                    if self.heard.elapsed() > Duration::from_secs(4) {
                        count(&self.record.tally.dropped);
                        return None;
                    }
                    let now = *orders.borrow();
                    self.acts(&mut socket, now).await?;
                }
                _ = orders.changed() => {
                    let now = *orders.borrow();
                    if now.over || !now.online || now.round != began.round {
                        return None;
                    }
                    if !now.reads {
                        // It takes nothing more from here, and what waits for it is lost with the connection.
                        let again = orders.wait_for(|orders| orders.reads || orders.over);
                        let _ = timeout(Duration::from_secs(20), again).await;
                        return None;
                    }
                }
            }
        }
    }

    fn welcomed(&mut self, text: &str, edge: usize) -> Option<()> {
        let frame = ServerFrame::parse(text).ok()?;
        let ServerFrame::Welcome(welcome) = &frame else { return None };
        let chats: HashMap<_, _> = welcome.chats.iter().map(entry).collect();
        let (device, session) = (self.device.id.clone(), welcome.session);
        let told = chats.clone().into_iter().collect();
        self.record.write(What::Welcome { device, socket: self.socket, session, chats: told });
        count(&self.record.tally.welcomed);
        self.memory.chats.retain(|id, _| chats.contains_key(&id.to_string()));
        for entry in &welcome.chats {
            self.memory.attach(entry, !self.device.main);
        }
        self.session.connected();
        self.session.receive_frame(frame);
        while let Some(event) = self.session.poll_event() {
            self.doubts(&event);
        }
        let mut sight = self.device.sight.lock().unwrap();
        (sight.edge, sight.entries, sight.chats) = (Some(edge), chats, self.progress());
        Some(())
    }

    /// Returns the last seq of each chat on this socket, and its read offset.
    fn progress(&self) -> HashMap<String, (Seq, Seq)> {
        self.session.chats().map(|(id, chat)| (id.to_string(), (chat.came(), chat.read()))).collect()
    }

    /// Does what the device does by itself.
    async fn acts(&mut self, socket: &mut Socket, now: Orders) -> Option<()> {
        if !now.acks {
            self.idle = Some(self.record.now());
        }
        if self.random.random_ratio(1, 20) {
            self.session.put(ClientFrame::Ping { id: None });
        }
        if now.acks && self.random.random_ratio(1, 3) {
            self.acks();
        }
        if !self.device.main {
            self.boots();
        }
        if now.talks && self.random.random_ratio(1, 4) {
            self.writes();
        }
        if now.talks && self.random.random_ratio(1, 40) {
            self.marks();
        }
        if self.random.random_ratio(1, 10) {
            self.session.retry();
        }
        while self.asked.values().filter(|asked| matches!(asked, Asked::Send(_))).count() < 6 {
            let Some(letter) = self.outbox.pop_front() else { break };
            let Letter { chat, key, content } = letter.clone();
            let draft = Box::new(Draft::text(content));
            self.ask(Asked::Send(letter), |id| ClientFrame::Send { id, chat, key, draft });
        }
        self.speaks(socket).await
    }

    /// Acknowledges all received messages.
    fn acks(&mut self) {
        let behind = self.session.chats().filter(|(_, chat)| chat.came() > chat.acked());
        let behind: Vec<(ChatId, Seq)> = behind.map(|(id, chat)| (*id, chat.came())).collect();
        for (chat, seq) in behind {
            self.session.stored(chat, seq);
            if let Some(id) = self.session.ack_confirmed(chat) {
                self.asked.insert(id, Asked::Ack(chat, seq));
            }
        }
    }

    fn writes(&mut self) {
        let mut chats: Vec<ChatId> = self.memory.chats.keys().copied().collect();
        chats.sort_unstable();
        let Some(chat) = favourite(&chats, &mut self.random).copied() else { return };
        let key = uuid::Builder::from_random_bytes(self.random.random()).into_uuid();
        let length = self.random.random_range(5..400);
        let content = format!("{key} {}", "x".repeat(length));
        if self.outbox.len() < 50 {
            self.outbox.push_back(Letter { chat, key, content });
        }
    }

    fn marks(&mut self) {
        let at = self.random.random_range(0..self.memory.chats.len().max(1));
        let Some((id, last)) = self.session.chats().nth(at).map(|(id, chat)| (*id, chat.came())) else {
            return;
        };
        if last > 0 && !self.marking.contains_key(&id) {
            let seq = self.random.random_range(last.saturating_sub(10).max(1)..=last);
            self.session.read(id, seq);
        }
    }

    /// Requests one page of each chat's history at a time.
    fn boots(&mut self) {
        for (chat, before) in self.memory.questions() {
            let is_open = self.asked.values().any(|asked| matches!(asked, Asked::Page(of, _) if *of == chat));
            if is_open || self.random.random_ratio(2, 3) {
                continue;
            }
            let limit = self.random.random_range(1..=40);
            let frame = |id| ClientFrame::History { id, chat, before: Some(before), limit };
            self.ask(Asked::Page(chat, before), frame);
        }
    }

    /// Sends `ready` if a sub has its history.
    fn says_ready(&mut self) {
        if !self.device.main && self.memory.questions().is_empty() {
            self.session.put(ClientFrame::Ready { id: None });
        }
    }

    fn ask(&mut self, what: Asked, frame: impl FnOnce(u64) -> ClientFrame) {
        if let Some(id) = self.session.request(frame) {
            self.asked.insert(id, what);
        }
    }

    /// Records and sends the session's frames. Returns none if the connection doesn't take them.
    async fn speaks(&mut self, socket: &mut Socket) -> Option<()> {
        while let Some(frame) = self.session.poll_frame() {
            let (device, number) = (self.device.id.clone(), self.socket);
            match &frame {
                ClientFrame::Send { chat, key, .. } => {
                    let (user, device) = (self.device.user.clone(), Some(device));
                    let (chat, key) = (chat.to_string(), key.to_string());
                    self.record.write(What::Sending { user, device, chat, key });
                }
                ClientFrame::Ack { chat, seq, .. } => {
                    let (chat, seq) = (chat.to_string(), *seq);
                    self.record.write(What::Acking { device, socket: number, chat, seq });
                }
                ClientFrame::Read { chat, seq, .. } => {
                    self.marking.insert(*chat, *seq);
                    let (chat, seq) = (chat.to_string(), *seq);
                    self.record.write(What::Marking { device, socket: number, chat, seq });
                }
                ClientFrame::History { chat, before, limit, .. } => {
                    let (chat, before, limit) = (chat.to_string(), before.unwrap_or_default(), *limit);
                    self.record.write(What::Asking { device, socket: number, chat, before, limit });
                }
                _ => {}
            }
            let sending = socket.send_message(WireMessage::text(frame.text()));
            timeout(Duration::from_secs(5), sending).await.ok()?.ok()?;
        }
        Some(())
    }
}

/// Chooses a chat to send to: mostly one of the first, so that some have more messages than others.
pub fn favourite<'c, T>(chats: &'c [T], random: &mut StdRng) -> Option<&'c T> {
    let among = if random.random_ratio(1, 2) { chats.len().min(3) } else { chats.len() };
    chats.get(random.random_range(0..among.max(1)))
}

/// Returns a UUID from the seed.
pub fn uuid(random: &mut StdRng) -> String {
    uuid::Builder::from_random_bytes(random.random()).into_uuid().to_string()
}
