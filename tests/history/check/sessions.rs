//! One live session per device (10), silence after the end (11), and no queue of nobody's (12).

use std::collections::{HashMap, HashSet};

use super::super::{Event, History, Seq, Socket, What};
use super::lives::Lives;
use super::{Report, Rising};

#[derive(Debug, Default)]
struct Sessions {
    seen: HashSet<u64>,
    highest: Rising,
    // Sockets that no newer session has followed yet, with their sessions.
    current: Vec<(Socket, u64)>,
}

/// What has been seen of one device's one chat.
type PerChat<'h, T> = HashMap<(&'h str, &'h str), T>;

struct Check<'h, 'c> {
    history: &'h History,
    lives: &'c Lives<'h>,
    devices: HashMap<&'h str, Sessions>,
    // Where and when a newer session was welcomed.
    superseded: HashMap<Socket, (usize, u64)>,
    // The newest session that was attached to a chat. (One that is welcome while its user is out of it owns nothing there.)
    owners: PerChat<'h, u64>,
    // Acknowledgements sent too late, and what was confirmed so far.
    late: HashMap<(Socket, &'h str, Seq), u64>,
    acked: PerChat<'h, Seq>,
    report: &'c mut Report,
}

pub(super) fn check<'h>(history: &'h History, lives: &Lives<'h>, report: &mut Report) {
    let (devices, superseded) = (HashMap::new(), HashMap::new());
    let (owners, late, acked) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut all = Check { history, lives, devices, superseded, owners, late, acked, report };
    for (place, event) in history.events.iter().enumerate() {
        all.session(place, event);
        all.ended(place, event);
    }
    all.end();
}

impl<'h> Check<'h, '_> {
    fn owns(&mut self, device: &'h str, chat: &'h str, session: u64) {
        let owner = self.owners.entry((device, chat)).or_default();
        *owner = session.max(*owner);
    }

    fn session(&mut self, place: usize, event: &'h Event) {
        let at = event.at;
        match &event.what {
            What::Welcome { device, socket, session, chats } => {
                for chat in chats.keys() {
                    self.owns(device, chat, *session);
                }
                let sessions = self.devices.entry(device).or_default();
                let before = sessions.highest.before(self.lives.connecting(*socket));
                if *session <= before || !sessions.seen.insert(*session) {
                    self.report.add(10, at, || {
                        format!("{device}, socket {socket}: session {session}, after session {before}")
                    });
                }
                sessions.highest.push(place, *session);
                sessions.current.push((*socket, *session));
                let newest = sessions.highest.last();
                sessions.current.retain(|(socket, session)| {
                    if *session < newest {
                        self.superseded.insert(*socket, (place, at));
                    }
                    *session == newest
                });
            }
            What::Message { device, socket, chat, seen } => {
                if let Some((_, since)) = self.superseded.get(socket)
                    && at > since + self.history.rules.lease
                {
                    let (seq, late) = (seen.seq, at - since);
                    self.report.add(10, at, || {
                        format!("{device}: {seq} of chat {chat} on socket {socket}, {late} µs after a newer session")
                    });
                }
            }
            What::Attached { device, socket, chat, .. } => {
                self.owns(device, chat, self.lives.session(*socket))
            }
            What::Acking { device, socket, chat, seq } => {
                let owner = self.owners.get(&(device.as_str(), chat.as_str())).copied().unwrap_or(0);
                if owner > self.lives.session(*socket) {
                    self.late.insert((*socket, chat, *seq), at);
                }
            }
            What::Acked { device, socket, chat, seq } => {
                let acked = self.acked.entry((device, chat)).or_default();
                // What was acknowledged already costs nothing to confirm again.
                if seq > acked && self.late.contains_key(&(*socket, chat.as_str(), *seq)) {
                    self.report.add(10, at, || {
                        format!("{device}: socket {socket} moved the cursor of chat {chat} to {seq} after a newer session")
                    });
                }
                *acked = (*acked).max(*seq);
            }
            _ => {}
        }
    }

    fn ended(&mut self, place: usize, event: &'h Event) {
        let at = event.at;
        let (device, frame) = match &event.what {
            What::Queue { node, chat, device } => {
                if self
                    .lives
                    .devices
                    .get(device.as_str())
                    .and_then(|life| life.done)
                    .is_some_and(|done| done < place)
                {
                    self.report
                        .add(12, at, || format!("{node} has a queue of {device} (ended) in chat {chat}"));
                }
                return;
            }
            What::Welcome { device, socket, .. } => {
                let accepted = self.lives.devices.get(device.as_str()).and_then(|life| life.accepted);
                if accepted.is_some_and(|accepted| accepted < self.lives.connecting(*socket)) {
                    self.report
                        .add(11, at, || format!("{device} has ended, and is let in on socket {socket}"));
                    return;
                }
                (device, "welcome")
            }
            What::Message { device, .. } => (device, "message"),
            What::Gap { device, .. } => (device, "gap"),
            What::Attached { device, .. } | What::Detached { device, .. } => (device, "chat"),
            What::Acked { device, .. } | What::Marked { device, .. } => (device, "reply"),
            What::Page { device, .. } | What::NoPage { device, .. } => (device, "reply"),
            What::Read { device, .. } => (device, "read"),
            What::Frame { device, kind, .. } => (device, kind.as_str()),
            _ => return,
        };
        let Some(accepted) = self.lives.devices.get(device.as_str()).and_then(|life| life.accepted) else {
            return;
        };
        let since = self.history.events[accepted].at;
        if accepted < place && at > since + self.history.rules.silence_after {
            let late = at - since;
            self.report
                .add(11, at, || format!("{device} has ended, and gets a {frame} frame {late} µs later"));
        }
    }

    fn end(&mut self) {
        let end = &self.history.end;
        for (device, life) in &self.lives.devices {
            if life.accepted.is_some() && end.devices.contains_key(*device) {
                self.report.add(11, None, || format!("{device} has ended, and is connected in the end"));
            }
        }
        for (node, chat, device) in &end.queues {
            let life = self.lives.devices.get(device.as_str());
            let why = match (end.devices.get(device), life) {
                (Some(chats), _) if chats.contains_key(chat) => continue,
                (Some(_), _) => "which it isn't in",
                (None, None) => "and there is no such device",
                (None, Some(life)) if life.done.is_some() => "and it has ended",
                // Registered or not, ended or not: nobody was told.
                (None, Some(_)) => continue,
            };
            self.report.add(12, None, || format!("{node} has a queue of {device} in chat {chat}, {why}"));
        }
        if self.history.rules.queues_complete {
            let there: HashSet<(&str, &str)> =
                end.queues.iter().map(|(_, chat, device)| (chat.as_str(), device.as_str())).collect();
            for (device, chats) in &end.devices {
                for chat in chats.keys().filter(|chat| !there.contains(&(chat.as_str(), device.as_str()))) {
                    self.report.add(12, None, || format!("{device} has no queue in chat {chat}"));
                }
            }
        }
        for (chat, count) in end.unpublished.iter().filter(|(_, count)| **count > 0) {
            self.report
                .add(12, None, || format!("chat {chat}: {count} messages aren't published in the end"));
        }
    }
}
