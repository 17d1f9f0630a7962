//! Who may reach whom: adding users to chats, pending invitations, and blocks.
//!
//! A user who blocks another is out of reach for them: in their direct chat the other one has left, there is no new one and no
//! invitation, and neither sees whether the other is online. Common groups continue.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};

use super::{
    Core, acquaintance, membership, seconds,
    signal::{self, Signal},
};
use crate::{
    domain::{
        chat::{Chat, Entry, Invitation},
        id::{ChatId, UserId},
    },
    hub::InvitationNews,
    protocol::{ErrorCode, Problem},
    store::{Answered, Block, InvitationLimits, JoinBy, Result as Stored, Stance},
};

/// Attempts when answers of the user change concurrently.
const TRIES: usize = 5;
/// Chats that are checked at a time.
const PARALLEL: usize = 16;
/// The window of the rate of being added to chats.
const HOUR: Duration = Duration::from_secs(3600);
/// One user may use this part of what all others may do to a user, or have pending.
const SHARE_OF_CHATS: u32 = 3;
const SHARE_OF_INVITATIONS: u32 = 10;

/// How a user was added to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// They are in it.
    Member,
    /// They were invited.
    Asked,
}

/// Checks whether `by` may reach the user at all.
///
/// # Errors
/// `forbidden`, `unavailable`.
pub(super) async fn may_reach(core: &Core, by: &UserId, user: &UserId) -> Result<Stance, Problem> {
    let stance = core.store.stance(user, by).await?;
    if stance.blocks {
        return Err(Problem::new(ErrorCode::Forbidden, "this user can't be put into a chat by you"));
    }
    Ok(stance)
}

/// Checks whether `by` may add the user to a new chat, and counts it.
///
/// # Errors
/// `forbidden`, `too_many_requests`, `unavailable`.
pub(super) async fn may_put(core: &Core, by: &UserId, user: &UserId) -> Result<(), Problem> {
    if let Some(left) = may_reach(core, by, user).await?.barred {
        let detail = "this user has left a chat of yours, or declined one: they may come by themselves, or be asked again later";
        return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(seconds(left)));
    }
    if core.limits.invites == Entry::ByConsent {
        let (waiting, most) = (core.store.invitations(user).await?, invitation_limits(core));
        let own = waiting.iter().filter(|invitation| invitation.by == *by).count();
        // Strangers may have filled it. Users whom this user knows have the same number again.
        let full = own >= most.of_one as usize
            || waiting.len() >= most_invitations(core) as usize
            || (waiting.len() >= most.all as usize && !acquaintance::is_known(core, user, by).await?);
        if full {
            return Err(no_room(core));
        }
    }
    // The own share first: whoever is over it uses up nothing of the others'.
    let all = core.limits.invited_per_hour;
    let own = room(core, format!("invited.{user} {by}"), all.div_ceil(SHARE_OF_CHATS)).await?;
    let full = match own {
        Some(left) => Some(left),
        None => match room(core, format!("invited.{user}"), all).await? {
            // Strangers have used all of it. Users whom this user knows have the same number again.
            Some(_) if acquaintance::is_known(core, user, by).await? => {
                room(core, format!("invited.{user} known"), all).await?
            }
            full => full,
        },
    };
    let Some(left) = full else { return Ok(()) };
    let detail = format!(
        "others may put a user into {all} new chats an hour, those who share a chat with them into as many more, and each of \
         them into a third of these: try again later"
    );
    Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(seconds(left)))
}

/// Counts one more in this hour. Above `most`, returns how long to wait.
async fn room(core: &Core, name: String, most: u32) -> Stored<Option<Duration>> {
    let (count, left) = core.store.counted(&name, HOUR).await?;
    Ok((count > u64::from(most)).then_some(left))
}

/// Invites a user to a chat.
///
/// # Errors
/// `forbidden`, `limit_reached`, `unavailable`.
pub(super) async fn ask(core: &Core, chat: &Chat, by: &UserId, user: &UserId) -> Result<(), Problem> {
    let (mut most, in_all) = (invitation_limits(core), most_invitations(core));
    for _ in 0..TRIES {
        let version = may_reach(core, by, user).await?.version;
        match core.store.invite(user, chat.id, by, version, most).await? {
            Answered::Done => {
                let invitations = core.store.invitations(user).await?;
                if let Some(invitation) = invitations.into_iter().find(|one| one.chat == chat.id) {
                    let Invitation { by, at, .. } = invitation;
                    let (kind, name) = (chat.kind, chat.name.clone());
                    let news = InvitationNews::Pending { chat: chat.id, kind, name, by, at };
                    signal::publish(core, user, &Signal::Invitation(news)).await;
                }
                return Ok(());
            }
            Answered::LimitReached if most.all < in_all && acquaintance::is_known(core, user, by).await? => {
                most.all = in_all;
            }
            Answered::LimitReached => return Err(no_room(core)),
            Answered::Stale => {}
        }
    }
    Err(busy())
}

/// Invites the other user of a direct chat that was just created for it. If that fails, the chat ends.
///
/// # Errors
/// `forbidden`, `limit_reached`, `unavailable`.
pub(super) async fn ask_first(
    core: &Arc<Core>,
    chat: &Chat,
    by: &UserId,
    with: &UserId,
) -> Result<Admission, Problem> {
    if core.store.chat_of_member(chat.id, with).await?.is_some() {
        return Ok(Admission::Member);
    }
    if let Err(problem) = ask(core, chat, by, with).await {
        membership::take_out(core, chat, by).await?;
        return Err(problem);
    }
    Ok(Admission::Asked)
}

/// Invites the other user of an existing direct chat, unless they are a member, or declined lately. None: they have left the
/// chat.
///
/// # Errors
/// `forbidden`, `unavailable`.
pub(super) async fn ask_again(
    core: &Core,
    chat: &Chat,
    by: &UserId,
    with: &UserId,
) -> Result<Option<Admission>, Problem> {
    if core.store.chat_of_member(chat.id, with).await?.is_some() {
        return Ok(Some(Admission::Member));
    }
    if waits(core, chat.id, with).await?.is_some() {
        return Ok(Some(Admission::Asked));
    }
    let asked = match may_put(core, by, with).await {
        Ok(()) => ask(core, chat, by, with).await,
        refused => refused,
    };
    match asked {
        Ok(()) => Ok(Some(Admission::Asked)),
        Err(problem) if matches!(problem.code, ErrorCode::TooManyRequests | ErrorCode::LimitReached) => {
            Ok(None)
        }
        Err(problem) => Err(problem),
    }
}

/// Adds a user to the inviter's chat, or invites them, as `KEEPSTEP_INVITES` says.
///
/// # Errors
/// `forbidden`, `too_many_requests`, `limit_reached`, `not_found`, `unavailable`.
pub(super) async fn put(
    core: &Arc<Core>,
    chat: &Chat,
    by: &UserId,
    user: &UserId,
) -> Result<Admission, Problem> {
    if core.store.chat_of_member(chat.id, user).await?.is_some() {
        // A first attempt may have been cut off.
        membership::admit(core, chat, user, JoinBy::Invitation).await?;
        return Ok(Admission::Member);
    }
    if core.limits.invites == Entry::ByConsent && waits(core, chat.id, user).await?.is_some() {
        return Ok(Admission::Asked);
    }
    may_put(core, by, user).await?;
    if core.limits.invites == Entry::ByConsent {
        ask(core, chat, by, user).await?;
        return Ok(Admission::Asked);
    }
    membership::admit(core, chat, user, JoinBy::Invitation).await?;
    core.store.note_invited(user, chat.id, by).await?;
    // A concurrent block may have looked for these before they existed.
    if core.store.stance(user, by).await?.blocks {
        membership::take_out(core, chat, user).await?;
        may_reach(core, by, user).await?;
    }
    Ok(Admission::Member)
}

async fn waits(core: &Core, chat: ChatId, user: &UserId) -> Result<Option<Invitation>, Problem> {
    Ok(core.store.invitations(user).await?.into_iter().find(|invitation| invitation.chat == chat))
}

/// Returns the user's pending invitations, and their chats.
///
/// # Errors
/// `too_many_requests`, `unavailable`.
pub async fn invitations(core: &Core, user: &UserId) -> Result<Vec<(Invitation, Chat)>, Problem> {
    core.limit("answers", user, answers_per_minute(core)).await?;
    let looks = core.store.invitations(user).await?.into_iter().map(|invitation| async move {
        // One to a deleted chat, or to a chat that the user has joined, is over.
        if let Some(chat) = core.store.chat(invitation.chat).await?
            && core.store.chat_of_member(chat.id, user).await?.is_none()
        {
            return Ok(Some((invitation, chat)));
        }
        core.store.end_invitation(user, &invitation).await.map(|_| None)
    });
    // Collected first: the compiler can't see that a lazily mapped stream of these is `Send`.
    let looks: Vec<_> = looks.collect();
    let found: Vec<Stored<_>> = stream::iter(looks).buffered(PARALLEL).collect().await;
    Ok(found.into_iter().collect::<Stored<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Accepts an invitation. If accept, decline and withdraw run at once, one of them wins; a repeated call is answered
/// alike.
///
/// # Errors
/// `not_found`, `limit_reached`, `too_many_requests`, `unavailable`.
pub async fn accept(core: &Arc<Core>, user: &UserId, chat: ChatId) -> Result<Chat, Problem> {
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let invitation = waits(core, chat, user).await?;
    let is_ours = match &invitation {
        Some(invitation) => core.store.end_invitation(user, invitation).await?,
        None => false,
    };
    let (Some(invitation), true) = (invitation, is_ours) else {
        let found = core.store.chat_of_member(chat, user).await?;
        return found.map(|(found, _)| found).ok_or_else(no_invitation);
    };
    let by = &invitation.by;
    let admitted = match core.store.chat(chat).await? {
        Some(found) => membership::admit(core, &found, user, JoinBy::Invitation).await.map(|()| found),
        None => Err(no_invitation()),
    };
    match admitted {
        Err(problem) if problem.code != ErrorCode::NotFound => {
            // No room now, or unknown: it stays pending.
            let version = core.store.stance(user, by).await?.version;
            let most = InvitationLimits { all: u32::MAX, of_one: u32::MAX };
            core.store.invite(user, chat, by, version, most).await?;
            Err(problem)
        }
        other => {
            signal::publish(core, user, &Signal::Invitation(InvitationNews::Over(chat))).await;
            let found = other.map_err(|_| no_invitation())?;
            core.store.note_invited(user, chat, by).await?;
            Ok(found)
        }
    }
}

/// Declines an invitation, and bars the inviting user for a while.
///
/// # Errors
/// `not_found`, `too_many_requests`, `unavailable`.
pub async fn decline(core: &Core, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    core.limit("answers", user, answers_per_minute(core)).await?;
    let invitation = waits(core, chat, user).await?.ok_or_else(no_invitation)?;
    if !core.store.end_invitation(user, &invitation).await? {
        return Err(no_invitation());
    }
    bar(core, user, &invitation.by).await?;
    signal::publish(core, user, &Signal::Invitation(InvitationNews::Over(chat))).await;
    Ok(())
}

/// Withdraws a pending invitation. False: there is none.
///
/// # Errors
/// `unavailable`.
pub(super) async fn withdraw(core: &Core, user: &UserId, chat: ChatId) -> Result<bool, Problem> {
    let Some(invitation) = waits(core, chat, user).await? else { return Ok(false) };
    let ended = core.store.end_invitation(user, &invitation).await?;
    if ended {
        signal::publish(core, user, &Signal::Invitation(InvitationNews::Over(chat))).await;
    }
    Ok(ended)
}

/// Removes the invitation of a user who joined in another way.
///
/// # Errors
/// `unavailable`.
pub(super) async fn came(core: &Core, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    if core.limits.invites == Entry::ByConsent {
        withdraw(core, user, chat).await?;
    }
    Ok(())
}

/// Bars `by` from adding the user to chats for a while, after a leave or a decline.
async fn bar(core: &Core, user: &UserId, by: &UserId) -> Result<(), Problem> {
    let long = core.timing.reinvite_after;
    if user != by && !long.is_zero() {
        core.store.deny_invites(user, by, long).await?;
    }
    Ok(())
}

/// Before a user leaves: bars the one who added them to this chat for a while.
///
/// # Errors
/// `unavailable`.
pub(super) async fn leaves(core: &Core, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    match core.store.put_by(user, chat).await? {
        Some(by) => bar(core, user, &by).await,
        None => Ok(()),
    }
}

/// Opening a direct chat lifts the other one's bar.
///
/// # Errors
/// `forbidden` (the user blocks them, or they the user), `unavailable`.
pub(super) async fn opens(core: &Core, user: &UserId, with: &UserId) -> Result<(), Problem> {
    may_reach(core, user, with).await?;
    let own = core.store.stance(user, with).await?;
    if own.blocks {
        return Err(Problem::new(ErrorCode::Forbidden, "you block this user: unblock them first"));
    }
    if own.barred.is_some() {
        core.store.allow_invites(user, with, own.version).await?;
    }
    Ok(())
}

/// Returns the user's blocks.
///
/// # Errors
/// `unavailable`.
pub async fn blocks(core: &Core, user: &UserId) -> Result<Vec<Block>, Problem> {
    Ok(core.store.blocks(user).await?)
}

/// Blocks a user.
///
/// # Errors
/// `bad_field` (oneself), `limit_reached`, `too_many_requests`, `unavailable`.
pub async fn block(core: &Arc<Core>, user: &UserId, whom: &UserId) -> Result<Block, Problem> {
    if user == whom {
        return Err(Problem::new(ErrorCode::BadField, "nobody blocks themselves"));
    }
    core.limit("blocks", user, core.limits.creates_per_minute).await?;
    let most = core.limits.blocks_per_user;
    let mut done = false;
    for _ in 0..TRIES {
        let version = core.store.stance(user, whom).await?.version;
        match core.store.block(user, whom, version, most).await? {
            Answered::Done => {
                done = true;
                break;
            }
            Answered::LimitReached => {
                let detail = format!("a user blocks at most {most} others: unblock one first");
                return Err(Problem::new(ErrorCode::LimitReached, detail));
            }
            Answered::Stale => {}
        }
    }
    if !done {
        return Err(busy());
    }
    // Also for an existing block: a first attempt may have been cut off.
    if let Some(direct) = core.store.direct(user, whom).await? {
        membership::take_out(core, &direct, whom).await?;
        withdraw(core, user, direct.id).await?;
        withdraw(core, whom, direct.id).await?;
    }
    for (one, other) in [(whom, user), (user, whom)] {
        signal::publish(core, one, &Signal::Apart(other.clone())).await;
    }
    let found = core.store.blocks(user).await?.into_iter().find(|block| block.user == *whom);
    found.ok_or_else(busy)
}

/// Removes a block.
///
/// # Errors
/// `too_many_requests`, `unavailable`.
pub async fn unblock(core: &Core, user: &UserId, whom: &UserId) -> Result<(), Problem> {
    core.limit("blocks", user, core.limits.creates_per_minute).await?;
    for _ in 0..TRIES {
        let version = core.store.stance(user, whom).await?.version;
        if core.store.unblock(user, whom, version).await? {
            return Ok(());
        }
    }
    Err(busy())
}

/// Returns whether one of two blocks the other: then neither sees whether the other is online.
///
/// # Errors
/// When the store fails.
pub(super) async fn apart(core: &Core, one: &UserId, other: &UserId) -> Stored<bool> {
    Ok(core.store.stance(one, other).await?.blocks || core.store.stance(other, one).await?.blocks)
}

// Refusing costs less than creating.
fn answers_per_minute(core: &Core) -> u32 {
    core.limits.creates_per_minute.saturating_mul(4)
}

/// Returns how many invitations a user may have pending, those of known users included.
pub fn most_invitations(core: &Core) -> u32 {
    core.limits.invitations_per_user.saturating_mul(2)
}

/// Returns the limits for one more invitation.
fn invitation_limits(core: &Core) -> InvitationLimits {
    let all = core.limits.invitations_per_user;
    InvitationLimits { all, of_one: all.div_ceil(SHARE_OF_INVITATIONS) }
}

fn no_room(core: &Core) -> Problem {
    let all = core.limits.invitations_per_user;
    let detail = format!(
        "this user has {all} invitations to answer, or twice as many if you share a chat with them, or a tenth of {all} from \
         you: try again later"
    );
    Problem::new(ErrorCode::LimitReached, detail)
}

fn no_invitation() -> Problem {
    Problem::new(ErrorCode::NotFound, "no such invitation waits for your answer")
}

fn busy() -> Problem {
    Problem::new(ErrorCode::Unavailable, "this user answers something else at the same time: try again")
}
