//! Futures of a session in the store or the broker. Bounded: one log page, one check of its queues, one rejoin, one cursor
//! retry and one wait for a membership per chat, one check of memberships, one subscribing to doorbells per such check, one
//! check of the device, one check of the main, one answer per request, one `typing` per chat in three seconds, one check of
//! watched users per leave.

use std::sync::Arc;

use super::gaps::Found;
use crate::{
    domain::id::ChatId,
    store::{LogPage, Result as Stored},
    sync::connect::{CheckedMemberships, Refusal, Subscribing},
};

/// The result of one.
#[derive(Debug)]
pub(super) enum Done {
    /// A page of a chat's log, with its reserved room; none: the user isn't in this membership any more.
    Log(ChatId, usize, Stored<Option<LogPage>>),
    /// Whether the main is connected.
    Main(Result<(), Refusal>),
    /// Whether the user is in the checked chats.
    Memberships(Stored<CheckedMemberships>),
    /// Time to check a membership again; and whether the device was subscribed meanwhile.
    CheckAgain(ChatId, Subscribing),
    /// Where a removed queue was created again; none: the device isn't subscribed.
    Rejoined(ChatId, Option<Arc<str>>),
    /// The result of a check of a chat's queues.
    Found(ChatId, Box<Found>),
    /// Whether the session has its device was checked, because a cursor was fenced.
    Checked,
    /// Nothing that concerns the session.
    Nothing,
}
