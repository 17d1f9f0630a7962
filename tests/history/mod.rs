//! What the clients of one run did and saw, and whether that keeps what Keepstep promises. Black box: nothing here knows
//! the server. The simulation and the campaign on real processes both write this history and both ask the same checker.
//!
//! Events stand in the order in which they happened, by one monotonic clock for all clients: if one stands before
//! another, it happened before it. A call has two events, before its first byte goes out and when its answer is in; one
//! whose second event is missing has an unknown outcome.

// Each test binary has its own copy of this module and uses a part of it.
#![allow(dead_code)]

pub mod check;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A user's name.
pub type User = String;
/// A device's id.
pub type Device = String;
/// A chat's id.
pub type Chat = String;
/// An idempotency key.
pub type Key = String;
/// A message's number.
pub type Seq = u64;
/// One connection of one device, numbered through the whole run.
pub type Socket = u64;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds since the run began.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// A chat's entry of `welcome` and of `chat joined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The chat's head then.
    pub head: Seq,
    /// The user's read offset.
    pub read: Seq,
    /// The device's cursor: live starts above it.
    pub cursor: Seq,
    /// Where what the device is owed begins.
    pub from: Seq,
}

/// One message as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its number.
    pub seq: Seq,
    /// Its key.
    pub key: Key,
    /// A hash of the whole frame as it came.
    pub frame: u64,
}

/// See [`Event`]. "Asked" and "answered" come in pairs, joined by their fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A user begins to become a member: creates the chat, joins, is invited.
    Joining { user: User, chat: Chat },
    /// And is one (HTTP success).
    Joined { user: User, chat: Chat },
    /// A user begins to leave, or is being removed.
    Leaving { user: User, chat: Chat },
    /// And isn't a member any more. `head`: how many messages the chat had then, if the harness can see it.
    Left {
        user: User,
        chat: Chat,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        head: Option<Seq>,
    },
    /// A device begins to be registered.
    Registering { user: User, device: Device, main: bool },
    /// And is.
    Registered { device: Device },
    /// Somebody begins to end a device.
    Ending { device: Device },
    /// The server has answered 202.
    Accepted { device: Device },
    /// The termination's state is `done` (first seen so).
    Done { device: Device },

    /// A message goes out. The same key may go out several times.
    Sending { user: User, device: Option<Device>, chat: Chat, key: Key },
    /// It was acknowledged.
    Sent { chat: Chat, key: Key, seq: Seq },
    /// It was refused for good: nothing happened. (An `unavailable` leaves the outcome unknown: no event.)
    Refused { chat: Chat, key: Key, code: String },

    /// A device begins to connect.
    Connecting { device: Device, socket: Socket },
    /// It is welcome.
    Welcome { device: Device, socket: Socket, session: u64, chats: BTreeMap<Chat, Entry> },
    /// A `chat joined` frame.
    Attached { device: Device, socket: Socket, chat: Chat, entry: Entry },
    /// A `chat left` frame.
    Detached { device: Device, socket: Socket, chat: Chat },
    /// A `message` frame.
    Message { device: Device, socket: Socket, chat: Chat, seen: Seen },
    /// A `gap` frame. `held`: what of it the servers still held then, or had let go of unseen, as far as the harness can see
    /// it.
    Gap {
        device: Device,
        socket: Socket,
        chat: Chat,
        from: Seq,
        to: Seq,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        held: Vec<Seq>,
    },
    /// Any other frame, after which it must be silent all the same.
    Frame { device: Device, socket: Socket, kind: String },
    /// The connection is over: the server's close code; none when it broke or the client left.
    Closed { device: Device, socket: Socket, code: Option<u16> },

    /// An `ack` with an id goes out.
    Acking { device: Device, socket: Socket, chat: Chat, seq: Seq },
    /// It was confirmed.
    Acked { device: Device, socket: Socket, chat: Chat, seq: Seq },
    /// A `read` with an id goes out.
    Marking { device: Device, socket: Socket, chat: Chat, seq: Seq },
    /// It was confirmed with the offset that counts.
    Marked { device: Device, socket: Socket, chat: Chat, asked: Seq, seq: Seq },
    /// A `read` frame: the user has read elsewhere.
    Read { device: Device, socket: Socket, chat: Chat, seq: Seq },

    /// A sub asks for history below `before`.
    Asking { device: Device, socket: Socket, chat: Chat, before: Seq, limit: u64 },
    /// And gets a page.
    Page { device: Device, socket: Socket, chat: Chat, before: Seq, messages: Vec<Seen>, more: bool },
    /// Or a typed refusal.
    NoPage { device: Device, socket: Socket, chat: Chat, before: Seq, code: String },

    /// A queue of a device was seen on a server, by whoever looks there (not a client).
    Queue { node: String, chat: Chat, device: Device },
    /// The harness did something to the servers. Only for reading, and to judge recovery.
    Fault { name: String, phase: Phase },
}

/// Of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Begun,
    /// It is over: from here recovery is counted.
    Healed,
}

/// How things stand in the end, when all faults are healed, every living device was connected again and everything had
/// time to settle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Each chat's head as the server tells it.
    pub heads: BTreeMap<Chat, Seq>,
    /// Each user's read offsets as the server tells them.
    pub reads: BTreeMap<User, BTreeMap<Chat, Seq>>,
    /// The living devices, each with the user's chats as its last `welcome` or `chat joined` told them.
    pub devices: BTreeMap<Device, BTreeMap<Chat, Entry>>,
    /// The queues that are there: server, chat, device.
    pub queues: Vec<(String, Chat, Device)>,
    /// Messages that aren't confirmed by the broker, by chat, as far as the harness can see it.
    pub unpublished: BTreeMap<Chat, u64>,
    /// Of each member, how many messages the chat had when they came into it, as far as the harness can see it.
    #[serde(default)]
    pub boundaries: BTreeMap<User, BTreeMap<Chat, Seq>>,
}

/// What this run may contain without being wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// `gap` frames may come: the broker lost what the log had given up already. Else a gap is a loss.
    pub gaps: bool,
    /// How long after a device's `accepted` frames may still be on their way to it, in microseconds.
    pub silence_after: u64,
    /// How long an older session of a device may go on after a newer one was welcomed, in microseconds (the lease).
    pub lease: u64,
    /// Whether `End::queues` is complete, so that a missing queue is wrong, too.
    pub queues_complete: bool,
    /// Whether all clients take what they are sent, so that none may be closed for taking too little.
    #[serde(default)]
    pub clients_read: bool,
    /// How many messages a socket may be sent before the first of them is acknowledged, if that is known.
    #[serde(default)]
    pub window: Option<u64>,
}

/// A history and its end, as it is written to a file and read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct History {
    /// In order.
    pub events: Vec<Event>,
    /// The end.
    pub end: End,
    /// What is allowed.
    pub rules: Rules,
}
