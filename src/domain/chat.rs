//! A chat, its members, and what one device is owed in it.

use serde::{Deserialize, Serialize};

use super::{Millis, Seq, id::ChatId, id::UserId};

/// Two people, or a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// Two users; one such chat per pair.
    Direct,
    /// Any number of users.
    Group,
}

impl ChatKind {
    /// `direct` or `group`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
        }
    }
}

/// A chat as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Its id.
    pub id: ChatId,
    /// Direct or group.
    pub kind: ChatKind,
    /// A group's name.
    pub name: Option<String>,
    /// Anyone may join it, and its name is unique among such groups.
    pub public: bool,
    /// The hash of the password that lets people join; never sent to anyone.
    pub password_hash: Option<String>,
    /// Who invites and removes.
    pub owner: UserId,
    /// The nsqd that carries it, as the broker named it at creation.
    pub node: String,
    /// When it was made.
    pub created: Millis,
    /// The highest seq.
    pub head: Seq,
    /// Rises whenever somebody leaves or is removed; a message carries the one at which it was appended.
    pub epoch: u64,
}

/// One user in one chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// The chat's head when they joined: nothing at or below it is theirs to see.
    pub boundary: Seq,
    /// Tells this membership from an earlier or later one of the same user.
    pub version: u64,
}

/// What one device is owed in one chat: everything above `from`, of which it has everything up to `cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Fixed when the device was registered or its user (re)joined.
    pub from: Seq,
    /// The highest seq it acknowledged; at least `from`.
    pub cursor: Seq,
}
