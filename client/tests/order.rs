//! Whatever connections do, each message is handed over once and in order, and nothing is acknowledged that isn't stored:
//! a model of the server's side against the core, by chance.

use std::collections::BTreeMap;

use keepstep_client::{ChatId, Draft, Event, MessageKey, session::Session};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const CHATS: [ChatId; 2] = [Uuid::from_u128(1), Uuid::from_u128(2)];

#[derive(Debug, Clone)]
enum Step {
    /// Somebody says something.
    Said(usize),
    /// The server sends up to so many messages of a chat.
    Deliver(usize, u64),
    /// The device stores what it was given, and what it then says reaches the server, or doesn't.
    Store(usize),
    Speak,
    /// The device sends.
    Send(usize),
    /// The server answers what it took, or refuses it for now.
    Answer,
    Refuse,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Said),
        6 => (0..2usize, 1..4u64).prop_map(|(chat, count)| Step::Deliver(chat, count)),
        4 => (0..2usize).prop_map(Step::Store),
        6 => Just(Step::Speak),
        4 => (0..2usize).prop_map(Step::Send),
        4 => Just(Step::Answer),
        1 => Just(Step::Refuse),
        1 => Just(Step::Lose),
    ]
}

#[derive(Default)]
struct Chat {
    log: Vec<(MessageKey, &'static str)>,
    cursor: u64,
    // Of this connection.
    sent: u64,
    // Of the device: handed over, and stored.
    got: u64,
    stored: u64,
}

/// A server with one device.
#[derive(Default)]
struct World {
    session: Session,
    chats: BTreeMap<ChatId, Chat>,
    // Replies that haven't gone out.
    due: Vec<Value>,
    wanted: BTreeMap<ChatId, Vec<MessageKey>>,
    settled: Vec<MessageKey>,
    keys: u128,
}

impl World {
    fn connect(&mut self) {
        self.due.clear();
        self.session.connected();
        let entries: Vec<Value> = CHATS
            .iter()
            .map(|id| {
                let chat = self.chats.entry(*id).or_default();
                chat.sent = chat.cursor;
                json!({"id": id, "kind": "group", "name": null, "head": chat.log.len(), "read": 0,
                    "cursor": chat.cursor, "from": 0})
            })
            .collect();
        let welcome = json!({"type": "welcome", "user": "me", "device": Uuid::nil(), "kind": "main",
            "session": 1, "chats": entries});
        self.session.receive(&welcome.to_string());
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Said(at) => {
                self.keys += 1;
                let key = Uuid::from_u128(self.keys << 64);
                self.chats.entry(CHATS[at]).or_default().log.push((key, "you"));
            }
            Step::Deliver(at, count) => (0..count).for_each(|_| self.deliver(CHATS[at])),
            Step::Store(at) => {
                let chat = self.chats.get_mut(&CHATS[at]).unwrap();
                chat.stored = chat.got;
                self.session.stored(CHATS[at], chat.got);
            }
            Step::Speak => {
                while let Some(frame) = self.session.poll_frame() {
                    self.hear(&serde_json::from_str(&frame.text()).unwrap());
                }
            }
            Step::Send(at) => {
                self.keys += 1;
                let key = Uuid::from_u128(self.keys);
                self.session.send(key, CHATS[at], Draft::text("x")).unwrap();
                self.wanted.entry(CHATS[at]).or_default().push(key);
            }
            Step::Answer => self.due.drain(..).for_each(|reply| self.session.receive(&reply.to_string())),
            Step::Refuse => {
                for reply in self.due.drain(..) {
                    let error = json!({"code": "unavailable", "message": "", "retry": true});
                    let refusal = json!({"type": "reply", "id": reply["id"], "error": error});
                    self.session.receive(&refusal.to_string());
                }
                self.session.retry();
            }
            Step::Lose => {
                self.session.disconnected();
                self.connect();
            }
        }
        self.happened();
    }

    fn deliver(&mut self, id: ChatId) {
        let chat = self.chats.get_mut(&id).unwrap();
        let Some((key, from)) = chat.log.get(usize::try_from(chat.sent).unwrap()) else { return };
        chat.sent += 1;
        let message = json!({"type": "message", "chat": id, "seq": chat.sent, "key": key, "from": from, "at": 1,
            "kind": "text", "content": "x"});
        self.session.receive(&message.to_string());
    }

    /// The server's side of a frame.
    fn hear(&mut self, frame: &Value) {
        let id: ChatId = serde_json::from_value(frame["chat"].clone()).unwrap();
        let chat = self.chats.get_mut(&id).unwrap();
        match frame["type"].as_str().unwrap() {
            "ack" => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(seq > chat.cursor, "an acknowledgement of nothing new");
                assert!(seq <= chat.sent, "of what didn't come on this connection");
                assert!(seq <= chat.stored, "of what isn't stored");
                chat.cursor = seq;
            }
            "send" => {
                let key: MessageKey = serde_json::from_value(frame["key"].clone()).unwrap();
                let at = chat.log.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                    chat.log.push((key, "me"));
                    chat.log.len() - 1
                });
                self.due.push(json!({"type": "reply", "id": frame["id"], "ok": {"seq": at + 1, "at": 1}}));
            }
            other => panic!("{other} isn't said here"),
        }
    }

    fn happened(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Message(message) => {
                    let chat = self.chats.get_mut(&message.chat).unwrap();
                    assert_eq!(message.seq, chat.got + 1, "once, and in order");
                    chat.got = message.seq;
                }
                Event::Duplicate(message) => assert!(message.seq <= self.chats[&message.chat].got),
                Event::Sent(receipt) => {
                    let (key, _) = self.chats[&receipt.chat].log[usize::try_from(receipt.seq).unwrap() - 1];
                    assert_eq!(key, receipt.key, "the seq of this message");
                    self.settled.push(receipt.key);
                }
                Event::Connected(_) | Event::Delayed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_once_and_in_order_and_none_is_lost(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        world.connect();
        steps.iter().for_each(|step| world.step(step));
        // Then the line is good for a while.
        world.step(&Step::Lose);
        for _ in 0..60 {
            for at in 0..2 {
                world.step(&Step::Deliver(at, 200));
                world.step(&Step::Store(at));
            }
            world.step(&Step::Speak);
            world.step(&Step::Answer);
        }
        for (id, chat) in &world.chats {
            let head = chat.log.len() as u64;
            prop_assert_eq!((chat.got, chat.cursor), (head, head), "everything came and is acknowledged");
            let own: Vec<MessageKey> =
                chat.log.iter().filter(|(_, from)| *from == "me").map(|(key, _)| *key).collect();
            let wanted = world.wanted.get(id).cloned().unwrap_or_default();
            prop_assert_eq!(&own, &wanted, "each send once, in the order of the calls");
            prop_assert!(wanted.iter().all(|key| world.settled.contains(key)));
        }
        prop_assert_eq!(world.session.unsent().count(), 0);
    }
}
