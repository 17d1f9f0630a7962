//! A message on the timeline: what it says, and how each device stands to it.

use super::cast::{Role, Room};

/// How one device stands to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It sent it.
    Sent,
    /// It has it.
    Has,
    /// It waits in the device's queue.
    Waits,
    /// The device isn't there (yet).
    Absent,
    /// The device was ended.
    Ended,
}

impl Mark {
    /// On the timeline.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Sent => "▲",
            Self::Has => "●",
            Self::Waits => "○",
            Self::Absent => "·",
            Self::Ended => "×",
        }
    }

    /// In the JSON events.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Has => "has",
            Self::Waits => "waits",
            Self::Absent => "absent",
            Self::Ended => "ended",
        }
    }
}

/// A message on the timeline.
#[derive(Debug)]
pub struct Row<'a> {
    /// The story's clock.
    pub at: &'a str,
    /// Who sent it.
    pub from: Role,
    /// Where.
    pub room: Room,
    /// Its number.
    pub seq: u64,
    /// In one line.
    pub text: &'a str,
    /// How each device stands to it.
    pub marks: [Mark; Role::ALL.len()],
}
