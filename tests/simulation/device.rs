//! A client: a phone or a web session with a memory that outlives its connections.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use keepstep::{
    domain::{
        device::DeviceKind,
        id::{ChatId, DeviceId, UserId},
    },
    tokens::DeviceClaims,
};
use keepstep_client::transport::{self, Incoming};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::{
    history::{Entry, Seen, Socket, What},
    unkind::{Unkind, may},
    world::{Edge, Stage, World, text},
};

mod borrowing;
mod connection;
mod frames;

use connection::{Asked, End, Session};
use frames::{Done, Frame, hash};

/// The code of a close frame that has none.
const NO_CODE: u16 = 1005;

/// What a device does, of a thousand ticks each.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Milliseconds between two ticks.
    pub tick: u64,
    pub sends: u32,
    pub acks: u32,
    pub reads: u32,
    /// Hangs up, one way or another.
    pub hangs_up: u32,
    /// Waits before it takes the next frame.
    pub dawdles: u32,
    /// A main that answers history with nonsense.
    pub lies: u32,
    /// Messages of a history page.
    pub page: u64,
}

/// What is known of a device from outside.
#[derive(Debug, Default)]
pub struct Status {
    /// The socket that was welcomed last and isn't closed.
    pub live: Option<Socket>,
    /// Each chat on it: what was received and confirmed, the read offset, and the entry.
    pub chats: BTreeMap<ChatId, Chat>,
    /// Messages that aren't acknowledged by the server.
    pub unsent: usize,
    pub ready: bool,
}

/// One chat on one socket.
#[derive(Debug, Clone)]
pub struct Chat {
    pub last: u64,
    /// When it came.
    pub at: Instant,
    asked: u64,
    pub acked: u64,
    pub read: u64,
    pub entry: Entry,
}

// Of each chat: what the device has stored, as it came.
type Memory = BTreeMap<ChatId, BTreeMap<u64, (String, String)>>;

/// See the module. The clones are one device.
#[derive(Clone)]
pub struct Device {
    pub world: World,
    pub user: UserId,
    pub id: DeviceId,
    pub kind: DeviceKind,
    generation: u32,
    pub habits: Habits,
    pub status: Arc<Mutex<Status>>,
    memory: Arc<Mutex<Memory>>,
    outbox: Arc<Mutex<VecDeque<(ChatId, String)>>>,
}

impl Device {
    /// One with this token.
    pub fn new(world: &World, claims: DeviceClaims, habits: Habits) -> Self {
        let (status, memory, outbox) = Default::default();
        let DeviceClaims { user, device: id, kind, generation } = claims;
        Self { world: world.clone(), user, id, kind, generation, habits, status, memory, outbox }
    }

    fn claims(&self) -> DeviceClaims {
        let Self { user, id, kind, generation, .. } = self;
        DeviceClaims { user: user.clone(), device: *id, kind: *kind, generation: *generation }
    }

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn dice(&self, of: u32) -> bool {
        self.world.shared().per_mille(of)
    }

    /// Lives until everyone goes.
    pub async fn live(self) {
        let below = |most| self.world.shared().below(most);
        loop {
            let stage = self.world.stage();
            // One that was ended tries its luck for a while.
            if stage == Stage::Over || (stage == Stage::Settling && self.world.is_ended(self.id)) {
                return;
            }
            if let Some(edge) = self.world.some_edge() {
                self.clone().connects(&edge).await;
            }
            let wait = match self.world.stage() {
                // Sometimes longer, so that much waits for it.
                Stage::Life if self.dice(200) => 500 + below(9000),
                Stage::Life => 10 + below(400),
                _ => 20 + below(60),
            };
            let stage = self.world.stage();
            let _ = timeout(Duration::from_millis(wait), self.world.after(stage)).await;
        }
    }

    /// One connection, from its beginning to its end.
    pub async fn connects(self, edge: &Edge) {
        let socket = self.world.number();
        self.world.saw(What::Connecting { device: self.name(), socket });
        let pipe = self.world.dial(edge, self.claims());
        // The library clears its buffer before each read: the usual 128 KiB were a third of the whole simulation's time.
        let config = WebSocketConfig::default().read_buffer_size(1 << 10);
        let line = transport::Socket::upgraded(pipe, Some(config)).await;
        let main_device = self.kind == DeviceKind::Main;
        let mut session = Session {
            line,
            socket,
            asked: BTreeMap::new(),
            next_id: 0,
            boot: BTreeMap::new(),
            chats: BTreeMap::new(),
            main_device,
            place: edge.place,
            old: false,
            lies: 0,
        };
        let code = self.talks(&mut session).await;
        let mut status = self.status.lock().unwrap();
        if status.live == Some(socket) {
            status.live = None;
        }
        drop(status);
        match code {
            End::Closed(code) => self.world.saw(What::Closed { device: self.name(), socket, code }),
            // The old connection stays open beside the new one, as when a network changes under a phone.
            End::Left => {
                tokio::spawn(self.lingers(session));
            }
        }
    }

    async fn talks(&self, session: &mut Session) -> End {
        let mut stage = self.world.stage();
        let mut tick = Instant::now();
        loop {
            tokio::select! {
                biased;
                frame = session.line.next() => {
                    match frame {
                        Incoming::Text(text) => {
                            if let Err(end) = self.takes(session, text.as_str()).await {
                                return end;
                            }
                        }
                        Incoming::Closed(close) => {
                            // What the library owes the server: the answer.
                            let _ = timeout(Duration::from_secs(1), session.line.flush()).await;
                            return End::Closed((close.code != NO_CODE).then_some(close.code));
                        }
                        Incoming::Binary(_) | Incoming::Other => {}
                        Incoming::Lost(_) => return End::Closed(None),
                    }
                    // What comes after the device's end is judged by when it is read: so then it is read at once.
                    let may_dawdle = self.world.stage() == Stage::Life && !self.world.is_ended(self.id);
                    if may_dawdle && self.dice(self.habits.dawdles) {
                        sleep(Duration::from_millis(self.world.shared().below(300))).await;
                    }
                }
                next = self.world.after(stage) => {
                    stage = next;
                    tick = Instant::now();
                }
                () = sleep_until(tick) => {
                    if let Err(end) = self.acts(session).await {
                        return end;
                    }
                    tick = Instant::now() + Duration::from_millis(1 + self.world.shared().below(2 * self.habits.tick));
                }
            }
        }
    }

    async fn says(&self, session: &mut Session, frame: Value) -> Result<(), End> {
        match timeout(Duration::from_secs(4), session.line.send(frame.to_string())).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Closed(None)),
        }
    }

    async fn acts(&self, session: &mut Session) -> Result<(), End> {
        let stage = self.world.stage();
        if stage == Stage::Over {
            let _ = timeout(Duration::from_secs(1), session.line.close()).await;
            return Err(End::Closed(None));
        }
        if session.chats.is_empty() && self.status.lock().unwrap().live != Some(session.socket) {
            return Ok(()); // not welcomed yet
        }
        let calm = stage == Stage::Settling;
        self.acks(session, calm).await?;
        self.resends(session).await?;
        self.asks(session, calm).await?;
        if calm {
            return Ok(());
        }
        if self.world.is_partitioned(session.place) && !session.old {
            return Err(End::Left);
        }
        if !self.world.is_silent()
            && self.dice(self.habits.sends)
            && let Some(chat) = self.some_chat(session)
        {
            let key = self.world.uuid().to_string();
            self.outbox.lock().unwrap().push_back((chat, key.clone()));
            self.sends(session, chat, key).await?;
        }
        if self.dice(self.habits.reads)
            && let Some(chat) = self.some_chat(session)
        {
            self.reads(session, chat).await?;
        }
        if self.dice(self.habits.hangs_up) {
            return match self.world.shared().below(3) {
                0 => Err(End::Left),
                1 => {
                    let _ = timeout(Duration::from_secs(1), session.line.close()).await;
                    Err(End::Closed(None))
                }
                _ => Err(End::Closed(None)),
            };
        }
        Ok(())
    }

    fn some_chat(&self, session: &Session) -> Option<ChatId> {
        let at = self.world.shared().below(session.chats.len() as u64) as usize;
        session.chats.keys().nth(at).copied()
    }

    async fn acks(&self, session: &mut Session, all: bool) -> Result<(), End> {
        let due: Vec<(ChatId, u64)> = session
            .chats
            .iter()
            .filter(|(_, chat)| chat.last > chat.asked && (all || self.dice(self.habits.acks)))
            // Not always everything.
            .map(|(id, chat)| {
                let back = if all { 0 } else { self.world.shared().below(chat.last - chat.asked) };
                (*id, chat.last - back)
            })
            .collect();
        for (chat, seq) in due {
            session.chat(chat, |chat| chat.asked = seq);
            let id = session.asks(Asked::Ack(chat, seq));
            let (device, socket) = (self.name(), session.socket);
            self.world.saw(What::Acking { device, socket, chat: text(chat), seq });
            self.says(session, json!({ "type": "ack", "id": id, "chat": chat, "seq": seq })).await?;
        }
        Ok(())
    }

    async fn sends(&self, session: &mut Session, chat: ChatId, key: String) -> Result<(), End> {
        let id = session.asks(Asked::Send(chat, key.clone()));
        let (user, device) = (self.user.to_string(), Some(self.name()));
        self.world.saw(What::Sending { user, device, chat: text(chat), key: key.clone() });
        let content = format!("said {key}");
        let frame =
            json!({ "type": "send", "id": id, "chat": chat, "key": key, "kind": "text", "content": content });
        self.says(session, frame).await
    }

    // What wasn't acknowledged goes out again, with the same key.
    async fn resends(&self, session: &mut Session) -> Result<(), End> {
        let outbox: Vec<_> = self.outbox.lock().unwrap().iter().cloned().collect();
        for (chat, key) in outbox {
            let under_way =
                session.asked.values().any(|asked| matches!(asked, Asked::Send(_, sent) if *sent == key));
            if !under_way {
                self.sends(session, chat, key).await?;
            }
        }
        self.status.lock().unwrap().unsent = self.outbox.lock().unwrap().len();
        Ok(())
    }

    async fn reads(&self, session: &mut Session, chat: ChatId) -> Result<(), End> {
        let last = session.chats.get(&chat).map_or(0, |chat| chat.last);
        let seq = last - self.world.shared().below(3).min(last);
        let id = session.asks(Asked::Read(chat, seq));
        let (device, socket) = (self.name(), session.socket);
        self.world.saw(What::Marking { device, socket, chat: text(chat), seq });
        self.says(session, json!({ "type": "read", "id": id, "chat": chat, "seq": seq })).await
    }

    async fn takes(&self, session: &mut Session, raw: &str) -> Result<(), End> {
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(raw) else {
            // As a real client does: it hangs up, and comes back.
            self.world.violates(format!("invariant 1: {} can't read {raw}", self.name()));
            return Err(End::Closed(None));
        };
        let (device, socket) = (self.name(), session.socket);
        match (frame.kind.as_str(), frame.chat) {
            ("welcome", _) => self.is_welcome(session, &frame),
            ("message", Some(chat)) => {
                let (seq, key) = (frame.seq.unwrap_or(0), frame.key.unwrap_or_default());
                let seen = Seen { seq, key: key.clone(), frame: hash(raw) };
                self.world.saw(What::Message { device, socket, chat: text(chat), seen });
                self.memory.lock().unwrap().entry(chat).or_default().insert(seq, (key, raw.to_owned()));
                session.chat(chat, |chat| (chat.last, chat.at) = (seq, Instant::now()));
            }
            ("gap", Some(chat)) => {
                let (from, to) =
                    (frame.from.and_then(|from| from.as_u64()).unwrap_or(0), frame.to.unwrap_or(0));
                let held = self.world.held(chat, self.id, from, to).await;
                self.world.saw(What::Gap { device, socket, chat: text(chat), from, to, held });
                session.chat(chat, |chat| (chat.last, chat.at) = (to, Instant::now()));
            }
            ("read", Some(chat)) => {
                let seq = frame.seq.unwrap_or(0);
                self.world.saw(What::Read { device, socket, chat: text(chat), seq });
                session.chat(chat, |chat| chat.read = seq);
            }
            ("chat", Some(chat)) => match (frame.event.as_deref(), &frame.entry) {
                (Some("joined"), Some(entry)) => self.attaches(session, chat, entry.entry()),
                (Some("left"), _) => {
                    self.world.saw(What::Detached { device, socket, chat: text(chat) });
                    session.chats.remove(&chat);
                    session.boot.remove(&chat);
                }
                _ => self.world.saw(What::Frame { device, socket, kind: "chat".to_owned() }),
            },
            ("history_request", Some(chat)) => {
                self.world.saw(What::Frame { device, socket, kind: frame.kind.clone() });
                self.answers_history(session, chat, &frame).await?;
            }
            ("reply", _) => self.is_answered(session, &frame),
            _ => self.world.saw(What::Frame { device, socket, kind: frame.kind.clone() }),
        }
        let mut status = self.status.lock().unwrap();
        if status.live == Some(socket) {
            status.chats.clone_from(&session.chats);
        }
        Ok(())
    }

    fn is_welcome(&self, session: &mut Session, frame: &Frame<'_>) {
        let (device, socket) = (self.name(), session.socket);
        let entries = frame.chats.iter().flatten();
        let chats = entries.clone().map(|entry| (text(entry.id), entry.entry())).collect();
        self.world.saw(What::Welcome { device, socket, session: frame.session.unwrap_or(0), chats });
        self.status.lock().unwrap().live = Some(socket);
        self.status.lock().unwrap().ready = session.main_device;
        for entry in entries {
            session.add(entry.id, entry.entry());
        }
    }

    fn attaches(&self, session: &mut Session, chat: ChatId, entry: Entry) {
        let (device, socket) = (self.name(), session.socket);
        self.world.saw(What::Attached { device, socket, chat: text(chat), entry: entry.clone() });
        session.add(chat, entry);
    }

    fn is_answered(&self, session: &mut Session, frame: &Frame<'_>) {
        let (device, socket) = (self.name(), session.socket);
        let Some(asked) = frame.id.and_then(|id| session.asked.remove(&id)) else { return };
        let done =
            || frame.ok.and_then(|ok| serde_json::from_str::<Done>(ok.get()).ok()).map(|done| done.seq);
        let code = frame.error.as_ref().map(|error| error.code.clone()).unwrap_or_default();
        match asked {
            Asked::Send(chat, key) => {
                if let Some(seq) = done() {
                    self.world.saw(What::Sent { chat: text(chat), key: key.clone(), seq });
                } else if code == "unavailable" || code == "draining" {
                    // The outcome is unknown: again, later, or never.
                    if !(may(Unkind::GivesUp) && self.world.stage() == Stage::Life && self.dice(100)) {
                        return;
                    }
                } else {
                    self.world.saw(What::Refused { chat: text(chat), key: key.clone(), code });
                }
                self.outbox.lock().unwrap().retain(|(_, other)| *other != key);
            }
            Asked::Ack(chat, seq) => match done() {
                Some(_) => {
                    self.world.saw(What::Acked { device, socket, chat: text(chat), seq });
                    session.chat(chat, |chat| chat.acked = chat.acked.max(seq));
                }
                None => session.chat(chat, |chat| chat.asked = chat.acked),
            },
            Asked::Read(chat, asked) => {
                if let Some(seq) = done() {
                    self.world.saw(What::Marked { device, socket, chat: text(chat), asked, seq });
                    session.chat(chat, |chat| chat.read = chat.read.max(seq));
                }
            }
            Asked::History(chat, before) => match frame.ok {
                Some(ok) => self.gets_page(session, chat, before, ok.get()),
                None => {
                    self.world.saw(What::NoPage {
                        device,
                        socket,
                        chat: text(chat),
                        before,
                        code: code.clone(),
                    });
                    // Not (any more) in it, or the main can't know it.
                    if code == "not_found" || code == "bad_range" {
                        session.boot.remove(&chat);
                    }
                }
            },
        }
    }

    /// Goes on with an old connection for a while: takes what comes, and acknowledges it.
    async fn lingers(self, mut session: Session) {
        let until = Instant::now() + Duration::from_millis(500 + self.world.shared().below(18_000));
        let mut quiet = self.clone();
        quiet.habits = Habits { sends: 0, reads: 0, hangs_up: 0, ..self.habits.clone() };
        quiet.outbox = Default::default();
        session.old = true;
        let talk = quiet.talks(&mut session);
        let code = match tokio::time::timeout_at(until, talk).await {
            Ok(End::Closed(code)) => code,
            Ok(End::Left) | Err(_) => None,
        };
        self.world.saw(What::Closed { device: self.name(), socket: session.socket, code });
    }
}
