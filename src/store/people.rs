//! What users allow others: whom they block, who may not put them into chats for a while, and which invitations await
//! their answer.
//!
//! A call that depends on earlier state names that state: the `version` of a user's answers rises with each block and
//! unblock, with each bar, and with each end of an invitation. So a late call neither blocks again, nor restores an
//! invitation, nor lifts a bar.

use std::time::Duration;

use super::{Count, Result, Store};
use crate::domain::{
    Millis,
    chat::{Chat, Invitation},
    id::{ChatId, UserId},
};

/// How long an invitation stays open.
pub const INVITATION: Duration = Duration::from_secs(30 * 24 * 3600);

/// A user's stance towards another user who wants to reach them; see [`Store::stance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stance {
    /// Whether the user blocks the other one.
    pub blocks: bool,
    /// How long the other one still may not put the user into a chat.
    pub barred: Option<Duration>,
    /// The version of the user's answers.
    pub version: u64,
}

/// The result of [`Store::block`] and [`Store::invite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The state holds now, or held already.
    Done,
    /// The limit is reached.
    LimitReached,
    /// The user has answered something since that version: read the stance again.
    Stale,
}

/// One blocked user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The blocked user.
    pub user: UserId,
    /// When the block began.
    pub at: Millis,
}

/// How many open invitations a user may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvitationLimits {
    /// In total.
    pub all: u32,
    /// From one user.
    pub of_one: u32,
}

impl Store {
    /// Returns the stance of `user` towards `other`.
    pub async fn stance(&self, user: &UserId, other: &UserId) -> Result<Stance> {
        each!(self.stance(user, other))
    }

    /// Blocks `whom` for the user and ends the invitations from `whom`. A user blocks at most `most` others.
    pub async fn block(&self, user: &UserId, whom: &UserId, version: u64, most: u32) -> Result<Answered> {
        each!(self.block(user, whom, version, most))
    }

    /// Unblocks `whom` for the user. Returns false, and changes nothing, if the version is an older one.
    pub async fn unblock(&self, user: &UserId, whom: &UserId, version: u64) -> Result<bool> {
        each!(self.unblock(user, whom, version))
    }

    /// Returns the users that the user blocks, by name.
    pub async fn blocks(&self, user: &UserId) -> Result<Vec<Block>> {
        each!(self.blocks(user))
    }

    /// Records that `by` put the user into a chat, until the user leaves the chat.
    pub async fn note_invited(&self, user: &UserId, chat: ChatId, by: &UserId) -> Result<()> {
        each!(self.note_invited(user, chat, by))
    }

    /// Returns who put the user into a chat. Returns none if the user joined by themselves.
    pub async fn put_by(&self, user: &UserId, chat: ChatId) -> Result<Option<UserId>> {
        each!(self.put_by(user, chat))
    }

    /// Bars `by` from putting the user into a chat, for `long` from now.
    pub async fn deny_invites(&self, user: &UserId, by: &UserId, long: Duration) -> Result<()> {
        each!(self.deny_invites(user, by, long))
    }

    /// Lifts the bar on `by`, unless the user has answered something since that version.
    pub async fn allow_invites(&self, user: &UserId, by: &UserId, version: u64) -> Result<()> {
        each!(self.allow_invites(user, by, version))
    }

    /// Records an invitation of the user into a chat by `by`, for [`INVITATION`]. An open invitation stays unchanged.
    pub async fn invite(
        &self,
        user: &UserId,
        chat: ChatId,
        by: &UserId,
        version: u64,
        most: InvitationLimits,
    ) -> Result<Answered> {
        each!(self.invite(user, chat, by, version, most))
    }

    /// Returns the user's open invitations, by chat.
    pub async fn invitations(&self, user: &UserId) -> Result<Vec<Invitation>> {
        each!(self.invitations(user))
    }

    /// Ends an invitation, as the caller read it. Returns false if it was ended before.
    pub async fn end_invitation(&self, user: &UserId, invitation: &Invitation) -> Result<bool> {
        each!(self.end_invitation(user, invitation))
    }

    /// Returns the direct chat of two users, whichever of them is in it.
    pub async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<Chat>> {
        each!(self.direct(one, other))
    }

    /// Counts as [`Store::count`] does, and also returns how long the window still lasts.
    pub async fn counted(&self, name: &str, window: Duration) -> Result<(Count, Duration)> {
        each!(self.counted(name, window))
    }
}
