//! Members of chats. Joining: the membership first, then the devices' queues. Leaving: the membership first, then the
//! consumers stop, and only then the queues are removed.

use std::{sync::Arc, time::Duration};

use super::{
    Core, people,
    registration::{membership_work, provision_member},
    signal::{self, Signal},
    with_lease::with_lease,
};
use crate::{
    broker::{Flow, QueueAt, RemovalScope},
    domain::{
        chat::{Chat, ChatKind, Member},
        id::{ChatId, DeviceId, UserId},
    },
    protocol::{ChatEvent, ErrorCode, Problem},
    store::{Departure, JoinBy, Joined},
};

mod create;
mod password;

pub use create::{CreateChat, Made, create};

pub use people::Admission;

fn limit(core: &Core) -> Problem {
    let (chats, members) = (core.limits.chats_per_user, core.limits.members_per_group);
    let detail = format!("a user is in at most {chats} chats, and a group has at most {members} members");
    Problem::new(ErrorCode::LimitReached, detail)
}

/// Subscribes the new member's devices, creates their queues and notifies their sessions, even if a queue can't be created
/// now: the log serves them until it can.
async fn arrive(core: &Core, chat: &Chat, user: &UserId) -> Result<(), Problem> {
    let provisioned = provision_member(core, chat.id, user).await;
    // Also to existing members: a first attempt may have been cut off.
    signal::publish(core, user, &Signal::Joined(chat.id)).await;
    provisioned.map(drop)
}

/// How a join names its chat.
#[derive(Debug, Clone)]
pub enum ChatRef {
    /// By its id.
    Id(ChatId),
    /// By its name.
    Name(String),
}

/// Joins a public group, or one whose password the user knows.
///
/// # Errors
/// `not_found` for a chat that can't be joined, `wrong_password`, `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn join(
    core: &Arc<Core>,
    user: &UserId,
    which: ChatRef,
    password: Option<String>,
) -> Result<Chat, Problem> {
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let (candidates, mut wrong) = match which {
        ChatRef::Id(chat) => (core.store.chat(chat).await?.into_iter().collect(), false),
        ChatRef::Name(name) => named(core, &name, password.is_some()).await?,
    };
    for chat in candidates {
        let id = chat.id;
        if chat.kind == ChatKind::Direct || (!chat.public && chat.password_hash.is_none()) {
            // A member who asks again is answered like one who has just joined.
            if core.store.chat_of_member(id, user).await?.is_some() {
                return Ok(chat);
            }
            continue;
        }
        if let Some(hash) = chat.password_hash.clone()
            && core.store.chat_of_member(id, user).await?.is_none()
        {
            let Some(password) = password.clone() else {
                wrong = true;
                continue;
            };
            core.limit("passwords", user, core.limits.passwords_per_minute).await?;
            if !password::matches(user, password, hash).await? {
                wrong = true;
                continue;
            }
        }
        match admit(core, &chat, user, JoinBy::Themselves).await {
            Err(problem) if problem.code == ErrorCode::NotFound => {}
            other => {
                other?;
                people::came(core, user, chat.id).await?;
                return Ok(chat);
            }
        }
    }
    if wrong {
        return Err(Problem::new(ErrorCode::WrongPassword, "the password isn't this chat's"));
    }
    Err(Problem::no_such_chat())
}

/// Returns the groups of this name that can be joined with, or without, a password; and whether it needs one. A name of groups
/// with a password never leads into one without. If older builds gave groups of both kinds the same name, the oldest group
/// decides.
async fn named(core: &Core, name: &str, with_password: bool) -> Result<(Vec<Chat>, bool), Problem> {
    let mut chats = Vec::new();
    for id in core.store.chats_named(name).await? {
        chats.extend(core.store.chat(id).await?);
    }
    let is_guarded = |chat: &Chat| chat.password_hash.is_some();
    let oldest = chats.iter().min_by_key(|chat| chat.created);
    let needs_one = !with_password && oldest.is_some_and(is_guarded);
    chats.retain(|chat| is_guarded(chat) == (with_password || needs_one));
    Ok((chats, needs_one))
}

/// Invites a user, as the owner.
///
/// # Errors
/// `not_found` (not a member), `forbidden` (not the owner, or blocked), `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn invite(
    core: &Arc<Core>,
    user: &UserId,
    chat: ChatId,
    whom: &UserId,
) -> Result<(Chat, Admission), Problem> {
    let chat = owned_group(core, user, chat).await?;
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let admission = people::put(core, &chat, user, whom).await?;
    Ok((chat, admission))
}

async fn owned_group(core: &Core, user: &UserId, chat: ChatId) -> Result<Chat, Problem> {
    let Some((chat, _)) = core.store.chat_of_member(chat, user).await? else {
        return Err(Problem::no_such_chat());
    };
    if chat.kind == ChatKind::Direct {
        return Err(Problem::new(ErrorCode::Forbidden, "a direct chat has its two members, and no others"));
    }
    if chat.owner != *user {
        return Err(Problem::new(ErrorCode::Forbidden, "only the owner of a group invites and removes"));
    }
    Ok(chat)
}

pub(super) async fn admit(core: &Arc<Core>, chat: &Chat, user: &UserId, by: JoinBy) -> Result<(), Problem> {
    let new = match join_fresh(core, chat, user, by).await? {
        Joined::New(_) => true,
        Joined::Already(_) => false,
        Joined::Refused | Joined::Stale => return Err(Problem::no_such_chat()),
        Joined::LimitReached => return Err(limit(core)),
    };
    arrive(core, chat, user).await?;
    if new {
        notify_members(core, chat.id, user, ChatEvent::MemberJoined);
    }
    Ok(())
}

/// Adds a member; if a concurrent leave made the chat's data stale, reads it again.
async fn join_fresh(core: &Core, chat: &Chat, user: &UserId, by: JoinBy) -> Result<Joined, Problem> {
    let mut epoch = chat.epoch;
    for _ in 0..5 {
        match core.store.add_member(chat.id, user, by, epoch).await? {
            Joined::Stale => {}
            joined => return Ok(joined),
        }
        let Some(again) = core.store.chat(chat.id).await? else { return Ok(Joined::Refused) };
        epoch = again.epoch;
    }
    Err(Problem::new(ErrorCode::Unavailable, "this membership is being changed by somebody else: try again"))
}

/// Notifies the others in the background: a group of hundreds must not delay the answer.
fn notify_members(core: &Arc<Core>, chat: ChatId, who: &UserId, event: ChatEvent) {
    let (core, who) = (core.clone(), who.clone());
    let tasks = core.drain.clone();
    tasks.spawn_in_span(async move {
        match core.store.members(chat).await {
            Ok(members) => {
                for member in members.iter().filter(|member| member.user != who) {
                    signal::publish(&core, &member.user, &Signal::Member(event, chat, who.clone())).await;
                }
            }
            Err(error) => tracing::debug!(%chat, %error, "members not notified of a join or leave"),
        }
    });
}

/// Removes the user from a chat. (In a direct chat the other user stays alone, until this one opens it again.)
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn leave(core: &Arc<Core>, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    let Some((found, member)) = core.store.chat_of_member(chat, user).await? else {
        return Err(Problem::no_such_chat());
    };
    // First: a user who adds them again at this moment is barred.
    people::leaves(core, user, chat).await?;
    if dismiss(core, &found, &member, Departure::Left).await? { Ok(()) } else { Err(Problem::no_such_chat()) }
}

/// Removes the user from the chat, even if they are added again at this moment.
pub(super) async fn take_out(core: &Arc<Core>, chat: &Chat, user: &UserId) -> Result<(), Problem> {
    for _ in 0..5 {
        let Some((_, member)) = core.store.chat_of_member(chat.id, user).await? else { return Ok(()) };
        if dismiss(core, chat, &member, Departure::Left).await? {
            return Ok(());
        }
    }
    Err(Problem::new(ErrorCode::Unavailable, "this membership is being changed by somebody else: try again"))
}

/// Removes a member, as the owner; they can come back by invitation only.
///
/// # Errors
/// `not_found`, `forbidden`, `unavailable`.
pub async fn remove(core: &Arc<Core>, user: &UserId, chat: ChatId, whom: &UserId) -> Result<(), Problem> {
    let chat = owned_group(core, user, chat).await?;
    let withdrawn = people::withdraw(core, whom, chat.id).await?;
    // A user who leaves and comes back at this moment is removed all the same.
    let how = if whom == user { Departure::Left } else { Departure::Removed };
    for _ in 0..5 {
        let Some((_, member)) = core.store.chat_of_member(chat.id, whom).await? else { break };
        if dismiss(core, &chat, &member, how).await? {
            return Ok(());
        }
    }
    if withdrawn {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::NotFound, "this user isn't a member"))
}

/// False: that membership no longer exists.
async fn dismiss(core: &Arc<Core>, chat: &Chat, member: &Member, how: Departure) -> Result<bool, Problem> {
    let user = &member.user;
    let Some(remaining) = core.store.remove_member(chat.id, member, how).await? else { return Ok(false) };
    signal::publish(core, user, &Signal::Left(chat.id)).await;
    notify_members(core, chat.id, user, ChatEvent::MemberLeft);
    let (core, user, chat) = (core.clone(), user.clone(), chat.clone());
    let tasks = core.drain.clone();
    tasks.spawn_in_span(async move {
        if let Err(problem) = clear(&core, &chat, &user, remaining).await {
            tracing::warn!(chat = %chat.id, %user, error = %problem, "queues of a member who left not removed yet; will retry");
        }
    });
    Ok(true)
}

/// Removes the queues of a former member, twice with more than a second between, because a consumer that is attaching creates
/// its queue again. A user who is a member again keeps them.
async fn clear(core: &Core, chat: &Chat, user: &UserId, remaining: u64) -> Result<(), Problem> {
    let work = membership_work(chat.id, user);
    for pass in 0..2 {
        if pass > 0 {
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        if !with_lease(core, &work, clear_once(core, chat, user)).await? {
            return Ok(());
        }
    }
    if remaining == 0 && core.store.delete_chat(chat.id).await? {
        core.broker.remove_chat(chat.id).await;
    }
    Ok(())
}

/// False: the user is a member again.
async fn clear_once(core: &Core, chat: &Chat, user: &UserId) -> Result<bool, Problem> {
    let Chat { id: chat, node, .. } = chat;
    for device in core.store.devices(user).await? {
        wait_for_consumers(core, node, *chat, device.id).await;
        if !core.store.unsubscribe_device(*chat, Some(user), device.id).await? {
            return Ok(false);
        }
        let removal = core
            .broker
            .remove_queues(&Flow::of("leave", user), device.id, &[*chat], RemovalScope::NamedChats)
            .await;
        if !removal.unreachable.is_empty() {
            tracing::warn!(%chat, device = %device.id, servers = ?removal.unreachable, "queue removal failed: it may be left there");
        }
    }
    Ok(true)
}

/// Stop first, delete second: an attached consumer would create the queue again. At most 3 s.
async fn wait_for_consumers(core: &Core, node: &str, chat: ChatId, device: DeviceId) {
    let queue = QueueAt { node: node.into(), chat, device };
    for _ in 0..60 {
        match core.broker.queue_at(&queue).await {
            Ok(Some(found)) if found.consumers > 0 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return,
        }
    }
}
