//! Frames: what a client says, here; what the server says, in `server`. A client's frame is parsed in two steps, so that
//! the answer to a bad one can still name its `id` and type: first the envelope, leniently, then the whole by its type,
//! strictly (an unknown or doubled field is refused).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    ErrorCode, Problem, SafeInt,
    number::{check_syntax, is_object, only_object, parse},
};
use crate::domain::id::{ChatId, MessageKey, UserId};

mod server;

pub use server::{
    ChatEntry, ChatEvent, DeviceEvent, InvitationDetails, InvitationEvent, LimitsInfo, MainInfo, Presence,
    ServerFrame, Welcome, raw_reply,
};

/// The client's id of a frame: a string of at most 128 bytes, or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FrameId {
    /// An integer; clients choose ids that their JSON parser can represent.
    Number(i64),
    /// A string.
    Text(String),
}

/// A picture, sound or file that is stored elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// Its URL.
    pub url: String,
    /// A small preview as a data URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// Its type, for example `image/jpeg`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<SafeInt>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<SafeInt>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<SafeInt>,
    /// A file name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `send`. Also the body of `POST /v1/chats/{id}/messages`, there without `type`, `id` and `chat`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    #[serde(rename = "type")]
    _type: Option<String>,
    /// Echoed in the reply.
    pub id: Option<FrameId>,
    /// The chat to send to.
    pub chat: Option<ChatId>,
    /// Idempotency key.
    pub key: MessageKey,
    /// `text`, `media` or `x.…`.
    pub kind: String,
    /// The text; any JSON for `x.…`.
    pub content: Option<Box<RawValue>>,
    /// With kind `media`.
    #[serde(default, deserialize_with = "only_object")]
    pub media: Option<Media>,
    /// A short text beside the content.
    pub memo: Option<String>,
    /// A small object of the application's own.
    pub meta: Option<Box<RawValue>>,
}

impl Send {
    /// The length of the content as received, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.content.as_ref().map_or(0, |content| content.get().len())
    }
}

/// `ack`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply, if present.
    pub id: Option<FrameId>,
    /// The chat.
    pub chat: ChatId,
    /// Everything up to here is stored on the device.
    pub seq: SafeInt,
}

/// `read`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply, if present.
    pub id: Option<FrameId>,
    /// The chat.
    pub chat: ChatId,
    /// The user has read up to here.
    pub seq: SafeInt,
}

/// `history`, of a sub.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryAsk {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply.
    pub id: Option<FrameId>,
    /// The chat.
    pub chat: ChatId,
    /// Messages below this; default: up to the device's boundary.
    pub before: Option<SafeInt>,
    /// The number of messages; by default the maximum.
    pub limit: Option<SafeInt>,
}

/// `history_page`, of a main.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryPage {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply, if present.
    pub id: Option<FrameId>,
    /// The request that this answers.
    pub request: String,
    /// `message` frames as delivered, relayed unchanged.
    pub messages: Vec<Box<RawValue>>,
    /// Whether older messages exist.
    pub more: bool,
}

/// `history_error`, of a main.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryError {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply, if present.
    pub id: Option<FrameId>,
    /// The request that this answers.
    pub request: String,
    /// The error code, chosen by the main.
    pub code: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    #[serde(rename = "type")]
    _type: String,
    id: Option<FrameId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typing {
    #[serde(rename = "type")]
    _type: String,
    id: Option<FrameId>,
    chat: ChatId,
}

/// `watch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    #[serde(rename = "type")]
    _type: String,
    /// Echoed in the reply.
    pub id: Option<FrameId>,
    /// The users whose presence is wanted from now on. Replaces earlier ones.
    pub users: Vec<UserId>,
}

/// A frame of a client.
#[derive(Debug)]
pub enum ClientFrame {
    /// Sends a message.
    Send(Box<Send>),
    /// Acknowledges messages: the device has stored them.
    Ack(Ack),
    /// Moves the user's read offset.
    Read(Read),
    /// Requests a page of history.
    History(HistoryAsk),
    /// The bootstrap is complete.
    Ready(Option<FrameId>),
    /// Answers a history request.
    HistoryPage(HistoryPage),
    /// Refuses a history request.
    HistoryError(HistoryError),
    /// Publishes that the user is typing.
    Typing(Option<FrameId>, ChatId),
    /// Subscribes to presence.
    Watch(Watch),
    /// Application ping.
    Ping(Option<FrameId>),
}

/// A frame that was refused while parsing.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its type, if readable.
    pub frame: Option<String>,
    /// Its id, if readable.
    pub id: Option<FrameId>,
    /// The reason.
    pub problem: Problem,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

impl ClientFrame {
    /// Its type on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Send(_) => "send",
            Self::Ack(_) => "ack",
            Self::Read(_) => "read",
            Self::History(_) => "history",
            Self::Ready(_) => "ready",
            Self::HistoryPage(_) => "history_page",
            Self::HistoryError(_) => "history_error",
            Self::Typing(..) => "typing",
            Self::Watch(_) => "watch",
            Self::Ping(_) => "ping",
        }
    }

    /// The client's id of it.
    #[must_use]
    pub fn id(&self) -> Option<&FrameId> {
        match self {
            Self::Send(frame) => frame.id.as_ref(),
            Self::Ack(frame) => frame.id.as_ref(),
            Self::Read(frame) => frame.id.as_ref(),
            Self::History(frame) => frame.id.as_ref(),
            Self::HistoryPage(frame) => frame.id.as_ref(),
            Self::HistoryError(frame) => frame.id.as_ref(),
            Self::Watch(frame) => frame.id.as_ref(),
            Self::Ready(id) | Self::Typing(id, _) | Self::Ping(id) => id.as_ref(),
        }
    }

    /// Parses one text frame.
    ///
    /// # Errors
    /// [`Rejected`] with `bad_json`, `bad_frame`, `bad_field` or `bad_range`.
    pub fn parse(text: &str) -> Result<Self, Rejected> {
        let reject = |frame: Option<String>, id, problem| Rejected { frame, id, problem };
        // Syntax first, over the whole text: what isn't JSON is `bad_json` whatever its beginning looks like.
        check_syntax(text).map_err(|problem| reject(None, None, problem))?;
        if !is_object(text) {
            let problem = Problem::new(ErrorCode::BadFrame, "a frame is one JSON object with a \"type\"");
            return Err(reject(None, None, problem));
        }
        let envelope: Envelope<'_> = parse(text).map_err(|problem| reject(None, None, problem))?;
        let kind = envelope.kind.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        let id = envelope.id.map(|raw| serde_json::from_str::<FrameId>(raw.get()));
        let id = match id {
            None => None,
            Some(Ok(FrameId::Text(text))) if text.len() > 128 => {
                return Err(reject(
                    kind,
                    None,
                    Problem::new(ErrorCode::BadField, "an id has at most 128 bytes"),
                ));
            }
            Some(Ok(id)) => Some(id),
            Some(Err(_)) => {
                let problem = Problem::new(ErrorCode::BadField, "an id is a string or an integer");
                return Err(reject(kind, None, problem));
            }
        };
        let Some(kind) = kind else {
            let problem = Problem::new(ErrorCode::BadFrame, "a frame needs a \"type\" that is a string");
            return Err(reject(None, id, problem));
        };
        let parsed = match kind.as_str() {
            "send" => parse(text).map(|send| Self::Send(Box::new(send))),
            "ack" => parse(text).map(Self::Ack),
            "read" => parse(text).map(Self::Read),
            "history" => parse(text).map(Self::History),
            "ready" => parse(text).map(|bare: Bare| Self::Ready(bare.id)),
            "history_page" => parse(text).map(Self::HistoryPage),
            "history_error" => parse(text).map(Self::HistoryError),
            "typing" => parse(text).map(|t: Typing| Self::Typing(t.id, t.chat)),
            "watch" => parse(text).map(Self::Watch),
            "ping" => parse(text).map(|bare: Bare| Self::Ping(bare.id)),
            _ => {
                let problem = Problem::new(ErrorCode::BadFrame, "no such frame type");
                return Err(reject(Some(clip(&kind)), id, problem));
            }
        };
        let needs_id = matches!(kind.as_str(), "send" | "history" | "watch") && id.is_none();
        let parsed = parsed.map_err(|problem| reject(Some(kind.clone()), id, problem))?;
        if needs_id {
            let problem =
                Problem::new(ErrorCode::BadField, "this frame needs an \"id\", so that it can be answered");
            return Err(reject(Some(kind), None, problem));
        }
        Ok(parsed)
    }
}

// A client's own text is given back at most this long.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
