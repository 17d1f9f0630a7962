//! What a session has under way in the store or the broker while it goes on with everything else. Bounded: one log
//! page, one look at its queues, one rejoin, one cursor retry and one wait for a membership per chat, one look at
//! memberships, one hearing of doorbells per such look, one renewal of the lease, one check of the main, one answer per
//! question, one telling of typing per chat in three seconds, one look at who is watched per leave.

use std::sync::Arc;

use super::gaps::Found;
use crate::{
    domain::id::ChatId,
    store::{LogPage, Result as Stored},
    sync::connect::{CheckedMemberships, Refusal, Subscribing},
};

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// A stretch of a chat's log, for which so much room was kept; none: the user isn't in this membership any more.
    Log(ChatId, usize, Stored<Option<LogPage>>),
    /// Whether the main is there.
    Main(Result<(), Refusal>),
    /// Whether the user is in the chats that were looked at.
    Memberships(Stored<CheckedMemberships>),
    /// It is time to look again whether the user is in a chat; and whether the device was subscribed there meanwhile.
    CheckAgain(ChatId, Subscribing),
    /// A queue that was removed: where it was created again; none: the device isn't subscribed.
    Rejoined(ChatId, Option<Arc<str>>),
    /// What the queues of a chat hold.
    Found(ChatId, Box<Found>),
    /// The lease was renewed, because a cursor was fenced.
    Renewed,
    /// Nothing that the session must know.
    Nothing,
}
