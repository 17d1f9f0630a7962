//! What a session has under way in the store or the broker while it goes on with everything else. Bounded: one log
//! page, one rejoin, one cursor retry and one wait for a membership per chat, one look at memberships, one hearing of
//! doorbells per such look, one check of the main, one answer per question, one telling of typing per chat in three seconds,
//! one look at who is watched per leave.

use std::sync::Arc;

use crate::{
    domain::id::ChatId,
    store::{LogPage, Result as Stored},
    sync::connect::{Looked, Refusal},
};

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// A stretch of a chat's log.
    Log(ChatId, Stored<LogPage>),
    /// Whether the main is there.
    Main(Result<(), Refusal>),
    /// Whether the user is in these chats.
    Memberships(Stored<Looked>),
    /// It is time to look again whether the user is in a chat.
    LookAgain(ChatId),
    /// A queue that was removed: where it was made again; none: it isn't owed.
    Resubscribe(ChatId, Option<Arc<str>>),
    /// Where else than where its chat is now the device has a queue that holds something.
    Former(ChatId, Vec<String>),
    /// Nothing that the session must know.
    Nothing,
}
