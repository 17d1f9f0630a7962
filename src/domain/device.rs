//! A device: one installation of one user, and the lease by which one connection owns it.

use serde::{Deserialize, Serialize};

use super::{Millis, id::DeviceId, id::UserId};

/// What a device is to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The phone: keeps the whole history. One per user.
    Main,
    /// A web session: keeps none, and boots it from the main.
    Sub,
}

impl DeviceKind {
    /// `main` or `sub`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Sub => "sub",
        }
    }
}

/// How far a device is in its life. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Written, its channels not yet all there; its token isn't handed out.
    Registering,
    /// May connect.
    Active,
    /// Fenced: every edge refuses it while its channels are removed.
    Terminating,
}

/// The right of one connection to act for a device. It runs out by itself when the edge stops renewing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The edge that holds the connection.
    pub edge: String,
    /// The fencing number: raised by each connect; a write with an older one is refused.
    pub session: u64,
}

/// A device as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Whose it is.
    pub user: UserId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// What people call it, for example "Alice's phone".
    pub name: String,
    /// What it runs on, for example "android".
    pub platform: String,
    /// When it was registered.
    pub created: Millis,
    /// When it was last connected (now, if it is).
    pub last_seen: Millis,
    /// Where in its life it is.
    pub state: DeviceState,
    /// The credential version that its tokens must carry; raised by termination.
    pub generation: u32,
    /// The number of the newest session; 0 before the first. One that is closed uses up one more.
    pub session: u64,
    /// The live lease; none while it is offline.
    pub lease: Option<Lease>,
    /// There is a lease that looks over, and nobody has given it back: its edge has just died, or the clock was set.
    pub unrenewed: bool,
    /// When it will be ended because nobody has seen it for long, once its user was told so; none when it is seen again.
    pub expires: Option<Millis>,
    /// How many messages per chat, below where it begins, a sub may ask the main for; none: all of them.
    pub history: Option<u64>,
}

impl Device {
    /// Whether a connection owns it now.
    #[must_use]
    pub fn online(&self) -> bool {
        self.lease.is_some()
    }
}
