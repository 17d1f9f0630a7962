//! Who is in which chat. Coming: membership first, then the devices' queues. Going: membership first, then the
//! consumers stop, and only then the queues are removed.

use std::{sync::Arc, time::Duration};

use super::{
    Core,
    registration::{membership_work, provision_member},
    signal::{self, Signal},
    turn::in_turn,
};
use crate::{
    broker::QueueAt,
    domain::{
        chat::{Chat, ChatKind, Member},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    protocol::{ChatEvent, ErrorCode, Problem},
    store::{Created, JoinBy, Joined, NewChat},
};

mod password;

/// What the client asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Chosen by the client, or none.
    pub id: Option<ChatId>,
    /// Direct or group.
    pub kind: ChatKind,
    /// Of a group.
    pub name: Option<String>,
    /// Of a group.
    pub password: Option<String>,
    /// Of a group.
    pub public: bool,
    /// The other one of a direct chat.
    pub with: Option<UserId>,
}

/// Makes a chat; true: it is new.
///
/// # Errors
/// `bad_field`, `conflict`, `limit_reached`, `too_many_requests`, `unavailable`.
pub async fn create(core: &Arc<Core>, user: &UserId, wish: Wish) -> Result<(Chat, bool), Problem> {
    let bad = |detail: &'static str| Err(Problem::new(ErrorCode::BadField, detail));
    match (wish.kind, &wish.with) {
        (ChatKind::Direct, None) => return bad("a direct chat needs \"with\": the other user"),
        (ChatKind::Direct, Some(with)) if with == user => return bad("a direct chat is with somebody else"),
        (ChatKind::Direct, _) if wish.name.is_some() || wish.password.is_some() || wish.public => {
            return bad("a direct chat has no name, no password, and isn't public");
        }
        (ChatKind::Group, Some(_)) => return bad("\"with\" is for direct chats: invite members to a group"),
        (ChatKind::Group, None) if wish.public && wish.name.is_none() => {
            return bad("a public group needs a name");
        }
        _ => {}
    }
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let password_hash = match wish.password {
        Some(password) => Some(password::hash(password).await?),
        None => None,
    };
    let id = wish.id.unwrap_or_else(ChatId::random);
    let new = NewChat {
        id,
        kind: wish.kind,
        name: wish.name,
        public: wish.public,
        password_hash,
        owner: user.clone(),
        with: wish.with.clone(),
        node: core.broker.place(id),
        created: now_millis(),
    };
    let (chat, created) = match core.store.create_chat(&new).await? {
        Created::New(chat) => (chat, true),
        Created::Existing(chat) => (chat, false),
        Created::NameTaken => {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "another public group has this name: choose another",
            ));
        }
        Created::Conflict => return Err(taken()),
        Created::LimitReached => return Err(limit(core)),
    };
    if !created && core.store.chat_of_member(chat.id, user).await?.is_none() {
        // A group that its owner was the last to leave stands there for a while yet.
        if chat.kind == ChatKind::Group {
            return Err(taken());
        }
        // Who left a direct chat comes back by opening it again.
        admit(core, &chat, user, JoinBy::Invitation).await?;
    }
    // For a chat that was there, too: a first try may have ended between.
    for member in [Some(user), wish.with.as_ref()].into_iter().flatten() {
        if core.store.chat_of_member(chat.id, member).await?.is_some() {
            arrive(core, &chat, member).await?;
        }
    }
    Ok((chat, created))
}

fn taken() -> Problem {
    Problem::new(ErrorCode::Conflict, "this chat id is taken: make a new one")
}

fn limit(core: &Core) -> Problem {
    let (chats, members) = (core.limits.chats_per_user, core.limits.members_per_group);
    let detail = format!("a user is in at most {chats} chats, and a group has at most {members} members");
    Problem::new(ErrorCode::LimitReached, detail)
}

/// The new member's devices are owed the chat and get their queues, and their sessions are told, even if a queue can't be
/// made now: the log serves them until it can.
async fn arrive(core: &Core, chat: &Chat, user: &UserId) -> Result<(), Problem> {
    let provisioned = provision_member(core, chat.id, user).await;
    // To those who were members already, too: a first try may have ended between.
    signal::tell(core, user, &Signal::Joined(chat.id)).await;
    provisioned.map(drop)
}

/// How a chat is named by who wants to join it.
#[derive(Debug, Clone)]
pub enum Which {
    /// By its id.
    Id(ChatId),
    /// By its name.
    Name(String),
}

/// The user joins by themselves: a public group, or one whose password they know.
///
/// # Errors
/// `not_found` for anything that can't be joined, `wrong_password`, `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn join(
    core: &Arc<Core>,
    user: &UserId,
    which: Which,
    password: Option<String>,
) -> Result<Chat, Problem> {
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let candidates = match which {
        Which::Id(chat) => vec![chat],
        Which::Name(name) => core.store.chats_named(&name).await?,
    };
    let mut wrong = false;
    for id in candidates {
        let Some(chat) = core.store.chat(id).await? else { continue };
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
            core.limit("passwords", user, core.limits.passwords_per_minute).await?;
            if !password::matches(password.clone().unwrap_or_default(), hash).await? {
                wrong = true;
                continue;
            }
        }
        match admit(core, &chat, user, JoinBy::Themselves).await {
            Err(problem) if problem.code == ErrorCode::NotFound => {}
            other => return other.map(|()| chat),
        }
    }
    if wrong {
        return Err(Problem::new(ErrorCode::WrongPassword, "the password isn't this chat's"));
    }
    Err(Problem::no_such_chat())
}

/// The owner invites.
///
/// # Errors
/// `not_found` (not a member), `forbidden` (not the owner), `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn invite(core: &Arc<Core>, user: &UserId, chat: ChatId, whom: &UserId) -> Result<Chat, Problem> {
    let chat = owned_group(core, user, chat).await?;
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    admit(core, &chat, whom, JoinBy::Invitation).await?;
    Ok(chat)
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

async fn admit(core: &Arc<Core>, chat: &Chat, user: &UserId, by: JoinBy) -> Result<(), Problem> {
    let new = match join_fresh(core, chat, user, by).await? {
        Joined::New(_) => true,
        Joined::Already(_) => false,
        Joined::Refused | Joined::Stale => return Err(Problem::no_such_chat()),
        Joined::LimitReached => return Err(limit(core)),
    };
    arrive(core, chat, user).await?;
    if new {
        tell_members(core, chat.id, user, ChatEvent::MemberJoined);
    }
    Ok(())
}

/// Whoever leaves in this moment makes what was read of the chat old: then it is read again.
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

/// Tells the others in the background: a group of hundreds must not hold up the answer.
fn tell_members(core: &Arc<Core>, chat: ChatId, who: &UserId, event: ChatEvent) {
    let (core, who) = (core.clone(), who.clone());
    let tasks = core.drain.clone();
    tasks.spawn(async move {
        match core.store.members(chat).await {
            Ok(members) => {
                for member in members.iter().filter(|member| member.user != who) {
                    signal::tell(&core, &member.user, &Signal::Member(event, chat, who.clone())).await;
                }
            }
            Err(error) => tracing::debug!(%chat, %error, "members aren't told who came or went"),
        }
    });
}

/// The user leaves. (A direct chat, too: the other one stays in it alone, until this one opens it again.)
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn leave(core: &Arc<Core>, user: &UserId, chat: ChatId) -> Result<(), Problem> {
    let Some((found, member)) = core.store.chat_of_member(chat, user).await? else {
        return Err(Problem::no_such_chat());
    };
    if dismiss(core, &found, &member, false).await? { Ok(()) } else { Err(Problem::no_such_chat()) }
}

/// The owner removes somebody, who may come back by invitation only.
///
/// # Errors
/// `not_found`, `forbidden`, `unavailable`.
pub async fn remove(core: &Arc<Core>, user: &UserId, chat: ChatId, whom: &UserId) -> Result<(), Problem> {
    let chat = owned_group(core, user, chat).await?;
    // Who leaves and comes back in this moment is in it again: removed all the same.
    for _ in 0..5 {
        let Some((_, member)) = core.store.chat_of_member(chat.id, whom).await? else { break };
        if dismiss(core, &chat, &member, whom != user).await? {
            return Ok(());
        }
    }
    Err(Problem::new(ErrorCode::NotFound, "this user isn't a member"))
}

/// False: there is no such membership any more.
async fn dismiss(core: &Arc<Core>, chat: &Chat, member: &Member, ban: bool) -> Result<bool, Problem> {
    let user = &member.user;
    let Some(remaining) = core.store.remove_member(chat.id, member, ban).await? else { return Ok(false) };
    signal::tell(core, user, &Signal::Left(chat.id)).await;
    tell_members(core, chat.id, user, ChatEvent::MemberLeft);
    let (core, user, chat) = (core.clone(), user.clone(), chat.clone());
    let tasks = core.drain.clone();
    tasks.spawn(async move {
        if let Err(problem) = clear(&core, &chat, &user, remaining == 0).await {
            tracing::warn!(chat = %chat.id, %user, error = %problem, "queues of a member who left aren't removed yet");
        }
    });
    Ok(true)
}

/// Removes the queues of a member who left, twice with more than a second between, because a consumer that was about
/// to attach brings its queue back. A member who has come again meanwhile keeps them.
async fn clear(core: &Core, chat: &Chat, user: &UserId, last: bool) -> Result<(), Problem> {
    let work = membership_work(chat.id, user);
    for pass in 0..2 {
        if pass > 0 {
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        if !in_turn(core, &work, clear_once(core, chat, user)).await? {
            return Ok(());
        }
    }
    if last && core.store.delete_chat(chat.id).await? {
        core.broker.remove_chat(chat.id).await;
    }
    Ok(())
}

/// False: the user is a member again.
async fn clear_once(core: &Core, chat: &Chat, user: &UserId) -> Result<bool, Problem> {
    let Chat { id: chat, node, .. } = chat;
    for device in core.store.devices(user).await? {
        wait_for_consumers(core, node, *chat, device.id).await;
        if !core.store.disown(*chat, Some(user), device.id).await? {
            return Ok(false);
        }
        let removal = core.broker.remove_queues(device.id, &[*chat], true).await;
        if !removal.unreachable.is_empty() {
            tracing::warn!(%chat, device = %device.id, servers = ?removal.unreachable, "a queue may be left there");
        }
    }
    Ok(true)
}

/// Stop first, delete second: a consumer that is still attached would bring the queue back. At most 3 s.
async fn wait_for_consumers(core: &Core, node: &str, chat: ChatId, device: DeviceId) {
    let queue = QueueAt { node: node.into(), chat, device };
    for _ in 0..60 {
        match core.broker.queue_at(&queue).await {
            Ok(Some(found)) if found.consumers > 0 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return,
        }
    }
}
