//! The story, event by event, and the ways to change it.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::check::check;
use crate::history::{End, Entry, Event, History, Phase, Rules, Seen, Seq, Socket, What};

pub(super) const CHAT: &str = "c";
/// One step of time.
pub(super) const STEP: u64 = 1000;

pub(super) fn rules() -> Rules {
    Rules {
        gaps: false,
        silence_after: 50 * STEP,
        lease: 100 * STEP,
        queues_complete: true,
        clients_read: true,
        window: None,
    }
}

pub(super) fn s(text: &str) -> String {
    text.to_owned()
}

pub(super) fn entry(head: Seq, read: Seq, cursor: Seq, from: Seq) -> Entry {
    Entry { head, read, cursor, from }
}

pub(super) fn seen(seq: Seq) -> Seen {
    Seen { seq, key: format!("k{seq}"), frame: 100 + seq }
}

pub(super) fn sending(seq: Seq) -> What {
    What::Sending { user: s("alice"), device: Some(s("phone")), chat: s(CHAT), key: format!("k{seq}") }
}

pub(super) fn sent(seq: Seq) -> What {
    What::Sent { chat: s(CHAT), key: format!("k{seq}"), seq }
}

pub(super) fn message(device: &str, socket: Socket, seq: Seq) -> What {
    What::Message { device: s(device), socket, chat: s(CHAT), seen: seen(seq) }
}

pub(super) fn connecting(device: &str, socket: Socket) -> What {
    What::Connecting { device: s(device), socket }
}

pub(super) fn welcome(device: &str, socket: Socket, session: u64, entry: Entry) -> What {
    What::Welcome { device: s(device), socket, session, chats: [(s(CHAT), entry)].into() }
}

pub(super) fn closed(device: &str, socket: Socket) -> What {
    What::Closed { device: s(device), socket, code: None }
}

pub(super) fn acking(device: &str, socket: Socket, seq: Seq) -> What {
    What::Acking { device: s(device), socket, chat: s(CHAT), seq }
}

pub(super) fn acked(device: &str, socket: Socket, seq: Seq) -> What {
    What::Acked { device: s(device), socket, chat: s(CHAT), seq }
}

pub(super) fn marking(seq: Seq) -> What {
    What::Marking { device: s("phone"), socket: 1, chat: s(CHAT), seq }
}

pub(super) fn marked(asked: Seq, seq: Seq) -> What {
    What::Marked { device: s("phone"), socket: 1, chat: s(CHAT), asked, seq }
}

pub(super) fn read(device: &str, socket: Socket, seq: Seq) -> What {
    What::Read { device: s(device), socket, chat: s(CHAT), seq }
}

pub(super) fn asking(before: Seq, limit: u64) -> What {
    What::Asking { device: s("web"), socket: 3, chat: s(CHAT), before, limit }
}

pub(super) fn page(before: Seq, seqs: &[Seq], more: bool) -> What {
    let messages = seqs.iter().map(|seq| seen(*seq)).collect();
    What::Page { device: s("web"), socket: 3, chat: s(CHAT), before, messages, more }
}

pub(super) fn no_page(before: Seq, code: &str) -> What {
    What::NoPage { device: s("web"), socket: 3, chat: s(CHAT), before, code: s(code) }
}

pub(super) fn leave_and(user: &str, joins: bool) -> [What; 2] {
    let (user, chat) = (s(user), s(CHAT));
    if joins {
        [What::Joining { user: user.clone(), chat: chat.clone() }, What::Joined { user, chat }]
    } else {
        [What::Leaving { user: user.clone(), chat: chat.clone() }, What::Left { user, chat, head: None }]
    }
}

pub(super) fn register(user: &str, device: &str, main: bool) -> [What; 2] {
    let device = s(device);
    [What::Registering { user: s(user), device: device.clone(), main }, What::Registered { device }]
}

pub(super) fn end_of(device: &str) -> [What; 3] {
    let device = s(device);
    [
        What::Ending { device: device.clone() },
        What::Accepted { device: device.clone() },
        What::Done { device },
    ]
}

pub(super) fn fault(phase: Phase) -> What {
    What::Fault { name: s("edge killed"), phase }
}

/// Alice's phone (socket 1) and web session (3), Bob's phone (2); three messages; all is well.
pub(super) struct Scene {
    pub(super) events: Vec<What>,
    pub(super) end: End,
    pub(super) rules: Rules,
}

impl Scene {
    pub(super) fn new() -> Scene {
        let mut events = Vec::new();
        events.extend(register("alice", "phone", true));
        events.extend(register("bob", "bobs", true));
        events.extend(leave_and("alice", true));
        events.extend(leave_and("bob", true));
        events.extend([connecting("phone", 1), welcome("phone", 1, 1, entry(0, 0, 0, 0))]);
        events.extend([connecting("bobs", 2), welcome("bobs", 2, 1, entry(0, 0, 0, 0))]);
        for seq in 1..=2 {
            events.extend([sending(seq), message("bobs", 2, seq), sent(seq), message("phone", 1, seq)]);
        }
        events.extend([acking("bobs", 2, 2), acked("bobs", 2, 2), marking(1), marked(1, 1)]);
        events.extend(register("alice", "web", false));
        events.extend([connecting("web", 3), welcome("web", 3, 1, entry(2, 1, 2, 2))]);
        events.extend([
            sending(3),
            sent(3),
            message("phone", 1, 3),
            message("web", 3, 3),
            message("bobs", 2, 3),
        ]);
        let devices: BTreeMap<_, _> = [("phone", 0), ("bobs", 0), ("web", 2)]
            .map(|(device, from)| (s(device), BTreeMap::from([(s(CHAT), entry(3, 1, from, from))])))
            .into();
        let queues = devices.keys().map(|device| (s("nsqd"), s(CHAT), device.clone())).collect();
        let end = End {
            heads: [(s(CHAT), 3)].into(),
            reads: [(s("alice"), BTreeMap::from([(s(CHAT), 1)]))].into(),
            devices,
            queues,
            unpublished: [(s(CHAT), 0)].into(),
            boundaries: BTreeMap::new(),
        };
        Scene { events, end, rules: rules() }
    }

    pub(super) fn then(mut self, events: impl IntoIterator<Item = What>) -> Scene {
        self.events.extend(events);
        self
    }

    /// Puts events in front of the first one like this.
    pub(super) fn before(mut self, at: &What, events: impl IntoIterator<Item = What>) -> Scene {
        let place = self.place(at);
        self.events.splice(place..place, events);
        self
    }

    pub(super) fn without(mut self, event: &What) -> Scene {
        let place = self.place(event);
        self.events.remove(place);
        self
    }

    pub(super) fn instead(self, event: &What, other: What) -> Scene {
        self.before(event, [other]).without(event)
    }

    fn place(&self, at: &What) -> usize {
        self.events.iter().position(|event| event == at).unwrap_or_else(|| panic!("{at:?} isn't in it"))
    }

    pub(super) fn with_end(mut self, change: impl FnOnce(&mut End)) -> Scene {
        change(&mut self.end);
        self
    }

    /// A web session that is gone in the end.
    pub(super) fn web_ends(self) -> Scene {
        self.then(end_of("web")).with_end(|end| {
            end.devices.remove("web");
            end.queues.retain(|(_, _, device)| device != "web");
        })
    }

    fn broken(self) -> BTreeSet<u8> {
        let events = (1..).zip(self.events).map(|(at, what)| Event { at: at * STEP, what }).collect();
        let history = History { events, end: self.end, rules: self.rules };
        let violations = check(&history);
        println!("{violations:#?}");
        violations.iter().map(|violation| violation.invariant).collect()
    }

    #[track_caller]
    pub(super) fn passes(self) {
        assert_eq!(self.broken(), BTreeSet::new());
    }

    #[track_caller]
    pub(super) fn breaks(self, invariants: impl IntoIterator<Item = u8>) {
        assert_eq!(self.broken(), invariants.into_iter().collect());
    }
}
