//! What the server says.

use serde::{Deserialize, Serialize};

use super::FrameId;
use crate::{
    domain::{
        Millis, Seq,
        chat::ChatKind,
        device::DeviceKind,
        id::{ChatId, DeviceId, UserId},
    },
    protocol::Problem,
};

/// An entry of `welcome.chats`, and of the `chat` event `joined`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatEntry {
    /// Which chat.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// The highest seq.
    pub head: Seq,
    /// How far the user has read.
    pub read: Seq,
    /// How far this device has acknowledged: live starts above.
    pub cursor: Seq,
    /// Everything above is delivered live; what is at or below comes from the main.
    pub from: Seq,
}

/// The main device as its subs see it.
#[derive(Debug, Clone, Serialize)]
pub struct MainInfo {
    /// Which.
    pub device: DeviceId,
    /// Connected now.
    pub online: bool,
    /// When it was last connected.
    pub last_seen: Millis,
}

/// What a client may do; see the defaults in `docs/protocol.md`.
#[derive(Debug, Clone, Serialize)]
pub struct LimitsInfo {
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Bytes of a `history_page` frame.
    pub history_frame_bytes: usize,
    /// Messages of a page.
    pub history_page: usize,
    /// Messages that may be unacknowledged.
    pub unacked: usize,
    /// Seconds until an unacknowledged message closes the socket.
    pub ack_timeout_s: u64,
}

/// `welcome`: the first frame.
#[derive(Debug, Clone, Serialize)]
pub struct Welcome {
    /// 1.
    pub protocol: u32,
    /// Who.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The fencing number of this connection.
    pub session: u64,
    /// Which edge.
    pub edge: String,
    /// Seconds between the server's pings.
    pub heartbeat_s: f64,
    /// What is allowed.
    pub limits: LimitsInfo,
    /// The user's main, if there is one.
    pub main: Option<MainInfo>,
    /// The user's chats.
    pub chats: Vec<ChatEntry>,
}

/// Whether a user is online: any device of theirs is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Whether.
    pub online: bool,
    /// When a device of theirs was last connected (now, if one is); none: never.
    pub last_seen: Option<Millis>,
}

/// What happened to a device of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceEvent {
    /// Registered.
    Linked,
    /// Connected.
    Online,
    /// Disconnected.
    Offline,
    /// Ended.
    Terminated,
    /// Will be ended unless it is seen soon.
    Expiring,
}

/// What happened to the user's membership, or to a chat's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatEvent {
    /// The user is in it now.
    Joined,
    /// The user isn't any more.
    Left,
    /// Somebody else came.
    MemberJoined,
    /// Somebody else went.
    MemberLeft,
}

/// What happened to an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationEvent {
    /// It waits for the user's answer.
    Pending,
    /// It was answered or withdrawn.
    Over,
}

/// What somebody is invited to.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct InvitationDetails<'a> {
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<&'a str>,
    /// Who invites.
    pub by: &'a UserId,
    /// Since when.
    pub at: Millis,
}

/// What the server says, but for `message` frames, whose bytes are made once at sending.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the table in docs/protocol.md says each field")]
pub enum ServerFrame<'a> {
    /// An answer: exactly one of `ok` and `error`.
    Reply {
        id: &'a FrameId,
        #[serde(skip_serializing_if = "Option::is_none")]
        ok: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a Problem>,
    },
    /// The answer to a bad frame without an id.
    Error { frame: Option<&'a str>, error: &'a Problem },
    /// The first frame.
    Welcome(Box<Welcome>),
    /// The user read on another device.
    Read { chat: ChatId, seq: Seq, device: Option<DeviceId> },
    /// These seqs are beyond what the server holds.
    Gap { chat: ChatId, from: Seq, to: Seq },
    /// To the main: a page, please.
    HistoryRequest { request: &'a str, chat: ChatId, before: Seq, limit: u64, device: DeviceId },
    /// A device of the user.
    Device { event: DeviceEvent, device: DeviceId, at: Millis },
    /// A chat of the user.
    Chat {
        event: ChatEvent,
        chat: ChatId,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a UserId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<ChatEntry>,
    },
    /// A watched user came online, or went.
    Presence(&'a Presence),
    /// Somebody else types.
    Typing { chat: ChatId, user: &'a UserId },
    /// To the main: a page asks to be linked.
    LinkRequest { code: &'a str, name: &'a str, platform: &'a str },
    /// An invitation of the user.
    Invitation {
        event: InvitationEvent,
        chat: ChatId,
        #[serde(flatten)]
        details: Option<InvitationDetails<'a>>,
    },
    /// I'm here.
    Pong,
}

impl ServerFrame<'_> {
    /// The frame's text.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings, numbers and string-keyed maps only: this can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A reply whose `ok` is JSON text already, put in unchanged.
#[must_use]
pub fn raw_reply(id: &FrameId, ok: &str) -> String {
    let id = serde_json::to_string(id).unwrap_or_default();
    format!("{{\"type\":\"reply\",\"id\":{id},\"ok\":{ok}}}")
}
