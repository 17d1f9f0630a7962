//! What each device was owed and got: 3 (no loss), 6 (one after the other), 7 (nothing twice once acknowledged), 8 (scope).

use std::collections::HashMap;

use super::super::{Entry, Event, History, Seq, Socket, What};
use super::ledger::Ledger;
use super::lives::Lives;
use super::{Report, Rising};

/// A chat on a socket.
#[derive(Debug, Clone, Copy)]
struct Live {
    from: Seq,
    cursor: Seq,
    last: Seq,
    detached: bool,
}

/// A chat on a device.
#[derive(Debug, Default)]
struct Got {
    seqs: Vec<Seq>,
    gaps: Vec<(Seq, Seq)>,
    acked: Rising,
    from: Rising,
}

struct Delivery<'h, 'c> {
    history: &'h History,
    ledger: &'c Ledger<'h>,
    lives: &'c Lives<'h>,
    live: HashMap<(Socket, &'h str), Live>,
    got: HashMap<(&'h str, &'h str), Got>,
    report: &'c mut Report,
}

pub(super) fn check<'h>(history: &'h History, ledger: &Ledger<'h>, lives: &Lives<'h>, report: &mut Report) {
    let (live, got) = (HashMap::new(), HashMap::new());
    let mut delivery = Delivery { history, ledger, lives, live, got, report };
    for (place, event) in history.events.iter().enumerate() {
        delivery.event(place, event);
    }
    delivery.end();
}

impl<'h> Delivery<'h, '_> {
    fn event(&mut self, place: usize, event: &'h Event) {
        let at = event.at;
        match &event.what {
            What::Welcome { device, socket, chats, .. } => {
                for (chat, entry) in chats {
                    self.entry(place, at, device, *socket, chat, entry);
                }
            }
            What::Attached { device, socket, chat, entry } => {
                self.entry(place, at, device, *socket, chat, entry);
            }
            What::Detached { socket, chat, .. } => {
                if let Some(live) = self.live.get_mut(&(*socket, chat.as_str())) {
                    live.detached = true;
                }
            }
            What::Message { device, socket, chat, seen } => {
                self.message(place, at, device, *socket, chat, seen.seq, &seen.key);
            }
            What::Gap { device, socket, chat, from, to, held } => {
                self.lost(place, at, device, *socket, chat, (*from, *to), held);
                self.gap(at, device, *socket, chat, *from, *to);
            }
            What::Acked { device, chat, seq, .. } => {
                self.got.entry((device, chat)).or_default().acked.push(place, *seq);
            }
            _ => {}
        }
    }

    fn entry(
        &mut self,
        place: usize,
        at: u64,
        device: &'h str,
        socket: Socket,
        chat: &'h str,
        entry: &Entry,
    ) {
        let Entry { head, cursor, from, .. } = *entry;
        let live = Live { from, cursor, last: cursor, detached: false };
        self.live.insert((socket, chat), live);
        let (lives, report) = (self.lives, &mut *self.report);
        if from > cursor || cursor > head {
            report
                .add(7, at, || format!("{device} in chat {chat}: from {from}, cursor {cursor}, head {head}"));
        }
        let connecting = lives.connecting(socket);
        let got = self.got.entry((device, chat)).or_default();
        let acked = got.acked.before(connecting);
        if cursor < acked {
            report.add(7, at, || {
                format!(
                    "{device} in chat {chat}: cursor {cursor} on socket {socket}, but {acked} was confirmed"
                )
            });
        }
        let told = got.from.before(connecting);
        if from < told {
            report.add(8, at, || format!("{device} in chat {chat}: from {from}, and was {told} before"));
        }
        got.from.push(place, from);
        let ledger = self.ledger.chat(chat);
        let Some(life) = lives.devices.get(device) else { return };
        let Some(member) = lives.member(life.user, chat) else {
            let user = life.user;
            report.add(8, at, || format!("{device}: chat {chat}, in which {user} never was"));
            return;
        };
        if member.out_between(connecting, place).is_some() {
            report.add(8, at, || {
                format!("{device}: chat {chat} on socket {socket}, after {} had left it", life.user)
            });
        }
        let began = member.began_earliest(connecting).unwrap_or(0).max(life.registering);
        let there = ledger.told_before(began);
        if from < there {
            report.add(8, at, || {
                format!(
                    "{device} in chat {chat}: from {from}, but {there} messages were there before it came"
                )
            });
        }
        if let (Some(joined), Some(registered)) = (member.inside_since(place), life.registered)
            && let Some(least) = ledger.least_after(joined.max(registered))
            && least <= from
        {
            report.add(3, at, || {
                format!(
                    "{device} in chat {chat}: from {from}, but {least} was sent when it was there already"
                )
            });
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of one event")]
    fn message(
        &mut self,
        place: usize,
        at: u64,
        device: &'h str,
        socket: Socket,
        chat: &'h str,
        seq: Seq,
        key: &str,
    ) {
        self.got.entry((device, chat)).or_default().seqs.push(seq);
        let (lives, report) = (self.lives, &mut *self.report);
        let member = lives.member(lives.user(device), chat);
        let sent = self.ledger.chat(chat).keys.get(key).and_then(|known| known.first_sending);
        // From the answer on, on any edge.
        if let Some(member) = member
            && (sent.is_some_and(|sent| member.out_between(sent, place).is_some())
                || member
                    .out_between(place, place)
                    .and_then(|left| member.head_at(left))
                    .is_some_and(|head| seq > head))
        {
            report.add(8, at, || {
                format!(
                    "{device} in chat {chat}: {seq} was appended after the leave of {} was answered, and received",
                    lives.user(device)
                )
            });
        }
        let Some(live) = self.live.get_mut(&(socket, chat)).filter(|live| !live.detached) else {
            report.add(8, at, || {
                format!("{device}, socket {socket}: {seq} of chat {chat}, which it isn't in on this socket")
            });
            return;
        };
        let Live { from, cursor, last, .. } = *live;
        live.last = last.max(seq);
        if seq == last + 1 {
            return;
        }
        let (rule, why) = match seq {
            seq if seq <= from => (8, format!("it begins above {from}")),
            seq if seq <= cursor => (7, format!("the cursor was {cursor}")),
            _ => (6, format!("the last was {last}")),
        };
        report.add(rule, at, || format!("{device}, socket {socket}, chat {chat}: {seq} came, and {why}"));
    }

    #[allow(clippy::too_many_arguments, reason = "all of one event")]
    fn lost(
        &mut self,
        place: usize,
        at: u64,
        device: &'h str,
        socket: Socket,
        chat: &'h str,
        (from, to): (Seq, Seq),
        held: &[Seq],
    ) {
        // One whose end has begun isn't owed anything, though its old connection may live on for a while.
        let lives = self.lives;
        if lives.devices.get(device).and_then(|life| life.ending).is_some_and(|ending| place >= ending) {
            return;
        }
        let gap = || format!("{device}, socket {socket}, chat {chat}: gap {from} to {to}");
        let owed = lives.member(lives.user(device), chat).is_some_and(|it| it.inside_since(place).is_some());
        if let (true, Some(first), Some(last)) = (owed, held.first(), held.last()) {
            let count = held.len();
            let held = || {
                format!(
                    "{}, and {count} of it, {first} to {last}, are still there or were finished unseen",
                    gap()
                )
            };
            self.report.add(3, at, held);
        } else if !self.history.rules.gaps {
            self.report.add(3, at, || format!("{}: nothing may be lost here", gap()));
        }
    }

    fn gap(&mut self, at: u64, device: &'h str, socket: Socket, chat: &'h str, from: Seq, to: Seq) {
        self.got.entry((device, chat)).or_default().gaps.push((from, to));
        let gap = || format!("{device}, socket {socket}, chat {chat}: gap {from} to {to}");
        let Some(live) = self.live.get_mut(&(socket, chat)).filter(|live| !live.detached) else {
            self.report.add(8, at, || format!("{}: it isn't in it on this socket", gap()));
            return;
        };
        let last = live.last;
        live.last = last.max(to);
        if from != last + 1 || to < from {
            self.report.add(6, at, || format!("{}: the last was {last}", gap()));
        }
    }

    fn end(&mut self) {
        let end = &self.history.end;
        for (device, chats) in &end.devices {
            for (chat, entry) in chats {
                let head = end.heads.get(chat).copied().unwrap_or(entry.head);
                let mut empty = Got::default();
                let got = self.got.get_mut(&(device.as_str(), chat.as_str())).unwrap_or(&mut empty);
                let lost = missing(got, entry.from, head, self.history.rules.gaps);
                if !lost.is_empty() {
                    self.report
                        .add(3, None, || format!("{device} never got {} of chat {chat}", spans(&lost)));
                }
            }
        }
        let last = self.history.events.len();
        for (device, life) in &self.lives.devices {
            if life.registered.is_none() || life.ending.is_some() {
                continue;
            }
            let Some(chats) = end.devices.get(*device) else {
                self.report.add(3, None, || format!("{device} lives, and isn't there in the end"));
                continue;
            };
            for (chat, boundary) in end.boundaries.get(life.user).into_iter().flatten() {
                // It is owed everything from when its user was there, or it itself, whichever came later.
                let there = self.ledger.chat(chat).begun_before(life.registered.unwrap_or(0)).max(*boundary);
                if let Some(entry) = chats.get(chat).filter(|entry| entry.from > there) {
                    let from = entry.from;
                    self.report.add(3, None, || {
                        format!("{device} in chat {chat}: from {from}, and it is owed all above {there}")
                    });
                }
            }
            for (chat, member) in self.lives.members.get(life.user).into_iter().flatten() {
                if !chats.contains_key(*chat) && member.inside_since(last).is_some() {
                    let user = life.user;
                    self.report.add(3, None, || format!("{device} isn't in chat {chat}, and {user} is"));
                }
            }
        }
    }
}

/// The stretches from above `from` to `head` that were neither received nor, if that may be, told as a gap.
fn missing(got: &mut Got, from: Seq, head: Seq, gaps: bool) -> Vec<(Seq, Seq)> {
    got.seqs.sort_unstable();
    let mut there: Vec<(Seq, Seq)> = got.seqs.iter().map(|seq| (*seq, *seq)).collect();
    if gaps {
        there.extend(&got.gaps);
        there.sort_unstable();
    }
    let (mut next, mut lost) = (from + 1, Vec::new());
    for (first, last) in there {
        if first > next && next <= head {
            lost.push((next, head.min(first - 1)));
        }
        next = next.max(last + 1);
    }
    if next <= head {
        lost.push((next, head));
    }
    lost
}

/// In words.
pub(super) fn spans(spans: &[(Seq, Seq)]) -> String {
    let words = spans
        .iter()
        .take(8)
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let more = if spans.len() > 8 { ", …" } else { "" };
    words.collect::<Vec<_>>().join(", ") + more
}
