//! The core without I/O: everything that a device knows about its connection, as a state machine.
//!
//! A [`Session`] outlives connections. It has no clock, no randomness and no socket: whoever drives it says what came
//! ([`Session::receive`]), asks what is to be sent ([`Session::poll_frame`]) and what happened
//! ([`Session::poll_event`]). The same calls always have the same results. [`crate::Client`] drives one over a real
//! socket; a simulation drives it over a pipe.
//!
//! ```
//! use keepstep_client::{Event, session::Session};
//!
//! let chat = "3f396dde-6d1c-4a5f-9d1e-000000000001";
//! let mut session = Session::new();
//! session.connected();
//! session.receive(&format!(
//!     r#"{{"type":"welcome","user":"alice","device":"{chat}","kind":"main","session":1,
//!         "chats":[{{"id":"{chat}","kind":"direct","name":null,"head":5,"read":0,"cursor":4,"from":0}}]}}"#
//! ));
//! session.receive(&format!(r#"{{"type":"message","chat":"{chat}","seq":5,"from":"bob","kind":"text","content":"hi"}}"#));
//! assert!(matches!(session.poll_event(), Some(Event::Connected(_))));
//! let Some(Event::Message(message)) = session.poll_event() else { panic!("a message") };
//!
//! // Store first, then acknowledge: one acknowledgement for as much as came.
//! session.stored(message.chat, message.seq);
//! assert_eq!(session.poll_frame().unwrap().text(), format!(r#"{{"type":"ack","chat":"{chat}","seq":5}}"#));
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    event::Event,
    frame::{ChatId, ClientFrame, DeviceId, DeviceKind, Draft, MessageKey, Page, Problem},
};

mod chat;
mod inbound;
mod outbox;
mod page;

pub use chat::ChatState;
use outbox::Outbox;
pub use outbox::Unsent;

/// Whether frames can go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Down,
    /// Connected, and `welcome` hasn't come.
    Opening,
    Up,
}

/// What a reply is awaited for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Send(ChatId, MessageKey),
    Read(ChatId, u64),
    Other,
}

/// A read offset that the server hasn't confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Due(u64),
    UnderWay(u64),
    Held(u64),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Session {
    line: Line,
    user: Option<String>,
    device: Option<DeviceId>,
    kind: Option<DeviceKind>,
    is_ready: bool,
    chats: BTreeMap<ChatId, ChatState>,
    // By chat what is stored, of chats that no connection has told of yet.
    known: BTreeMap<ChatId, u64>,
    // Chats of which an acknowledgement may be due.
    behind: BTreeSet<ChatId>,
    outbox: Outbox,
    reads: BTreeMap<ChatId, Reading>,
    asked: BTreeMap<u64, Asked>,
    last_id: u64,
    frames: VecDeque<ClientFrame>,
    events: VecDeque<Event>,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Returns the session of a device that has never been connected.
    #[must_use]
    pub fn new() -> Self {
        Self {
            line: Line::Down,
            user: None,
            device: None,
            kind: None,
            is_ready: false,
            chats: BTreeMap::new(),
            known: BTreeMap::new(),
            behind: BTreeSet::new(),
            outbox: Outbox::default(),
            reads: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_id: 0,
            frames: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Says that everything up to `seq` of a chat was stored by an earlier process. Call it before the chat is told of.
    pub fn resume(&mut self, chat: ChatId, seq: u64) {
        self.known.insert(chat, seq);
    }

    /// A connection begins. Nothing goes out before its `welcome`.
    pub fn connected(&mut self) {
        self.disconnected();
        self.line = Line::Opening;
    }

    /// The connection is over: requests are forgotten, sends and read offsets go out again on the next one.
    pub fn disconnected(&mut self) {
        self.line = Line::Down;
        self.asked.clear();
        self.frames.clear();
        self.behind.clear();
        self.outbox.restart();
        for reading in self.reads.values_mut() {
            let (Reading::Due(seq) | Reading::UnderWay(seq) | Reading::Held(seq)) = *reading;
            *reading = Reading::Due(seq);
        }
    }

    /// Whether `welcome` came on the connection.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.line == Line::Up
    }

    /// Main or sub; none before the first `welcome`.
    #[must_use]
    pub fn kind(&self) -> Option<DeviceKind> {
        self.kind
    }

    /// A chat, if the user is in it.
    #[must_use]
    pub fn chat(&self, chat: ChatId) -> Option<&ChatState> {
        self.chats.get(&chat)
    }

    /// All chats that the user is in.
    pub fn chats(&self) -> impl Iterator<Item = (&ChatId, &ChatState)> {
        self.chats.iter()
    }

    /// Whether a request waits for its reply.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The messages that aren't answered, in order per chat. An application that outlives its process stores them.
    pub fn unsent(&self) -> impl Iterator<Item = &Unsent> {
        self.outbox.iter()
    }

    // ---- what the device says

    /// Puts a message into the outbox. It goes out when it can, under the same key until it is answered.
    ///
    /// # Errors
    /// `too_large`, when no server takes a frame of this size.
    pub fn send(&mut self, key: MessageKey, chat: ChatId, draft: Draft) -> Result<(), Problem> {
        // A frame beyond this would end the connection, and the next one too.
        const LARGEST: usize = (1 << 20) - 256;
        if serde_json::to_string(&draft).map_or(usize::MAX, |text| text.len()) > LARGEST {
            return Err(Problem::local("too_large", "the message is larger than a frame"));
        }
        self.outbox.push(Unsent { key, chat, draft });
        Ok(())
    }

    /// Says that everything up to `seq` is stored on this device: the acknowledgement goes out when it may.
    pub fn stored(&mut self, chat: ChatId, seq: u64) {
        if let Some(state) = self.chats.get_mut(&chat) {
            state.stored = state.stored.max(seq.min(state.top));
            self.behind.insert(chat);
        }
    }

    /// Takes back that messages from `seq` on were handed over, because they couldn't be stored. They come again on the
    /// next connection.
    pub fn rewind(&mut self, chat: ChatId, seq: u64) {
        if let Some(state) = self.chats.get_mut(&chat) {
            state.top = state.top.min(seq.saturating_sub(1)).max(state.stored);
        }
    }

    /// Moves the user's read offset. It goes out when it can; [`Event::Read`] confirms it.
    pub fn read(&mut self, chat: ChatId, seq: u64) {
        match self.reads.get(&chat) {
            Some(Reading::Due(old) | Reading::UnderWay(old) | Reading::Held(old)) if *old >= seq => {}
            _ => drop(self.reads.insert(chat, Reading::Due(seq))),
        }
    }

    /// Sends again what the server couldn't take: after [`Event::Delayed`], and a pause.
    pub fn retry(&mut self) {
        self.outbox.release();
        for reading in self.reads.values_mut() {
            if let Reading::Held(seq) = *reading {
                *reading = Reading::Due(seq);
            }
        }
    }

    /// A sub has its history: says so now and at the beginning of each connection.
    pub fn ready(&mut self) {
        let already = std::mem::replace(&mut self.is_ready, true);
        if !already && self.line == Line::Up && self.kind == Some(DeviceKind::Sub) {
            self.frames.push_back(ClientFrame::Ready { id: None });
        }
    }

    /// Makes a frame with an id; [`Event::Reply`] brings its reply. None: there is no connection.
    pub fn request(&mut self, frame: impl FnOnce(u64) -> ClientFrame) -> Option<u64> {
        if self.line != Line::Up {
            return None;
        }
        let id = self.ask(Asked::Other);
        self.frames.push_back(frame(id));
        Some(id)
    }

    /// Acknowledges what is stored of a chat, with a reply when that is durable.
    pub fn ack_confirmed(&mut self, chat: ChatId) -> Option<u64> {
        let state = self.chats.get_mut(&chat)?;
        let seq = state.stored.min(state.came);
        state.acked = state.acked.max(seq);
        self.request(|id| ClientFrame::Ack { id: Some(id), chat, seq })
    }

    /// Queues a frame without an id; false: there is no connection.
    pub fn put(&mut self, frame: ClientFrame) -> bool {
        let is_up = self.line == Line::Up;
        if is_up {
            self.frames.push_back(frame);
        }
        is_up
    }

    /// Answers a history request of a sub, as a main. The page is cut to what one frame may hold, newest first. An
    /// empty page of a main that has lost older messages (`more`) is `unavailable`, as the contract wants it.
    pub fn serve(&mut self, request: String, page: Page) {
        let frame = page::answer(request, page);
        self.put(frame);
    }

    /// The next frame to send. Acknowledgements are made here, so that one stands for all that was stored since.
    pub fn poll_frame(&mut self) -> Option<ClientFrame> {
        if self.line != Line::Up {
            return None;
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        while let Some(chat) = self.behind.pop_first() {
            let state = self.chats.get_mut(&chat);
            if let Some((state, seq)) = state.and_then(|state| state.ack_due().map(|seq| (state, seq))) {
                state.acked = seq;
                return Some(ClientFrame::Ack { id: None, chat, seq });
            }
        }
        let due = self.reads.iter_mut().find_map(|(chat, reading)| match *reading {
            Reading::Due(seq) => {
                *reading = Reading::UnderWay(seq);
                Some((*chat, seq))
            }
            _ => None,
        });
        if let Some((chat, seq)) = due {
            let id = self.ask(Asked::Read(chat, seq));
            return Some(ClientFrame::Read { id, chat, seq });
        }
        let Unsent { key, chat, draft } = self.outbox.next()?;
        let id = self.ask(Asked::Send(chat, key));
        Some(ClientFrame::Send { id, chat, key, draft: Box::new(draft) })
    }

    fn ask(&mut self, asked: Asked) -> u64 {
        self.last_id += 1;
        self.asked.insert(self.last_id, asked);
        self.last_id
    }
}
