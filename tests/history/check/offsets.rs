//! 9: a user's read offset in a chat is one number that only rises, the maximum of what was marked, never above the head.
//!
//! Each time somebody is told the offset, it is at least what anybody was told before the question began, and at most
//! what anybody had marked before the answer came (joining marks, too: everything up to the head then).

use std::collections::{HashMap, VecDeque};

use super::super::{Entry, History, Seq, Socket, What};
use super::ledger::Ledger;
use super::lives::Lives;
use super::{Report, Rising};

#[derive(Debug, Default)]
struct Offset {
    told: Rising,
    asked: Rising,
}

/// The offset as somebody was told it.
struct Told<'h> {
    user: &'h str,
    chat: &'h str,
    value: Seq,
    // Where the question began at the earliest, and where the answer was in.
    asked: usize,
    place: usize,
    at: Option<u64>,
    how: &'static str,
}

struct Offsets<'h, 'c> {
    ledger: &'c Ledger<'h>,
    lives: &'c Lives<'h>,
    offsets: HashMap<(&'h str, &'h str), Offset>,
    // What was said last on a socket.
    said: HashMap<(Socket, &'h str), Seq>,
    // Where the marks began that aren't answered yet.
    open: HashMap<(Socket, &'h str, Seq), VecDeque<usize>>,
    report: &'c mut Report,
}

pub(super) fn check<'h>(history: &'h History, ledger: &Ledger<'h>, lives: &Lives<'h>, report: &mut Report) {
    let (offsets, said, open) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut all = Offsets { ledger, lives, offsets, said, open, report };
    for (place, event) in history.events.iter().enumerate() {
        all.event(place, event.at, &event.what);
    }
    let place = history.events.len();
    for (user, reads) in &history.end.reads {
        for (chat, value) in reads {
            all.told(Told { user, chat, value: *value, asked: place, place, at: None, how: "the end" });
            if let Some(head) = history.end.heads.get(chat).filter(|head| **head < *value) {
                all.report.add(9, None, || format!("{user} has read {value} of {head} in chat {chat}"));
            }
        }
        for (chat, member) in lives.members.get(user.as_str()).into_iter().flatten() {
            let marked = all.offsets.get(&(user.as_str(), *chat)).map_or(0, |offset| offset.told.last());
            if marked > 0 && !reads.contains_key(*chat) && member.inside_since(place).is_some() {
                all.report.add(9, None, || format!("{user} had read {marked} in chat {chat}: it is gone"));
            }
        }
    }
}

impl<'h> Offsets<'h, '_> {
    fn event(&mut self, place: usize, at: u64, what: &'h What) {
        match what {
            What::Marking { device, socket, chat, seq } => {
                self.open.entry((*socket, chat, *seq)).or_default().push_back(place);
                let user = self.lives.user(device);
                self.offsets.entry((user, chat)).or_default().asked.push(place, *seq);
            }
            What::Marked { device, socket, chat, asked, seq } => {
                let began =
                    self.open.get_mut(&(*socket, chat.as_str(), *asked)).and_then(VecDeque::pop_front);
                if *seq < *asked {
                    self.report.add(9, at, || format!("{device} in chat {chat}: marked {asked}, told {seq}"));
                }
                let user = self.lives.user(device);
                let asked = began.unwrap_or_else(|| self.lives.connecting(*socket));
                self.told(Told { user, chat, value: *seq, asked, place, at: Some(at), how: "a mark" });
                let said = self.said.entry((*socket, chat)).or_default();
                *said = (*said).max(*seq);
            }
            What::Read { device, socket, chat, seq } => {
                let said = self.said.entry((*socket, chat)).or_default();
                if *seq < *said {
                    let said = *said;
                    self.report.add(9, at, || {
                        format!("{device}, socket {socket}, chat {chat}: read {seq}, and was {said}")
                    });
                }
                *said = (*said).max(*seq);
                let (user, asked) = (self.lives.user(device), self.lives.connecting(*socket));
                self.told(Told { user, chat, value: *seq, asked, place, at: Some(at), how: "a read frame" });
            }
            What::Welcome { device, socket, chats, .. } => {
                for (chat, entry) in chats {
                    self.entry(place, at, device, *socket, chat, entry);
                }
            }
            What::Attached { device, socket, chat, entry } => {
                self.entry(place, at, device, *socket, chat, entry);
            }
            _ => {}
        }
    }

    fn entry(&mut self, place: usize, at: u64, device: &str, socket: Socket, chat: &'h str, entry: &Entry) {
        let Entry { read, head, .. } = *entry;
        if read > head {
            self.report.add(9, at, || format!("{device} in chat {chat}: read {read} of {head}"));
        }
        let (user, asked) = (self.lives.user(device), self.lives.connecting(socket));
        self.told(Told { user, chat, value: read, asked, place, at: Some(at), how: "an entry" });
        let said = self.said.entry((socket, chat)).or_default();
        *said = (*said).max(read);
    }

    fn told(&mut self, told: Told<'h>) {
        let Told { user, chat, value, asked, place, at, how } = told;
        let offset = self.offsets.entry((user, chat)).or_default();
        let (least, marked) = (offset.told.before(asked), offset.asked.before(place));
        offset.told.push(place, value);
        if value < least {
            self.report
                .add(9, at, || format!("{user} in chat {chat}: {how} says {value}, and it was {least}"));
        }
        if value <= marked {
            return;
        }
        let ledger = self.ledger.chat(chat);
        let joined = self.lives.member(user, chat).map_or(0, |member| member.joined_latest(place));
        if value > ledger.begun_before(joined) {
            self.report.add(9, at, || {
                format!("{user} in chat {chat}: {how} says {value}, but {marked} is the most that was marked")
            });
        }
    }
}
