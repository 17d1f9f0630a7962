//! What a device knows: its copy of the chats, how its lines went, and what it saw that the contract doesn't allow.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

/// The answer to a frame: its `ok`, or the words of its error.
type Answer = oneshot::Sender<Result<Value, String>>;

/// A device's copy of one chat.
#[derive(Debug, Default)]
pub struct Copy {
    messages: BTreeMap<u64, Kept>,
    /// How far the user has read, as far as this device knows.
    pub read: u64,
}

#[derive(Debug)]
struct Kept {
    frame: Value,
    hash: [u8; 32],
}

impl Copy {
    /// The highest seq; 0 when it is empty.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.messages.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether a message is there.
    #[must_use]
    pub fn has(&self, seq: u64) -> bool {
        self.messages.contains_key(&seq)
    }

    /// What a message says, as a hash over the whole frame.
    #[must_use]
    pub fn hash(&self, seq: u64) -> Option<[u8; 32]> {
        self.messages.get(&seq).map(|kept| kept.hash)
    }

    /// The page that a sub asked for: the newest below `before`, ascending, and whether there are older ones.
    #[must_use]
    pub fn page(&self, before: u64, limit: usize) -> (Vec<&Value>, bool) {
        let mut page: Vec<_> =
            self.messages.range(..before).rev().take(limit).map(|(_, kept)| &kept.frame).collect();
        page.reverse();
        let below = self.messages.range(..before).count();
        let more = below > page.len();
        (page, more)
    }
}

#[derive(Debug)]
struct Line {
    opened: Instant,
    welcome: Option<Value>,
    closed: Option<(u16, String)>,
}

/// Everything that a device knows.
#[derive(Debug, Default)]
pub struct Memory {
    chats: BTreeMap<String, Copy>,
    lines: HashMap<u64, Line>,
    replies: HashMap<u64, Answer>,
    events: Vec<(String, String)>,
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

impl Memory {
    /// Its copy of a chat.
    #[must_use]
    pub fn chat(&self, chat: &str) -> Option<&Copy> {
        self.chats.get(chat)
    }

    /// The highest seq of each chat.
    #[must_use]
    pub fn highest(&self) -> Vec<(String, u64)> {
        self.chats.iter().map(|(chat, copy)| (chat.clone(), copy.highest())).collect()
    }

    /// Whether it has this message.
    #[must_use]
    pub fn has(&self, chat: &str, seq: u64) -> bool {
        self.chats.get(chat).is_some_and(|copy| copy.has(seq))
    }

    /// How many events there were; see [`Memory::event_since`].
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Whether a `device` event of this kind came since.
    #[must_use]
    pub fn event_since(&self, since: usize, event: &str, device: &str) -> bool {
        self.events.iter().skip(since).any(|(kind, id)| kind == event && id == device)
    }

    /// The `welcome` of a line.
    #[must_use]
    pub fn welcome(&self, line: u64) -> Option<Value> {
        self.lines.get(&line)?.welcome.clone()
    }

    /// Whether a line is at its end.
    #[must_use]
    pub fn closed(&self, line: u64) -> bool {
        self.lines.get(&line).is_none_or(|line| line.closed.is_some())
    }

    /// How a line ended: the close code and its reason.
    #[must_use]
    pub fn close_of(&self, line: u64) -> Option<(u16, String)> {
        self.lines.get(&line)?.closed.clone()
    }

    pub(super) fn open(&mut self, line: u64) {
        self.lines.insert(line, Line { opened: Instant::now(), welcome: None, closed: None });
    }

    pub(super) fn close(&mut self, line: u64, code: u16, reason: String) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.closed.get_or_insert((code, reason));
        }
        if self.lines.values().all(|line| line.closed.is_some()) {
            // Whoever waits for an answer learns that none will come.
            self.replies.clear();
        }
    }

    pub(super) fn welcomed(&mut self, line: u64, welcome: Value) {
        for entry in welcome.get("chats").and_then(Value::as_array).into_iter().flatten() {
            if let (Some(chat), Some(read)) = (text(entry, "id"), number(entry, "read")) {
                self.read_moved(&chat, read);
            }
        }
        if let Some(line) = self.lines.get_mut(&line) {
            line.welcome = Some(welcome);
        }
    }

    pub(super) fn event(&mut self, event: String, device: String) {
        self.events.push((event, device));
    }

    pub(super) fn expect_reply(&mut self, id: u64, answer: Answer) {
        self.replies.insert(id, answer);
    }

    pub(super) fn replied(&mut self, id: u64, answer: Result<Value, String>) {
        match self.replies.remove(&id) {
            // Whoever asked may have given up.
            Some(waiting) => drop(waiting.send(answer)),
            None => self.faults.push(format!("a reply to {id}, which nothing waits for")),
        }
    }

    /// The read offset never goes back.
    pub(super) fn read_moved(&mut self, chat: &str, seq: u64) {
        let copy = self.chats.entry(chat.to_owned()).or_default();
        copy.read = copy.read.max(seq);
    }

    /// A message that came live on a line; `sent` says when it was sent, if that was in this process.
    pub(super) fn arrived(&mut self, line: u64, chat: &str, seq: u64, frame: Value, sent: Option<Instant>) {
        let opened = self.lines.get(&line).map(|line| line.opened);
        if let (Some(sent), Some(opened)) = (sent, opened)
            && opened < sent
        {
            self.waits.push(sent.elapsed());
        }
        if self.keep(chat, seq, frame) { self.live += 1 } else { self.repeated += 1 }
    }

    /// A page of the past; the lowest seq in it.
    pub(super) fn borrowed(
        &mut self,
        chat: &str,
        before: Option<u64>,
        items: Vec<Value>,
    ) -> Result<Option<u64>, String> {
        let (mut lowest, mut last) = (None, 0);
        for item in items {
            let place = text(&item, "chat").zip(number(&item, "seq"));
            let Some((of, seq)) = place else {
                return Err("a page with something that isn't a message".to_owned());
            };
            if of != chat || seq <= last || before.is_some_and(|before| seq >= before) {
                return Err(format!(
                    "a page that doesn't fit its question: #{seq} after #{last}, below {before:?}"
                ));
            }
            last = seq;
            lowest.get_or_insert(seq);
            if self.keep(chat, seq, item) {
                self.borrowed += 1;
            }
        }
        Ok(lowest)
    }

    /// True: it is new. What is there stays, and has to be the same.
    fn keep(&mut self, chat: &str, seq: u64, frame: Value) -> bool {
        // Keys are sorted, so the same fields give the same text.
        let hash = Sha256::digest(frame.to_string().as_bytes()).into();
        let copy = self.chats.entry(chat.to_owned()).or_default();
        if let Some(kept) = copy.messages.get(&seq) {
            if kept.hash != hash {
                self.faults.push(format!("#{seq} came again and says something else"));
            }
            return false;
        }
        copy.messages.insert(seq, Kept { frame, hash });
        true
    }
}

/// A string of a JSON object.
pub(super) fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A number of a JSON object.
pub(super) fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(seq: u64, said: &str) -> Value {
        json!({"type": "message", "chat": "c", "seq": seq, "content": said})
    }

    #[test]
    fn the_same_message_twice_is_counted_and_another_one_is_a_fault() {
        let mut memory = Memory::default();
        memory.arrived(1, "c", 1, message(1, "a"), None);
        memory.arrived(1, "c", 1, message(1, "a"), None);
        assert_eq!((memory.live, memory.repeated, memory.faults.len()), (1, 1, 0));
        memory.arrived(1, "c", 1, message(1, "b"), None);
        assert_eq!(memory.faults.len(), 1);
    }

    #[test]
    fn a_page_is_the_newest_below_and_ascends() {
        let mut memory = Memory::default();
        (1..=5).for_each(|seq| memory.arrived(1, "c", seq, message(seq, "a"), None));
        let seqs = |page: &[&Value]| page.iter().filter_map(|item| number(item, "seq")).collect::<Vec<_>>();
        let copy = memory.chat("c").unwrap();
        let (page, more) = copy.page(5, 3);
        assert_eq!((seqs(&page), more), (vec![2, 3, 4], true));
        let (page, more) = copy.page(2, 3);
        assert_eq!((seqs(&page), more), (vec![1], false));
    }

    #[test]
    fn a_page_that_does_not_fit_its_question_is_refused() {
        let mut memory = Memory::default();
        assert_eq!(memory.borrowed("c", Some(3), vec![message(1, "a"), message(2, "b")]), Ok(Some(1)));
        assert!(memory.borrowed("c", Some(2), vec![message(2, "b")]).is_err());
        assert!(memory.borrowed("c", None, vec![message(2, "b"), message(1, "a")]).is_err());
        assert!(memory.borrowed("d", None, vec![message(1, "a")]).is_err());
    }

    #[test]
    fn the_read_offset_never_goes_back() {
        let mut memory = Memory::default();
        memory.read_moved("c", 7);
        memory.read_moved("c", 3);
        assert_eq!(memory.chat("c").map(|copy| copy.read), Some(7));
    }
}
