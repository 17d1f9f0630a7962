//! What the server says.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{ChatId, ChatKind, DeviceId, DeviceKind, Media, MessageKey, Problem};

/// A frame that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame that can't be read ({why}): {text}")]
pub struct FrameError {
    /// What is wrong with it.
    pub why: String,
    /// The first 200 characters of it.
    pub text: String,
}

/// A message, as the server delivered it.
///
/// The fields that every device needs are read; the rest stays as it came, so that a main can pass the message on
/// unchanged. [`Message::text`], [`Message::content`] and the like read it when it is wanted.
#[derive(Debug, Clone)]
pub struct Message {
    /// The chat.
    pub chat: ChatId,
    /// The number of the message in its chat: 1, 2, 3, …
    pub seq: u64,
    /// The sender's idempotency key.
    pub key: MessageKey,
    /// The sender.
    pub from: String,
    /// The sender's device; none if it was sent with a user token.
    pub device: Option<DeviceId>,
    /// When the server took it, in Unix milliseconds.
    pub at: u64,
    /// `text`, `media` or `x.…`.
    pub kind: String,
    raw: Box<RawValue>,
}

#[derive(Deserialize)]
struct MessageHead {
    chat: ChatId,
    seq: u64,
    // In a page of history these are the main's word: a strange one mustn't cost the whole page.
    #[serde(default)]
    key: MessageKey,
    #[serde(default)]
    from: String,
    #[serde(default)]
    device: Option<DeviceId>,
    #[serde(default)]
    at: u64,
    #[serde(default)]
    kind: String,
}

impl Message {
    /// Reads the JSON of a `message` frame and keeps it as it is.
    ///
    /// # Errors
    /// When it isn't JSON, or lacks `chat` or `seq`.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The frame as it came.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.raw.get()
    }

    /// Reads one field of the frame; none if it is absent or of another type.
    #[must_use]
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let fields: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(self.raw()).ok()?;
        serde_json::from_str(fields.get(name)?.get()).ok()
    }

    /// The text of a `text` message, or the caption of a `media` message.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        self.field("content")
    }

    /// The content, of whatever kind.
    #[must_use]
    pub fn content(&self) -> Option<serde_json::Value> {
        self.field("content")
    }

    /// The file of a `media` message.
    #[must_use]
    pub fn media(&self) -> Option<Media> {
        self.field("media")
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let head: MessageHead = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let MessageHead { chat, seq, key, from, device, at, kind } = head;
        Ok(Self { chat, seq, key, from, device, at, kind, raw })
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

/// A chat as a connection begins with it: an entry of `welcome`, or of a chat that was joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatEntry {
    /// The chat.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// The highest seq.
    pub head: u64,
    /// The user's read offset.
    pub read: u64,
    /// The highest seq that this device acknowledged: live messages begin above it.
    pub cursor: u64,
    /// Everything above is delivered live; what is at or below comes from the main.
    pub from: u64,
}

/// The user's main, as a sub sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MainInfo {
    /// Its id.
    pub device: DeviceId,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last connected, in Unix milliseconds.
    pub last_seen: Option<u64>,
}

/// What the server allows on this connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of a message's content.
    pub content_bytes: u64,
    /// Bytes of a frame.
    pub frame_bytes: u64,
    /// Bytes of a main's `history_page`.
    pub history_frame_bytes: u64,
    /// Messages of a page.
    pub history_page: u64,
    /// Messages that may be unacknowledged.
    pub unacked: u64,
    /// Seconds until an unacknowledged message closes the socket.
    pub ack_timeout_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            content_bytes: 64 << 10,
            frame_bytes: 1 << 20,
            history_frame_bytes: 2 << 20,
            history_page: 100,
            unacked: 256,
            ack_timeout_s: 45,
        }
    }
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Welcome {
    /// The user.
    pub user: String,
    /// This device.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// Rises with each connection of the device.
    pub session: u64,
    /// The edge that serves the connection.
    #[serde(default)]
    pub edge: String,
    /// Seconds between the server's pings.
    #[serde(default)]
    pub heartbeat_s: f64,
    /// What the server allows.
    #[serde(default)]
    pub limits: Limits,
    /// The user's main, if there is one.
    #[serde(default)]
    pub main: Option<MainInfo>,
    /// The user's chats.
    pub chats: Vec<ChatEntry>,
}

/// The answer to a frame with an `id`: exactly one of `ok` and `error`.
#[derive(Debug, Clone, Deserialize)]
pub struct Reply {
    /// The frame's id.
    pub id: u64,
    /// The result, as it came.
    pub ok: Option<Box<RawValue>>,
    /// Why it was refused.
    pub error: Option<Problem>,
}

/// A frame without an `id` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorFrame {
    /// The type of the refused frame; none when it couldn't be read.
    pub frame: Option<String>,
    /// Why.
    pub error: Problem,
}

/// Seqs that the server holds no more: they don't come by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// The chat.
    pub chat: ChatId,
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
}

/// The user's read offset moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct ReadNotice {
    /// The chat.
    pub chat: ChatId,
    /// The offset.
    pub seq: u64,
    /// On which device; none: by joining.
    pub device: Option<DeviceId>,
}

/// What happened to a device of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
    /// Will be terminated unless it connects.
    Expiring,
    /// Something that this crate doesn't know.
    #[serde(other)]
    Other,
}

/// Another device of the user came, went or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct DeviceNotice {
    /// What happened.
    pub event: DeviceEvent,
    /// To which device.
    pub device: DeviceId,
    /// When, in Unix milliseconds.
    pub at: Option<u64>,
}

/// What happened to the user's membership, or to a chat's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatEvent {
    /// The user is in it now.
    Joined,
    /// The user isn't in it any more.
    Left,
    /// Another user came.
    MemberJoined,
    /// Another user went.
    MemberLeft,
    /// Something that this crate doesn't know.
    #[serde(other)]
    Other,
}

/// A membership changed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChatNotice {
    /// What happened.
    pub event: ChatEvent,
    /// In which chat.
    pub chat: ChatId,
    /// Who came or went.
    #[serde(default)]
    pub user: Option<String>,
    /// With `joined`: what the chat begins with.
    #[serde(default)]
    pub entry: Option<ChatEntry>,
}

/// Whether a user is online.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Presence {
    /// The user.
    pub user: String,
    /// Whether a device of theirs is connected.
    pub online: bool,
    /// When one last was, in Unix milliseconds; none: never.
    pub last_seen: Option<u64>,
}

/// Another user types.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Typing {
    /// The chat.
    pub chat: ChatId,
    /// The user.
    pub user: String,
}

/// An invitation of the user waits for an answer (`pending`), or waits no more (`over`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invitation {
    /// `pending` or `over`.
    pub event: String,
    /// The chat.
    pub chat: ChatId,
    /// Direct or group.
    #[serde(default)]
    pub kind: Option<ChatKind>,
    /// A group's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Who invites.
    #[serde(default)]
    pub by: Option<String>,
    /// Since when, in Unix milliseconds.
    #[serde(default)]
    pub at: Option<u64>,
}

/// To a main: a web page asks to be linked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LinkRequest {
    /// The code that the page shows.
    pub code: String,
    /// The page's name.
    pub name: String,
    /// The page's platform.
    pub platform: String,
}

/// To a main: a sub asks for the newest messages below `before`, at most `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HistoryRequest {
    /// Names the request in the answer.
    pub request: String,
    /// The chat.
    pub chat: ChatId,
    /// Messages below this seq.
    pub before: u64,
    /// At most so many.
    pub limit: usize,
    /// Which device asks.
    pub device: DeviceId,
}

/// A frame of a newer server.
#[derive(Debug, Clone)]
pub struct UnknownFrame {
    /// Its type.
    pub kind: String,
    /// The frame as it came.
    pub raw: Box<RawValue>,
}

/// A frame that the server sends.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerFrame {
    /// The first frame of a connection.
    Welcome(Box<Welcome>),
    /// A message.
    Message(Message),
    /// Seqs that don't come by themselves.
    Gap(Gap),
    /// The answer to a frame with an `id`.
    Reply(Reply),
    /// A frame without an `id` was refused.
    Error(ErrorFrame),
    /// The read offset moved on another device.
    Read(ReadNotice),
    /// Another device of the user.
    Device(DeviceNotice),
    /// A membership.
    Chat(ChatNotice),
    /// A watched user.
    Presence(Presence),
    /// Another user types.
    Typing(Typing),
    /// An invitation.
    Invitation(Invitation),
    /// To a main: a page asks to be linked.
    LinkRequest(LinkRequest),
    /// To a main: a sub asks for history.
    HistoryRequest(HistoryRequest),
    /// The answer to a `ping`.
    Pong,
    /// A frame of a newer server.
    Unknown(UnknownFrame),
}

impl ServerFrame {
    /// Reads a text frame.
    ///
    /// # Errors
    /// When it isn't a JSON object with a `type`, or a known type lacks a field.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
        }
        let unreadable = |error: serde_json::Error| FrameError {
            why: error.to_string(),
            text: text.chars().take(200).collect(),
        };
        // (What there are most of: the contract puts the type first.)
        if text.starts_with("{\"type\":\"message\",") {
            return serde_json::from_str(text).map(Self::Message).map_err(unreadable);
        }
        let Envelope { kind } = serde_json::from_str(text).map_err(unreadable)?;
        let frame = match &*kind {
            "welcome" => serde_json::from_str(text).map(|it| Self::Welcome(Box::new(it))),
            "message" => serde_json::from_str(text).map(Self::Message),
            "gap" => serde_json::from_str(text).map(Self::Gap),
            "reply" => serde_json::from_str(text).map(Self::Reply),
            "error" => serde_json::from_str(text).map(Self::Error),
            "read" => serde_json::from_str(text).map(Self::Read),
            "device" => serde_json::from_str(text).map(Self::Device),
            "chat" => serde_json::from_str(text).map(Self::Chat),
            "presence" => serde_json::from_str(text).map(Self::Presence),
            "typing" => serde_json::from_str(text).map(Self::Typing),
            "invitation" => serde_json::from_str(text).map(Self::Invitation),
            "link_request" => serde_json::from_str(text).map(Self::LinkRequest),
            "history_request" => serde_json::from_str(text).map(Self::HistoryRequest),
            "pong" => Ok(Self::Pong),
            _ => serde_json::from_str(text)
                .map(|raw| Self::Unknown(UnknownFrame { kind: kind.clone().into_owned(), raw })),
        };
        frame.map_err(unreadable)
    }

    /// The frame's type, as on the wire.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Message(_) => "message",
            Self::Gap(_) => "gap",
            Self::Reply(_) => "reply",
            Self::Error(_) => "error",
            Self::Read(_) => "read",
            Self::Device(_) => "device",
            Self::Chat(_) => "chat",
            Self::Presence(_) => "presence",
            Self::Typing(_) => "typing",
            Self::Invitation(_) => "invitation",
            Self::LinkRequest(_) => "link_request",
            Self::HistoryRequest(_) => "history_request",
            Self::Pong => "pong",
            Self::Unknown(frame) => &frame.kind,
        }
    }
}
