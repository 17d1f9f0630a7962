//! What a session has under way in the store or the broker while it goes on with everything else. Bounded: one log
//! page, one rejoin and one cursor retry per chat, one check of the main, one answer per question.

use crate::{
    domain::id::ChatId,
    store::{LogPage, Result as Stored},
    sync::connect::{Membership, Refusal},
};

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// A stretch of a chat's log.
    Log(ChatId, Stored<LogPage>),
    /// Whether the main is there.
    Main(Result<(), Refusal>),
    /// Whether the user is in a chat.
    Membership(ChatId, Stored<Membership>),
    /// A queue that was removed: whether it was made again.
    Resubscribe(ChatId, bool),
    /// Nothing that the session must know.
    Nothing,
}
