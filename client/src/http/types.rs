//! What the calls take and give.

use serde::{Deserialize, Serialize};

use crate::frame::{ChatId, ChatKind, DeviceId, DeviceKind};

/// A device to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Main or sub.
    pub kind: DeviceKind,
    /// A name for people.
    pub name: String,
    /// What it runs on, for example `android`.
    pub platform: String,
    /// Its id; one that is made once and kept makes the call idempotent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<DeviceId>,
    /// Whether a main takes the place of the user's other main, which is terminated.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

impl Registration {
    /// A device with an id that the server makes up.
    #[must_use]
    pub fn new(kind: DeviceKind, name: &str, platform: &str) -> Self {
        Self { kind, name: name.to_owned(), platform: platform.to_owned(), id: None, replace: false }
    }
}

/// A device of the user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeviceInfo {
    /// Its id.
    pub id: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// Its name.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// When it was registered, in Unix milliseconds.
    pub created: u64,
    /// When it was last connected, in Unix milliseconds.
    pub last_seen: Option<u64>,
    /// Whether it is connected.
    pub online: bool,
    /// Of a linked sub: how many messages of each chat's past it may ask for; none: all.
    pub history: Option<u64>,
}

/// A device that is registered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// The device.
    pub device: DeviceInfo,
    /// Its token. Keep it like a password.
    pub token: String,
}

/// The end of a device, under way or done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Termination {
    /// Its id.
    pub id: String,
    /// `accepted`, `pending` or `done`.
    pub state: String,
    /// How many queues were deleted so far.
    #[serde(default)]
    pub channels_deleted: u64,
}

/// A link that a web page asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LinkOffer {
    /// Its id.
    pub link: String,
    /// The code that the user types or scans on the phone.
    pub code: String,
    /// For the page alone.
    pub secret: String,
    /// Seconds until it is over.
    pub expires_in: u64,
}

/// What became of a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LinkState {
    /// The phone hasn't decided.
    Pending,
    /// The page is a sub now.
    Approved(Box<Registered>),
    /// The phone said no.
    Refused,
    /// Its time is over.
    Expired,
}

/// A group to be made. With neither `public` nor a password people come by invitation only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewGroup {
    /// Its name; a public one needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether anybody may join.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
    /// Who knows it may join.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Its id; one that is made once and kept makes the call idempotent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ChatId>,
}

/// A chat of the user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChatInfo {
    /// Its id.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// A group's owner.
    pub owner: Option<String>,
    /// The highest seq.
    pub head: u64,
    /// The user's read offset.
    pub read: u64,
    /// The users in it.
    pub members: Vec<String>,
}

/// A message that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SentAt {
    /// Its number in the chat.
    pub seq: u64,
    /// When the server took it, in Unix milliseconds.
    pub at: u64,
}
