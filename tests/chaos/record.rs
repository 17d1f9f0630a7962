//! The history: what all clients of a run do and see, in the order of one clock.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::closes::Close;
use crate::gaps::{Loss, Told};
use crate::history::{Event, Phase, Seq, What};

/// In microseconds: how soon a client loses a connection by a fault, and reconnects.
const SOON: u64 = 3_000_000;

/// Counters besides the history, to see the effect of faults.
#[derive(Debug, Default)]
pub struct Tally {
    /// Sends whose connection ended before their answer.
    pub unknown: AtomicU64,
    /// Answers that said "unavailable" or "draining".
    pub unavailable: AtomicU64,
    /// Sockets that ended without the client wanting it.
    pub dropped: AtomicU64,
    /// Registrations, joins, leaves and terminations that are done.
    pub provisioned: AtomicU64,
    /// When a fault last began or healed, in microseconds.
    pub fault: AtomicU64,
    /// Terminations that are done.
    pub done: AtomicU64,
    /// Welcomed sockets.
    pub welcomed: AtomicU64,
    /// Calls whose callers gave up.
    pub given_up: AtomicU64,
    /// Active faults that may cut an edge off from nsqd.
    pub away: AtomicU64,
}

impl Tally {
    /// Whether there is such a fault.
    pub fn nsqd_away(&self) -> bool {
        self.away.load(Relaxed) > 0
    }
}

#[derive(Debug, Default)]
struct Book {
    events: Vec<Event>,
    // What everybody is owed: the highest acknowledged seq of each chat, the highest confirmed offset of each user.
    acknowledged: HashMap<String, Seq>,
    marked: HashMap<(String, String), Seq>,
    acks: u64,
    messages: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    book: Mutex<Book>,
    sockets: AtomicU64,
    /// See [`Tally`].
    pub tally: Tally,
    /// Sockets that the server closed, with what is needed to judge that.
    pub closes: Mutex<Vec<Close>>,
    /// Gaps, with the messages in the queues at that time.
    pub gaps: Mutex<Vec<Told>>,
    /// When an nsqd may have lost confirmed messages.
    pub losses: Mutex<Vec<Loss>>,
    /// Violations that the SDK's core reported.
    pub doubts: Mutex<Vec<String>>,
}

impl Recorder {
    /// Returns an empty one.
    pub fn new() -> Recorder {
        Recorder {
            began: Instant::now(),
            book: Mutex::default(),
            sockets: AtomicU64::new(0),
            tally: Tally::default(),
            closes: Mutex::default(),
            gaps: Mutex::default(),
            losses: Mutex::default(),
            doubts: Mutex::default(),
        }
    }

    /// Records an event with the present time.
    pub fn write(&self, what: What) {
        let mut book = self.book.lock().unwrap();
        match &what {
            What::Sent { chat, seq, .. } => {
                book.acks += 1;
                let highest = book.acknowledged.entry(chat.clone()).or_default();
                *highest = (*highest).max(*seq);
            }
            What::Message { .. } => book.messages += 1,
            What::Done { .. } => count(&self.tally.done),
            What::Fault { .. } => self.tally.fault.store(self.now(), Relaxed),
            _ => {}
        }
        let at = self.now();
        book.events.push(Event { at, what });
    }

    /// Returns a read offset that a user's devices must all learn.
    pub fn marked(&self, user: &str, chat: &str, seq: Seq) {
        let mut book = self.book.lock().unwrap();
        let highest = book.marked.entry((user.to_owned(), chat.to_owned())).or_default();
        *highest = (*highest).max(seq);
    }

    /// Returns the microseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns a number for a new socket.
    pub fn socket(&self) -> u64 {
        self.sockets.fetch_add(1, Relaxed) + 1
    }

    /// Returns what must be delivered now: by chat, and by user and chat.
    pub fn owed(&self) -> (BTreeMap<String, Seq>, BTreeMap<(String, String), Seq>) {
        let book = self.book.lock().unwrap();
        let chats = book.acknowledged.iter().map(|(chat, seq)| (chat.clone(), *seq)).collect();
        (chats, book.marked.iter().map(|(of, seq)| (of.clone(), *seq)).collect())
    }

    /// Returns the acknowledged sends and received messages so far.
    pub fn counts(&self) -> (u64, u64) {
        let book = self.book.lock().unwrap();
        (book.acks, book.messages)
    }

    /// Returns, in milliseconds, the time from the start of the last fault of this name until all clients that it
    /// disconnected, and that want to connect, were welcome again.
    pub fn back_after(&self, fault: &str) -> Option<u64> {
        let book = self.book.lock().unwrap();
        let begun = book.events.iter().rposition(
            |event| matches!(&event.what, What::Fault { name, phase: Phase::Begun } if name == fault),
        )?;
        let since = book.events[begun].at;
        // By device: when it lost its connection, and when it began to connect again.
        let (mut lost, mut back) = (HashMap::new(), None);
        for event in &book.events[begun..] {
            match &event.what {
                What::Closed { device, code, .. } if event.at < since + SOON && *code != Some(4403) => {
                    lost.insert(device.as_str(), event.at);
                }
                // Who doesn't even try for a while is away because it was told to be.
                What::Connecting { device, .. } => {
                    lost.retain(|of, at| of != device || event.at < *at + SOON);
                    lost.entry(device).and_modify(|at| *at = event.at);
                }
                What::Welcome { device, .. } if lost.remove(device.as_str()).is_some() => {
                    back = back.max(Some((event.at - since) / 1000));
                }
                What::Closed { device, .. } => {
                    lost.entry(device).and_modify(|at| *at = event.at);
                }
                _ => {}
            }
        }
        back
    }

    /// Returns the history so far.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.book.lock().unwrap().events)
    }
}

/// Counts one event.
pub fn count(what: &AtomicU64) {
    what.fetch_add(1, Relaxed);
}

/// Returns a frame's hash.
pub fn hash(frame: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    frame.hash(&mut hasher);
    hasher.finish()
}
