//! The frames of the socket as types: what a client says, here; what the server says, in [`ServerFrame`] and its parts.
//!
//! The contract is `docs/protocol.md`. A server may be newer than this crate: unknown frames become
//! [`ServerFrame::Unknown`], unknown fields are ignored, and unknown events become `Other`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

mod server;

pub use server::{
    ChatEntry, ChatEvent, ChatNotice, DeviceEvent, DeviceNotice, ErrorFrame, FrameError, Gap, HistoryRequest,
    Invitation, Limits, LinkRequest, MainInfo, Message, Presence, ReadNotice, Reply, ServerFrame, Typing,
    UnknownFrame, Welcome,
};

/// The id of a chat.
pub type ChatId = Uuid;
/// The id of a device.
pub type DeviceId = Uuid;
/// The idempotency key of a message: made once, kept until the message is answered.
pub type MessageKey = Uuid;

/// Whether a device keeps the history or fetches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The phone: keeps the whole history, and serves it. At most one per user.
    Main,
    /// A web session: fetches its history from the main.
    Sub,
}

/// Whether a chat is between two users or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// Two users, one chat per pair.
    Direct,
    /// Any number of users.
    Group,
}

/// Why the server refused a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Problem {
    /// For programs: one of the error codes of `docs/protocol.md`.
    pub code: String,
    /// For people; it may change.
    #[serde(default)]
    pub message: String,
    /// Whether the same frame may succeed later.
    #[serde(default)]
    pub retry: bool,
    /// With `main_offline`: when the main was last connected, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<u64>,
}

impl Problem {
    /// A refusal that this crate makes by itself, before anything is sent.
    pub(crate) fn local(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), retry: false, last_seen: None }
    }
}

/// A file that a message names. Keepstep stores no files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// Where the file is.
    pub url: String,
    /// A small preview as a data URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// The media type, for example `image/jpeg`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u64>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// A file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a message says, before it is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// `text`, `media`, or `x.` and a name of the application's own.
    pub kind: String,
    /// A string for `text`; a caption or nothing for `media`; any JSON for `x.…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// With `media` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// A text of at most 1 KiB beside the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// An object of the application's own, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Value>,
}

impl Draft {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            kind: "text".to_owned(),
            content: Some(Value::String(text.into())),
            media: None,
            memo: None,
            meta: None,
        }
    }

    /// A file, without a caption.
    #[must_use]
    pub fn media(media: Media) -> Self {
        Self { kind: "media".to_owned(), content: None, media: Some(media), memo: None, meta: None }
    }

    /// Content of the application's own; `kind` begins with `x.`.
    #[must_use]
    pub fn custom(kind: impl Into<String>, content: Value) -> Self {
        Self { kind: kind.into(), content: Some(content), media: None, memo: None, meta: None }
    }
}

/// A page of a chat's history: messages in ascending order of their seq.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Whether there are older messages (of a page after a seq: newer ones).
    pub more: bool,
}

/// A frame that a client sends. `id` asks for a reply.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
#[allow(missing_docs, reason = "docs/protocol.md says each field")]
pub enum ClientFrame {
    /// A message. Its reply is a `{"seq", "at"}`.
    Send {
        id: u64,
        chat: ChatId,
        key: MessageKey,
        #[serde(flatten)]
        draft: Box<Draft>,
    },
    /// Everything up to `seq` is stored on this device.
    Ack {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        chat: ChatId,
        seq: u64,
    },
    /// The user has read up to `seq`.
    Read { id: u64, chat: ChatId, seq: u64 },
    /// A sub asks its main for the newest messages below `before`.
    History {
        id: u64,
        chat: ChatId,
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        limit: u64,
    },
    /// A main's answer to a [`HistoryRequest`].
    HistoryPage { request: String, messages: Vec<Message>, more: bool },
    /// A main's refusal of a [`HistoryRequest`].
    HistoryError { request: String, code: String },
    /// A sub has its history.
    Ready {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// Asks for a `pong`.
    Ping {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
    },
    /// The user types.
    Typing { chat: ChatId },
    /// Tell who of these users is online.
    Watch { id: u64, users: Vec<String> },
}

impl ClientFrame {
    /// The frame's text, as it goes over the wire.
    #[must_use]
    pub fn text(&self) -> String {
        // Strings, numbers and string-keyed maps only: this can't fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
