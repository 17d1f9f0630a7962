//! A chat, its members, and the position of a device in it.

use serde::{Deserialize, Serialize};

use super::{Millis, Seq, id::ChatId, id::UserId};

/// The kind of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// Two users; one such chat per pair.
    Direct,
    /// Any number of users.
    Group,
}

impl ChatKind {
    /// Returns `direct` or `group`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
        }
    }
}

/// How a user enters a chat into which another user puts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Entry {
    /// At once.
    #[default]
    #[value(name = "direct")]
    AtOnce,
    /// When they accept it.
    #[value(name = "consent")]
    ByConsent,
}

/// An open invitation into a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The chat.
    pub chat: ChatId,
    /// The user who invites.
    pub by: UserId,
    /// When it began, by the store's clock. Distinguishes the invitation from an earlier or later one into the same
    /// chat.
    pub at: Millis,
}

/// A chat as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The chat's id.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// Whether anyone may join. The name is unique among such groups.
    pub public: bool,
    /// The hash of the password that lets users join; never sent to anyone.
    pub password_hash: Option<String>,
    /// The user who may invite and remove.
    pub owner: UserId,
    /// The nsqd that carries it, as the broker named it at creation.
    pub node: String,
    /// When it was created.
    pub created: Millis,
    /// The highest seq.
    pub head: Seq,
    /// The membership epoch: rises whenever a member leaves or is removed. A message carries the epoch at which it was
    /// appended.
    pub epoch: u64,
}

/// One user in one chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: UserId,
    /// The chat's head when the user joined: nothing at or below it is visible to them.
    pub boundary: Seq,
    /// Distinguishes this membership from an earlier or later one of the same user.
    pub version: u64,
}

/// The position of a device in a chat: it receives everything above `from`, of which it has everything up to `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePosition {
    /// Fixed when the device was registered or its user (re)joined.
    pub from: Seq,
    /// The highest seq it acknowledged; at least `from`.
    pub cursor: Seq,
}
