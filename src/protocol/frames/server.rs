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
    /// The chat's id.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// The highest seq.
    pub head: Seq,
    /// The user's read offset.
    pub read: Seq,
    /// The device's cursor: live delivery starts above it.
    pub cursor: Seq,
    /// Messages above it are delivered live; those at or below it come from the main.
    pub from: Seq,
}

/// The main device as its subs see it.
#[derive(Debug, Clone, Serialize)]
pub struct MainInfo {
    /// Its id.
    pub device: DeviceId,
    /// Connected now.
    pub online: bool,
    /// When it was last connected.
    pub last_seen: Millis,
}

/// Limits of a client; `docs/protocol.md` lists the defaults.
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
    /// The protocol's version: 1.
    pub protocol: u32,
    /// The user.
    pub user: UserId,
    /// The device's id.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The fencing number of this connection.
    pub session: u64,
    /// The edge that serves it.
    pub edge: String,
    /// Seconds between the server's pings.
    pub heartbeat_s: f64,
    /// The limits.
    pub limits: LimitsInfo,
    /// The user's main, if there is one.
    pub main: Option<MainInfo>,
    /// The user's chats.
    pub chats: Vec<ChatEntry>,
}

/// Whether a user is online: any device of theirs is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Presence {
    /// The user.
    pub user: UserId,
    /// Whether the user is online.
    pub online: bool,
    /// When a device of theirs was last connected (now, if one is); none: never.
    pub last_seen: Option<Millis>,
}

/// An event of a device of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceEvent {
    /// Registered.
    Linked,
    /// Connected.
    Online,
    /// Disconnected.
    Offline,
    /// Terminated.
    Terminated,
    /// Will be terminated unless it connects soon.
    Expiring,
}

/// An event of the user's membership, or of a chat's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatEvent {
    /// The user is a member now.
    Joined,
    /// The user is no longer a member.
    Left,
    /// Another user joined.
    MemberJoined,
    /// Another user left.
    MemberLeft,
}

/// An event of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitationEvent {
    /// It waits for the user's answer.
    Pending,
    /// It was answered or withdrawn.
    Over,
}

/// The chat of an invitation.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct InvitationDetails<'a> {
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<&'a str>,
    /// The inviting user.
    pub by: &'a UserId,
    /// When it was sent.
    pub at: Millis,
}

/// A frame of the server, except `message`: its bytes are serialised once, at sending.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the table in docs/protocol.md says each field")]
pub enum ServerFrame<'a> {
    /// Answers a frame: exactly one of `ok` and `error`.
    Reply {
        id: &'a FrameId,
        #[serde(skip_serializing_if = "Option::is_none")]
        ok: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a Problem>,
    },
    /// Answers an invalid frame without an id.
    Error { frame: Option<&'a str>, error: &'a Problem },
    /// The first frame.
    Welcome(Box<Welcome>),
    /// The user's read offset moved on another device.
    Read { chat: ChatId, seq: Seq, device: Option<DeviceId> },
    /// The server no longer holds these seqs.
    Gap { chat: ChatId, from: Seq, to: Seq },
    /// To the main: requests a page of history.
    HistoryRequest { request: &'a str, chat: ChatId, before: Seq, limit: u64, device: DeviceId },
    /// An event of a device of the user.
    Device { event: DeviceEvent, device: DeviceId, at: Millis },
    /// An event of a chat of the user.
    Chat {
        event: ChatEvent,
        chat: ChatId,
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a UserId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        entry: Option<ChatEntry>,
    },
    /// A watched user is online, or no longer.
    Presence(&'a Presence),
    /// Another user is typing.
    Typing { chat: ChatId, user: &'a UserId },
    /// To the main: a web page asks to be linked.
    LinkRequest { code: &'a str, name: &'a str, platform: &'a str },
    /// An event of an invitation of the user.
    Invitation {
        event: InvitationEvent,
        chat: ChatId,
        #[serde(flatten)]
        details: Option<InvitationDetails<'a>>,
    },
    /// Answers a ping.
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

/// A reply whose `ok` is JSON text already, inserted unchanged.
#[must_use]
pub fn raw_reply(id: &FrameId, ok: &str) -> String {
    let id = serde_json::to_string(id).unwrap_or_default();
    format!("{{\"type\":\"reply\",\"id\":{id},\"ok\":{ok}}}")
}
