//! What is known of each message: when its key was first sent, which seq it has, how its frame looks. Decides 1 (no
//! invention), 2 (one key, one seq, one frame), 4 (dense), 5 (real-time order) and 15 (refused means nothing happened).

use std::collections::HashMap;

use super::super::{History, Seen, Seq, What};
use super::{Report, Rising};

/// One key in its chat.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where it was first sent; none if it never was.
    pub first_sending: Option<usize>,
    /// Its number, as soon as anybody was told.
    pub seq: Option<Seq>,
    // How often it went out, and how often that was refused for good.
    sendings: usize,
    refusals: usize,
    // The highest number that anybody knew of when it was first sent.
    floor: Seq,
}

/// One chat.
#[derive(Debug, Default)]
pub(super) struct Chat<'h> {
    pub keys: HashMap<&'h str, Known>,
    /// By number: the key, and the frame's hash once it was received.
    seqs: HashMap<Seq, (&'h str, Option<u64>)>,
    // Where each key was first sent, in order.
    begun: Vec<usize>,
    // The highest number that anybody was told of.
    told: Rising,
    // Where each numbered key was first sent, and the lowest number from there on.
    least: Vec<(usize, Seq)>,
}

impl Chat<'_> {
    /// How many messages there can be at most at a place: as many as were begun before it.
    pub fn begun_before(&self, place: usize) -> Seq {
        self.begun.partition_point(|begun| *begun < place) as Seq
    }

    /// How many messages there were at least at a place: what somebody was told before it.
    pub fn told_before(&self, place: usize) -> Seq {
        self.told.before(place)
    }

    /// The lowest number of all messages first sent after a place.
    pub fn least_after(&self, place: usize) -> Option<Seq> {
        self.least.get(self.least.partition_point(|(begun, _)| *begun <= place)).map(|(_, seq)| *seq)
    }
}

/// All chats.
#[derive(Debug, Default)]
pub(super) struct Ledger<'h> {
    chats: HashMap<&'h str, Chat<'h>>,
    none: Chat<'h>,
}

impl<'h> Ledger<'h> {
    /// Reads the history.
    pub fn of(history: &'h History, report: &mut Report) -> Ledger<'h> {
        let mut ledger = Ledger::default();
        for (place, event) in history.events.iter().enumerate() {
            let mut saw = |chat, key, seq, frame, rule| {
                ledger.saw(place, event.at, chat, key, seq, frame, rule, report);
            };
            match &event.what {
                What::Sending { chat, key, .. } => ledger.sending(place, chat, key),
                What::Refused { chat, key, .. } => {
                    ledger.chat_mut(chat).keys.entry(key).or_default().refusals += 1;
                }
                What::Sent { chat, key, seq } => saw(chat, key, *seq, None, 2),
                What::Message { chat, seen: Seen { seq, key, frame }, .. } => {
                    saw(chat, key, *seq, Some(*frame), 2);
                }
                What::Page { chat, messages, .. } => {
                    for Seen { seq, key, frame } in messages {
                        saw(chat, key, *seq, Some(*frame), 13);
                    }
                }
                What::Welcome { chats, .. } => {
                    for (chat, entry) in chats {
                        ledger.head(place, event.at, chat, entry.head, report);
                    }
                }
                What::Attached { chat, entry, .. } => {
                    ledger.head(place, event.at, chat, entry.head, report);
                }
                _ => {}
            }
        }
        for (name, chat) in &mut ledger.chats {
            finish(name, chat, history.end.heads.get(*name).copied(), report);
        }
        ledger
    }

    /// One chat; an empty one if nobody ever sent there.
    pub fn chat(&self, chat: &str) -> &Chat<'h> {
        self.chats.get(chat).unwrap_or(&self.none)
    }

    fn chat_mut(&mut self, chat: &'h str) -> &mut Chat<'h> {
        self.chats.entry(chat).or_default()
    }

    fn sending(&mut self, place: usize, chat: &'h str, key: &'h str) {
        let chat = self.chat_mut(chat);
        let floor = chat.told.last();
        let known = chat.keys.entry(key).or_default();
        known.sendings += 1;
        if known.first_sending.is_none() {
            (known.first_sending, known.floor) = (Some(place), floor);
            chat.begun.push(place);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one message as one of many kinds of witness saw it")]
    fn saw(
        &mut self,
        place: usize,
        at: u64,
        name: &'h str,
        key: &'h str,
        seq: Seq,
        frame: Option<u64>,
        rule: u8,
        report: &mut Report,
    ) {
        let chat = self.chat_mut(name);
        let known = chat.keys.entry(key).or_default();
        if known.first_sending.is_none() {
            report.add(1, at, || format!("chat {name}: {seq} ({key}) was seen, and never sent before"));
            // Told once is enough.
            known.first_sending = Some(place);
            chat.begun.push(place);
        }
        let before = *known.seq.get_or_insert(seq);
        let line = chat.seqs.entry(seq).or_insert((key, frame));
        if before != seq {
            report.add(rule, at, || format!("chat {name}: {key} is {seq} here, and was {before}"));
        } else if line.0 != key {
            let other = line.0;
            report.add(rule, at, || format!("chat {name}: {seq} is {key} here, and was {other}"));
        } else if let Some(frame) = frame
            && *line.1.get_or_insert(frame) != frame
        {
            report.add(rule, at, || format!("chat {name}: {seq} ({key}) has another frame than before"));
        }
        self.head(place, at, name, seq, report);
    }

    /// Somebody was told that there are so many.
    fn head(&mut self, place: usize, at: u64, name: &'h str, head: Seq, report: &mut Report) {
        let chat = self.chat_mut(name);
        let most = chat.begun.len() as Seq;
        if head > most {
            report.add(4, at, || format!("chat {name}: number {head}, with only {most} messages ever sent"));
        }
        chat.told.push(place, head);
    }
}

fn finish(name: &str, chat: &mut Chat<'_>, end: Option<Seq>, report: &mut Report) {
    if chat.seqs.contains_key(&0) {
        report.add(4, None, || format!("chat {name}: a message has number 0"));
    }
    let told = chat.told.last();
    if let Some(end) = end.filter(|end| *end < told) {
        report.add(3, None, || format!("chat {name}: its head is {end} in the end, and {told} was told"));
    }
    let head = end.unwrap_or(0).max(told);
    let unnumbered = head.saturating_sub(chat.seqs.len() as Seq);
    let unknown = chat.keys.values().filter(|known| known.seq.is_none() && !known.refused()).count() as Seq;
    if unnumbered > unknown {
        report.add(4, None, || {
            format!("chat {name}: {unnumbered} numbers up to {head} have no message; {unknown} outcomes are unknown")
        });
    }
    for (key, known) in &chat.keys {
        let Some(seq) = known.seq else { continue };
        if seq <= known.floor {
            let floor = known.floor;
            report.add(5, None, || {
                format!("chat {name}: {seq} ({key}) was sent when {floor} was known already")
            });
        }
        if known.refused() {
            report.add(15, None, || format!("chat {name}: {seq} ({key}) was refused, and is there"));
        }
    }
    let numbered = chat.keys.values().filter_map(|known| Some((known.first_sending?, known.seq?)));
    chat.least = numbered.collect();
    chat.least.sort_unstable();
    let mut least = Seq::MAX;
    for (_, seq) in chat.least.iter_mut().rev() {
        least = least.min(*seq);
        *seq = least;
    }
}

impl Known {
    /// Whether each try was refused for good.
    fn refused(&self) -> bool {
        self.sendings > 0 && self.refusals >= self.sendings
    }
}
