//! A small server that makes no mistakes, and random clients: what they write down is a good history.
//!
//! Calls are under way for a while: begun, they wait, and then they happen and are answered, or happen without an answer,
//! or don't happen.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::{End, Entry, Event, History, Rules, Seen, Seq, Socket, What};

const USERS: [&str; 3] = ["ann", "ben", "cem"];
const CHATS: [&str; 2] = ["x", "y"];

#[derive(Debug, Clone, Default)]
struct Device {
    user: usize,
    name: String,
    main: bool,
    ended: bool,
    session: u64,
    socket: Option<Socket>,
    // By chat: where it begins, what it acknowledged, what came last on this socket.
    from: [Seq; 2],
    cursor: [Seq; 2],
    last: [Seq; 2],
}

enum Call {
    Send { chat: usize, key: String },
    Ack { device: usize, socket: Socket, chat: usize, seq: Seq },
    Mark { device: usize, socket: Socket, chat: usize, seq: Seq },
}

struct Model {
    random: StdRng,
    events: Vec<Event>,
    log: [Vec<String>; 2],
    member: [[bool; 2]; 3],
    read: [[Seq; 2]; 3],
    devices: Vec<Device>,
    calls: Vec<Call>,
    sockets: Socket,
    keys: usize,
}

/// A random good history.
pub fn history(seed: u64, steps: usize) -> History {
    let mut model = Model {
        random: StdRng::seed_from_u64(seed),
        events: Vec::new(),
        log: Default::default(),
        member: Default::default(),
        read: Default::default(),
        devices: Vec::new(),
        calls: Vec::new(),
        sockets: 0,
        keys: 0,
    };
    for user in 0..USERS.len() {
        model.register(user, true);
        for chat in 0..CHATS.len() {
            model.join(user, chat);
        }
    }
    for _ in 0..steps {
        model.step();
    }
    model.end()
}

impl Model {
    fn write(&mut self, what: What) {
        let at = self.events.last().map_or(0, |last| last.at) + self.random.random_range(1..500);
        self.events.push(Event { at, what });
    }

    fn head(&self, chat: usize) -> Seq {
        self.log[chat].len() as Seq
    }

    fn step(&mut self) {
        let chat = self.random.random_range(0..CHATS.len());
        let device = self.random.random_range(0..self.devices.len());
        let user = self.devices[device].user;
        match self.random.random_range(0..1000) {
            0..200 if self.member[user][chat] => self.begin_send(user, chat),
            200..450 => self.answer(),
            450..800 => self.deliver(device, chat),
            800..870 => self.begin_ack(device, chat),
            870..910 => self.begin_mark(device, chat),
            910..940 => self.connect(device),
            940..955 => self.disconnect(device),
            955..970 => self.ask(device, chat),
            970..976 if user == 2 && self.member[user][chat] => self.leave(user, chat),
            976..985 if !self.member[user][chat] => self.join(user, chat),
            985..990
                if self.devices.iter().filter(|device| device.user == user && !device.ended).count() < 3 =>
            {
                self.register(user, false);
            }
            990..993 if !self.devices[device].main => self.terminate(device),
            993..1000 => self.look(device, chat),
            _ => {}
        }
    }

    fn register(&mut self, user: usize, main: bool) {
        let name = format!("{}-{}", USERS[user], self.devices.len());
        self.write(What::Registering { user: USERS[user].to_owned(), device: name.clone(), main });
        let from = [self.head(0), self.head(1)];
        let fresh =
            Device { user, name: name.clone(), main, from, cursor: from, last: from, ..Device::default() };
        self.devices.push(fresh);
        self.write(What::Registered { device: name });
    }

    fn join(&mut self, user: usize, chat: usize) {
        let (name, id) = (USERS[user].to_owned(), CHATS[chat].to_owned());
        self.write(What::Joining { user: name.clone(), chat: id.clone() });
        let head = self.head(chat);
        self.member[user][chat] = true;
        self.read[user][chat] = self.read[user][chat].max(head);
        for n in 0..self.devices.len() {
            let device = &mut self.devices[n];
            if device.user != user {
                continue;
            }
            (device.from[chat], device.cursor[chat], device.last[chat]) = (head, head, head);
            if let (Some(socket), device) = (device.socket, device.name.clone()) {
                let entry = self.entry(n, chat);
                self.write(What::Attached { device, socket, chat: id.clone(), entry });
            }
        }
        self.write(What::Joined { user: name, chat: id });
    }

    fn leave(&mut self, user: usize, chat: usize) {
        let (name, id) = (USERS[user].to_owned(), CHATS[chat].to_owned());
        self.write(What::Leaving { user: name.clone(), chat: id.clone() });
        self.member[user][chat] = false;
        for n in 0..self.devices.len() {
            let Device { user: owner, socket: Some(socket), ref name, .. } = self.devices[n] else {
                continue;
            };
            if owner == user {
                let device = name.clone();
                self.write(What::Detached { device, socket, chat: id.clone() });
            }
        }
        let head = Some(self.head(chat));
        self.write(What::Left { user: name, chat: id, head });
    }

    fn terminate(&mut self, device: usize) {
        if self.devices[device].ended {
            return;
        }
        let name = self.devices[device].name.clone();
        self.write(What::Ending { device: name.clone() });
        self.devices[device].ended = true;
        self.disconnect(device);
        self.write(What::Accepted { device: name.clone() });
        self.write(What::Done { device: name });
    }

    fn look(&mut self, device: usize, chat: usize) {
        let Device { ended, user, ref name, .. } = self.devices[device];
        if !ended && self.member[user][chat] {
            let (chat, device) = (CHATS[chat].to_owned(), name.clone());
            self.write(What::Queue { node: "n".to_owned(), chat, device });
        }
    }

    fn entry(&self, device: usize, chat: usize) -> Entry {
        let Device { user, from, cursor, .. } = self.devices[device];
        Entry { head: self.head(chat), read: self.read[user][chat], cursor: cursor[chat], from: from[chat] }
    }

    fn connect(&mut self, device: usize) {
        if self.devices[device].ended {
            return;
        }
        self.sockets += 1;
        let (socket, name) = (self.sockets, self.devices[device].name.clone());
        self.write(What::Connecting { device: name.clone(), socket });
        self.disconnect(device);
        let one = &mut self.devices[device];
        (one.session, one.socket, one.last) = (one.session + 1, Some(socket), one.cursor);
        let (session, user) = (one.session, one.user);
        let chats = (0..2).filter(|chat| self.member[user][*chat]);
        let chats = chats.map(|chat| (CHATS[chat].to_owned(), self.entry(device, chat))).collect();
        self.write(What::Welcome { device: name, socket, session, chats });
    }

    fn disconnect(&mut self, device: usize) {
        if let Some(socket) = self.devices[device].socket.take() {
            let device = self.devices[device].name.clone();
            self.write(What::Closed { device, socket, code: None });
        }
    }

    fn seen(&self, chat: usize, seq: Seq) -> Seen {
        let key = self.log[chat][usize::try_from(seq).unwrap() - 1].clone();
        Seen { seq, frame: seq * 10 + chat as u64, key }
    }

    fn deliver(&mut self, device: usize, chat: usize) {
        let Device { user, socket: Some(socket), last, ref name, .. } = self.devices[device] else { return };
        if !self.member[user][chat] || last[chat] == self.head(chat) {
            return;
        }
        let (seen, device_name) = (self.seen(chat, last[chat] + 1), name.clone());
        self.devices[device].last[chat] += 1;
        self.write(What::Message { device: device_name, socket, chat: CHATS[chat].to_owned(), seen });
    }

    fn begin_send(&mut self, user: usize, chat: usize) {
        self.keys += 1;
        let (key, id) = (format!("k{}", self.keys), CHATS[chat].to_owned());
        let user = USERS[user].to_owned();
        self.write(What::Sending { user, device: None, chat: id.clone(), key: key.clone() });
        if self.random.random_ratio(1, 20) {
            self.write(What::Refused { chat: id, key, code: "bad_field".to_owned() });
        } else {
            self.calls.push(Call::Send { chat, key });
        }
    }

    fn begin_ack(&mut self, device: usize, chat: usize) {
        let Device { socket: Some(socket), last, cursor, ref name, .. } = self.devices[device] else {
            return;
        };
        if last[chat] > cursor[chat] {
            let (seq, name) = (last[chat], name.clone());
            self.write(What::Acking { device: name, socket, chat: CHATS[chat].to_owned(), seq });
            self.calls.push(Call::Ack { device, socket, chat, seq });
        }
    }

    fn begin_mark(&mut self, device: usize, chat: usize) {
        let Device { user, socket: Some(socket), last, ref name, .. } = self.devices[device] else { return };
        if last[chat] > 0 && self.member[user][chat] {
            let (seq, name) = (self.random.random_range(1..=last[chat]), name.clone());
            self.write(What::Marking { device: name, socket, chat: CHATS[chat].to_owned(), seq });
            self.calls.push(Call::Mark { device, socket, chat, seq });
        }
    }

    fn answer(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(self.random.random_range(0..self.calls.len()));
        let (happens, answered) = (self.random.random_ratio(9, 10), self.random.random_ratio(9, 10));
        if !happens {
            return;
        }
        match call {
            Call::Send { chat, key } => {
                self.log[chat].push(key.clone());
                if answered {
                    let (chat, seq) = (CHATS[chat].to_owned(), self.head(chat));
                    self.write(What::Sent { chat, key, seq });
                }
            }
            Call::Ack { device, socket, chat, seq } => {
                let one = &mut self.devices[device];
                if one.socket != Some(socket) || seq < one.from[chat] {
                    return;
                }
                one.cursor[chat] = one.cursor[chat].max(seq);
                let (device, chat) = (one.name.clone(), CHATS[chat].to_owned());
                if answered {
                    self.write(What::Acked { device, socket, chat, seq });
                }
            }
            Call::Mark { device, socket, chat, seq } => {
                let Device { user, socket: now, ref name, .. } = self.devices[device];
                if now != Some(socket) || !self.member[user][chat] {
                    return;
                }
                let (name, read) = (name.clone(), &mut self.read[user][chat]);
                *read = (*read).max(seq);
                let read = *read;
                if answered {
                    let chat = CHATS[chat].to_owned();
                    self.write(What::Marked { device: name, socket, chat, asked: seq, seq: read });
                }
                for other in 0..self.devices.len() {
                    let Device { user: owner, socket: Some(socket), ref name, .. } = self.devices[other]
                    else {
                        continue;
                    };
                    if owner == user && other != device {
                        let (device, chat) = (name.clone(), CHATS[chat].to_owned());
                        self.write(What::Read { device, socket, chat, seq: read });
                    }
                }
            }
        }
    }

    fn ask(&mut self, device: usize, chat: usize) {
        let Device { user, socket: Some(socket), cursor, main: false, ref name, .. } = self.devices[device]
        else {
            return;
        };
        if !self.member[user][chat] {
            return;
        }
        let (name, id) = (name.clone(), CHATS[chat].to_owned());
        let (before, limit) =
            (self.random.random_range(1..=cursor[chat] + 1), self.random.random_range(1..20));
        self.write(What::Asking { device: name.clone(), socket, chat: id.clone(), before, limit });
        let main = self.devices.iter().find(|main| main.main && main.user == user).expect("a main");
        if main.socket.is_none() {
            let code = "main_offline".to_owned();
            self.write(What::NoPage { device: name, socket, chat: id, before, code });
            return;
        }
        let from = main.from[chat].min(before - 1);
        let first = before.saturating_sub(limit).max(from + 1);
        let messages = (first..before).map(|seq| self.seen(chat, seq)).collect();
        self.write(What::Page { device: name, socket, chat: id, before, messages, more: first > from + 1 });
    }

    /// Everybody comes back and gets what is missing.
    fn end(mut self) -> History {
        self.calls.clear();
        let mut end = End::default();
        for (chat, id) in CHATS.into_iter().enumerate() {
            end.heads.insert(id.to_owned(), self.head(chat));
        }
        for device in 0..self.devices.len() {
            if self.devices[device].ended {
                continue;
            }
            self.connect(device);
            let Device { user, ref name, .. } = self.devices[device];
            let name = name.clone();
            let chats: BTreeMap<_, _> = (0..2)
                .filter(|chat| self.member[user][*chat])
                .map(|chat| (CHATS[chat].to_owned(), self.entry(device, chat)))
                .collect();
            for (chat, id) in CHATS.into_iter().enumerate().filter(|(_, id)| chats.contains_key(*id)) {
                while self.devices[device].last[chat] < self.head(chat) {
                    self.deliver(device, chat);
                }
                let read = self.read[user][chat];
                end.reads.entry(USERS[user].to_owned()).or_default().insert(id.to_owned(), read);
                end.queues.push(("n".to_owned(), id.to_owned(), name.clone()));
            }
            end.devices.insert(name, chats);
        }
        let rules = Rules {
            gaps: false,
            silence_after: 1000,
            lease: 1000,
            queues_complete: true,
            clients_read: true,
            window: None,
        };
        History { events: self.events, end, rules }
    }
}
