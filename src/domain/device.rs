//! A device: one installation of one user, and the session that serves it.

use serde::{Deserialize, Serialize};

use super::{Millis, id::DeviceId, id::UserId};

/// The kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The phone: keeps the whole history. One per user.
    Main,
    /// A web session: keeps no history, and boots it from the main.
    Sub,
}

impl DeviceKind {
    /// Returns `main` or `sub`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Sub => "sub",
        }
    }
}

/// The state of a device. It only moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Written; its channels don't all exist yet, and its token isn't issued.
    Registering,
    /// May connect.
    Active,
    /// Fenced: every edge refuses it while its channels are removed.
    Terminating,
}

/// The session that acts for a device. It has the device as long as its edge lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The edge that holds the connection.
    pub edge: String,
    /// The fencing number: each connect raises it, and a write with an older one is refused.
    pub session: u64,
}

/// A device as the store knows it.
///
/// More than 12 fields: those of its record in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device's id.
    pub id: DeviceId,
    /// The device's user.
    pub user: UserId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The name that people give it, for example "Alice's phone".
    pub name: String,
    /// The platform it runs on, for example "android".
    pub platform: String,
    /// When it was registered.
    pub created: Millis,
    /// When it was last connected (now, if it is; when its edge was last heard of, if that seems dead).
    pub last_seen: Millis,
    /// The state.
    pub state: DeviceState,
    /// The credential version that its tokens must carry; a termination raises it.
    pub generation: u32,
    /// The number of the newest session; 0 before the first. A closed session uses up one more.
    pub session: u64,
    /// The session that serves it; none while it is offline.
    pub lease: Option<Lease>,
    /// Whether its record names a session of an edge that seems dead, and nobody has released it yet.
    pub unrenewed: bool,
    /// When it expires because it was offline for long, once its user was notified; none after it is online again.
    pub expires: Option<Millis>,
    /// How many messages per chat, below the start of its subscription, a sub may ask the main for; none: all of them.
    pub history: Option<u64>,
}

impl Device {
    /// Returns whether a connection owns the device now.
    #[must_use]
    pub fn online(&self) -> bool {
        self.lease.is_some()
    }
}
