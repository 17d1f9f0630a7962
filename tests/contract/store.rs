//! The store's contract as stories, each run over both variants. The including module gives `start(limits)`: a fresh
//! store, with whatever has to live as long as it; `start_on_a_clock()`: the same with a clock that the story sets; and
//! `PATIENCE`: a story that waits this long has failed.
//!
//! `tests/mutants` runs them with bugs planted in the embedded store and in the scripts that Redis runs.

use std::time::Duration;

use keepstep::{
    domain::{
        Seq,
        chat::{Chat, ChatKind, DevicePosition},
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, MessageKey, TerminationId, UserId},
        message::FrameTemplate,
        termination::{Receipt, Termination, TerminationState},
    },
    store::{
        Append, Appended, Created, Departure, Incarnation, JoinBy, Joined, NewChat, NewDevice, Opened,
        OutboxPage, Read, Registered, RegisteredSession, Store, StoreEvent, SubscribeFrom,
    },
};
use tokio::{sync::mpsc, time::timeout};

use super::{PATIENCE, start, start_on_a_clock};
use crate::support::wait_until;

#[path = "store/chats.rs"]
mod chats;
#[path = "store/clocks.rs"]
mod clocks;
#[path = "store/console.rs"]
mod console;
#[path = "store/devices.rs"]
mod devices;
#[path = "store/edges.rs"]
mod edges;
#[path = "store/events.rs"]
mod events;
#[path = "store/expiry.rs"]
mod expiry;
#[path = "store/late.rs"]
mod late;
#[path = "store/links.rs"]
mod links;
#[path = "store/log.rs"]
mod log;
#[path = "store/members.rs"]
mod members;
#[path = "store/messages.rs"]
mod messages;
#[path = "store/model.rs"]
mod model;
#[path = "store/pages.rs"]
mod pages;
#[path = "store/people.rs"]
mod people;
#[path = "store/positions.rs"]
mod positions;
#[path = "store/quota.rs"]
mod quota;
#[path = "store/sessions.rs"]
mod sessions;
#[path = "store/sweeps.rs"]
mod sweeps;
#[path = "store/terminations.rs"]
mod terminations;

/// A lease that doesn't run out within a story.
const LONG: Duration = Duration::from_secs(60);

pub fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

pub fn new_device(owner: &UserId, kind: DeviceKind) -> NewDevice {
    NewDevice {
        id: DeviceId::random(),
        user: owner.clone(),
        kind,
        name: "a \"device\" {1}\u{e9}".into(),
        platform: "web".into(),
        history: None,
        created: 1_700_000_000_123,
    }
}

/// A device that may connect.
pub async fn active(store: &Store, owner: &UserId, kind: DeviceKind) -> Device {
    let new = new_device(owner, kind);
    let registered = store.register_device(&new).await.unwrap();
    assert!(matches!(registered, Registered::Created(_)), "{registered:?}");
    assert!(store.activate_device(owner, new.id).await.unwrap());
    store.device(owner, new.id).await.unwrap().unwrap()
}

/// The only incarnation of an edge, whose process has its name.
pub fn life(edge: &str) -> Incarnation {
    process(edge, edge)
}

/// The first incarnation of a process.
pub fn process(edge: &str, process: &str) -> Incarnation {
    Incarnation { edge: edge.to_owned(), process: process.to_owned(), term: 0 }
}

/// A session as its edge registers it.
pub fn noted(device: &Device, session: u64, by: &Incarnation) -> RegisteredSession {
    RegisteredSession { user: device.user.clone(), device: device.id, session, incarnation: by.id() }
}

/// The number of a new session that serves the device.
pub async fn connect(store: &Store, device: &Device, edge: &str) -> u64 {
    let (user, id) = (&device.user, device.id);
    loop {
        match opens(store, device, edge).await {
            Opened::Session { session, .. } => {
                store.confirm_session(user, id, session, &life(edge)).await.unwrap();
                return session;
            }
            // Others open it at the same time.
            Opened::Changed | Opened::Late => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Opens a session after the newest that there is.
pub async fn opens(store: &Store, device: &Device, edge: &str) -> Opened {
    store.edge_alive(&life(edge), LONG).await.unwrap();
    let (found, at) = store.device_at(&device.user, device.id).await.unwrap().unwrap();
    let after = Read { session: found.session, at };
    store.open_session(&device.user, device.id, device.generation, after, &life(edge)).await.unwrap()
}

/// What whoever read this number would open after.
pub fn after(session: u64) -> Read {
    Read { session, at: 0 }
}

pub fn new_group(owner: &UserId) -> NewChat {
    NewChat {
        id: ChatId::random(),
        kind: ChatKind::Group,
        name: None,
        public: false,
        password_hash: None,
        owner: owner.clone(),
        with: None,
        entry: keepstep::domain::chat::Entry::AtOnce,
        node: "nsqd-1:4150".into(),
        created: 1_700_000_000_456,
    }
}

pub fn new_direct(owner: &UserId, with: &UserId) -> NewChat {
    NewChat { kind: ChatKind::Direct, with: Some(with.clone()), ..new_group(owner) }
}

pub async fn create(store: &Store, new: &NewChat) -> Chat {
    match store.create_chat(new).await.unwrap() {
        Created::New(chat) => chat,
        other => panic!("{other:?}"),
    }
}

/// A group with one member.
pub async fn group(store: &Store, owner: &UserId) -> ChatId {
    create(store, &new_group(owner)).await.id
}

/// Joins as of now.
pub async fn join(store: &Store, chat: ChatId, who: &UserId, by: JoinBy) -> Joined {
    let epoch = store.chat(chat).await.unwrap().map_or(0, |chat| chat.epoch);
    store.add_member(chat, who, by, epoch).await.unwrap()
}

/// Ends the membership that there is.
pub async fn leave(store: &Store, chat: ChatId, who: &UserId, how: Departure) -> Option<u64> {
    let (_, member) = store.chat_of_member(chat, who).await.unwrap()?;
    store.remove_member(chat, &member, how).await.unwrap()
}

/// Subscribes a new device: it receives what comes from now on.
pub async fn subscribe_now(
    store: &Store,
    chat: ChatId,
    who: &UserId,
    device: DeviceId,
) -> Option<DevicePosition> {
    let head = heads(store, &[chat]).await[0];
    store.subscribe_device(chat, who, device, SubscribeFrom::Head(head)).await.unwrap()
}

pub fn message(chat: ChatId, from: &UserId, text: &str) -> Append {
    Append {
        chat,
        user: from.clone(),
        key: MessageKey::random(),
        fingerprint: text.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) ^ u64::from(byte)),
        at: 1_700_000_000_789,
        frame: FrameTemplate::new(chat, &format!("\"content\":\"{text}\"")),
        has_room: true,
    }
}

/// Sends and gives the number.
pub async fn send(store: &Store, chat: ChatId, from: &UserId, text: &str) -> Seq {
    match store.append(&message(chat, from, text)).await.unwrap() {
        Appended::New { seq, .. } => seq,
        other => panic!("{other:?}"),
    }
}

pub async fn heads(store: &Store, chats: &[ChatId]) -> Vec<Seq> {
    store.heads(chats).await.unwrap().into_iter().map(|head| head.head).collect()
}

pub fn termination(device: &Device) -> Termination {
    Termination {
        id: TerminationId::random(),
        user: device.user.clone(),
        device: device.id,
        by: "main".into(),
        state: TerminationState::Accepted,
        accepted_at: 1_700_000_001_000,
        unreachable: Vec::new(),
        receipt: Receipt::default(),
    }
}

pub async fn next(events: &mut mpsc::Receiver<StoreEvent>) -> StoreEvent {
    let next = timeout(PATIENCE, events.recv()).await.expect("an event comes in time");
    next.expect("the store lives, so its events stay open")
}

/// The next event of which `wanted` makes something; others are passed over (hints may come twice).
pub async fn until<T>(
    events: &mut mpsc::Receiver<StoreEvent>,
    wanted: impl Fn(&StoreEvent) -> Option<T>,
) -> T {
    loop {
        if let Some(found) = wanted(&next(events).await) {
            return found;
        }
    }
}
