//! What a session has under way in the store or the broker while it goes on with everything else. Bounded: one log
//! page, one look at its queues, one rejoin, one cursor retry, one wait for a membership and one check of an epoch per
//! chat, one look at a membership per news of it, one check of the main, one answer per question, one telling of typing
//! per chat in three seconds, one look at who is watched per leave.

use std::sync::Arc;

use super::gaps::Found;
use crate::{
    domain::id::ChatId,
    store::{LogPage, Result as Stored},
    sync::connect::{Membership, Refusal},
};

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// A stretch of a chat's log, for which so much room was kept; none: the user isn't in this membership any more.
    Log(ChatId, usize, Stored<Option<LogPage>>),
    /// Whether the main is there.
    Main(Result<(), Refusal>),
    /// Whether the user is in a chat; if so, then at this epoch at least: what was held when it was asked had it.
    Membership(ChatId, u64, Stored<Membership>),
    /// It is time to look again whether the user is in a chat.
    LookAgain(ChatId),
    /// A queue that was removed: where it was made again; none: it isn't owed.
    Resubscribe(ChatId, Option<Arc<str>>),
    /// What the queues of a chat hold.
    Found(ChatId, Box<Found>),
    /// Nothing that the session must know.
    Nothing,
}
