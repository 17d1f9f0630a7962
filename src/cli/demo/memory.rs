//! What a device knows: its copy of the chats, how its lines went, and what it saw that the contract doesn't allow.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use keepstep_client::{
    ChatId, Close, DeviceId, MemoryStorage, Message, Page,
    frame::{DeviceEvent, DeviceNotice, Welcome},
};

/// Far more than the conversation has.
const ROOM: usize = 64 << 20;

#[derive(Debug)]
struct Line {
    opened: Instant,
    welcome: Option<Box<Welcome>>,
    closed: Option<Close>,
}

/// Everything that a device knows.
#[derive(Debug)]
pub struct Memory {
    history: MemoryStorage,
    reads: BTreeMap<ChatId, u64>,
    lines: HashMap<u64, Line>,
    events: Vec<DeviceNotice>,
    /// Departures from the contract.
    pub faults: Vec<String>,
    /// Messages that came a second time because their acknowledgement hadn't gone out.
    pub repeated: u64,
    /// Messages that came live.
    pub live: u64,
    /// Messages that were borrowed from the main.
    pub borrowed: u64,
    /// From sending to arriving, for each message that was sent while this device was connected.
    pub waits: Vec<Duration>,
    /// Whether it doesn't acknowledge for now.
    pub hold_acks: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            history: MemoryStorage::new(ROOM),
            reads: BTreeMap::new(),
            lines: HashMap::new(),
            events: Vec::new(),
            faults: Vec::new(),
            repeated: 0,
            live: 0,
            borrowed: 0,
            waits: Vec::new(),
            hold_acks: false,
        }
    }
}

impl Memory {
    /// Its copy of the chats.
    #[must_use]
    pub fn history(&self) -> &MemoryStorage {
        &self.history
    }

    /// The highest seq of a chat; 0 when it is empty.
    #[must_use]
    pub fn highest(&self, chat: ChatId) -> u64 {
        self.history.span(chat).map_or(0, |span| span.high)
    }

    /// Whether it has this message.
    #[must_use]
    pub fn has(&self, chat: ChatId, seq: u64) -> bool {
        self.history.get(chat, seq).is_some()
    }

    /// How far the user has read, as far as this device knows.
    #[must_use]
    pub fn read(&self, chat: ChatId) -> u64 {
        self.reads.get(&chat).copied().unwrap_or(0)
    }

    /// How many events there were; see [`Memory::event_since`].
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Whether a `device` event of this kind came since.
    #[must_use]
    pub fn event_since(&self, since: usize, event: DeviceEvent, device: DeviceId) -> bool {
        self.events.iter().skip(since).any(|notice| notice.event == event && notice.device == device)
    }

    /// The `welcome` of a line.
    #[must_use]
    pub fn welcome(&self, line: u64) -> Option<Box<Welcome>> {
        self.lines.get(&line)?.welcome.clone()
    }

    /// Whether a line is at its end.
    #[must_use]
    pub fn closed(&self, line: u64) -> bool {
        self.lines.get(&line).is_none_or(|line| line.closed.is_some())
    }

    /// How a line ended.
    #[must_use]
    pub fn close_of(&self, line: u64) -> Option<Close> {
        self.lines.get(&line)?.closed.clone()
    }

    pub(super) fn open(&mut self, line: u64) {
        self.lines.insert(line, Line { opened: Instant::now(), welcome: None, closed: None });
    }

    pub(super) fn close(&mut self, line: u64, close: Close) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.closed.get_or_insert(close);
        }
    }

    pub(super) fn welcomed(&mut self, line: u64, welcome: Box<Welcome>) {
        for entry in &welcome.chats {
            self.read_moved(entry.id, entry.read);
        }
        if let Some(line) = self.lines.get_mut(&line) {
            line.welcome = Some(welcome);
        }
    }

    pub(super) fn event(&mut self, notice: DeviceNotice) {
        self.events.push(notice);
    }

    /// The read offset never goes back.
    pub(super) fn read_moved(&mut self, chat: ChatId, seq: u64) {
        let read = self.reads.entry(chat).or_default();
        *read = (*read).max(seq);
    }

    /// A message that came live on a line; `sent` says when it was sent, if that was in this process.
    pub(super) fn arrived(&mut self, line: u64, message: &Message, sent: Option<Instant>) {
        let opened = self.lines.get(&line).map(|line| line.opened);
        if let (Some(sent), Some(opened)) = (sent, opened)
            && opened < sent
        {
            self.waits.push(sent.elapsed());
        }
        if self.keep(message) { self.live += 1 } else { self.repeated += 1 }
    }

    /// A page of the past.
    pub(super) fn borrowed(&mut self, page: &Page) {
        for message in &page.messages {
            if self.keep(message) {
                self.borrowed += 1;
            }
        }
    }

    /// True: it is new. What is there stays, and has to be the same.
    fn keep(&mut self, message: &Message) -> bool {
        let is_new = self.history.insert(std::slice::from_ref(message)) == 1;
        if !is_new && self.history.get(message.chat, message.seq).as_ref() != Some(message) {
            self.faults.push(format!("#{} came again and says something else", message.seq));
        }
        is_new
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/cli/demo/memory.rs"]
mod tests;
