//! Chats, their members and messages, and read offsets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use warp::{http::StatusCode, reply::Response};

use super::{
    Request,
    auth::{self, Caller},
    body::{self, Body},
    devices::{Page, name},
    respond::{json, ok},
};
use crate::{
    domain::{
        MAX_SAFE_INTEGER, Millis, Seq,
        chat::{Chat, ChatKind, Member},
        device::DeviceKind,
        fair::Turn,
        id::{ChatId, UserId},
        label,
        message::split_epoch,
    },
    protocol::{ErrorCode, Problem, Send},
    store::{ChatWithMembers, Reader},
    sync::{
        membership::{self, Admission, Made},
        send,
    },
};

/// About the size of a chat on a page of a list, in bytes.
const CHAT_BYTES: usize = 1 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewChat {
    kind: ChatKind,
    name: Option<String>,
    password: Option<String>,
    #[serde(default)]
    public: bool,
    with: Option<UserId>,
    id: Option<ChatId>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Join {
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinByName {
    name: String,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    user: UserId,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A chat on the wire.
#[derive(Serialize)]
pub(super) struct ChatView {
    id: ChatId,
    kind: ChatKind,
    name: Option<String>,
    public: bool,
    password: bool,
    owner: UserId,
    created: Millis,
    head: Seq,
    read: Seq,
    members: Vec<UserId>,
    // Users whom this call invited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invited: Vec<UserId>,
}

/// A chat as one of its members sees it.
pub(super) async fn view(request: &Request, chat: Chat, user: &UserId) -> Result<ChatView, Problem> {
    let store = &request.context.core.store;
    let ids = [chat.id];
    let (reads, members) = tokio::try_join!(store.reads_in(user, &ids), store.members(chat.id))?;
    Ok(view_with(chat, reads.get(&ids[0]).map_or(0, |offset| offset.seq), members))
}

fn view_with(chat: Chat, read: Seq, members: Vec<Member>) -> ChatView {
    ChatView {
        id: chat.id,
        kind: chat.kind,
        name: chat.name,
        public: chat.public,
        password: chat.password_hash.is_some(),
        owner: chat.owner,
        created: chat.created,
        head: chat.head,
        read,
        members: members.into_iter().map(|member| member.user).collect(),
        invited: Vec::new(),
    }
}

/// Counts a page that a user reads, and waits for its turn, which ends when the result is dropped.
///
/// # Errors
/// `too_many_requests`, `unavailable`.
pub(super) async fn counted(request: &Request, user: &UserId) -> Result<Turn<UserId>, Problem> {
    let core = &request.context.core;
    core.limit("lists", user, core.limits.lists_per_minute).await?;
    request.budget.turn(user).await
}

fn password(text: Option<&String>) -> Result<(), Problem> {
    match text {
        Some(text) if text.is_empty() => Err(Problem::new(ErrorCode::BadField, "the password is empty")),
        Some(text) if text.len() > 256 => {
            Err(Problem::new(ErrorCode::TooLarge, "a password has at most 256 bytes"))
        }
        _ => Ok(()),
    }
}

/// `POST /v1/chats`.
pub(super) async fn create(request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let new: NewChat = body.json(&request).await?;
    let core = &request.context.core;
    if let Some(text) = &new.name
        && let Err(problem) = name("name", text, core.limits.name_bytes)
    {
        // A chat that was created under older rules keeps its name.
        let known = match new.id {
            Some(id) => core.store.chat_of_member(id, caller.user()).await?,
            None => None,
        };
        if known.is_none_or(|(chat, _)| chat.name.as_ref() != Some(text)) {
            return Err(problem);
        }
    }
    password(new.password.as_ref())?;
    let wanted = membership::CreateChat {
        id: new.id,
        kind: new.kind,
        name: new.name,
        password: new.password,
        public: new.public,
        with: new.with,
    };
    let with = wanted.with.clone();
    let Made { chat, created, asked } = membership::create(core, caller.user(), wanted).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut view = view(&request, chat, caller.user()).await?;
    view.invited.extend(with.filter(|_| asked));
    Ok(json(status, &view))
}

/// `GET /v1/chats`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let user = caller.user();
    let _turn = counted(&request, user).await?;
    let (store, limits) = (&request.context.core.store, &request.context.core.limits);
    let chats = store.chats_of(user).await?;
    let (mut ids, mut next) = body::page(&request.query, limits.page, chats, ChatId::to_string)?;
    request.reserve(ids.len() * CHAT_BYTES)?;
    let (seen, reads) = tokio::try_join!(
        store.chats_with_members(user, &ids, limits.page_members),
        store.reads_in(user, &ids)
    )?;
    if seen.len() < ids.len() {
        ids.truncate(seen.len());
        next = ids.last().map(ChatId::to_string);
    }
    let seen = seen.into_iter().flatten().map(|ChatWithMembers { chat, members, .. }| {
        let read = reads.get(&chat.id).map_or(0, |offset| offset.seq);
        view_with(chat, read, members)
    });
    Ok(ok(&Page { items: seen.collect(), next }))
}

/// `GET /v1/chats/{id}`.
pub(super) async fn one(id: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let id: ChatId = body::id(&id)?;
    let _turn = counted(&request, caller.user()).await?;
    let found = request.context.core.store.chat_of_member(id, caller.user()).await?;
    let (chat, _) = found.ok_or_else(Problem::no_such_chat)?;
    Ok(ok(&view(&request, chat, caller.user()).await?))
}

/// `POST /v1/chats/{id}/join`.
pub(super) async fn join(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let join: Join = body.json_or_nothing(&request).await?;
    let which = membership::ChatRef::Id(body::id(&id)?);
    join_any(&request, &caller, which, join.password).await
}

/// `POST /v1/chats/join`.
pub(super) async fn join_by_name(request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let join: JoinByName = body.json(&request).await?;
    sought(&join.name, request.context.core.limits.name_bytes)?;
    join_any(&request, &caller, membership::ChatRef::Name(join.name), join.password).await
}

/// Checks a name for a search. It may have characters that new names may not: older ones have them, and are found without.
fn sought(name: &str, most: usize) -> Result<(), Problem> {
    if name.len() > most {
        return Err(Problem::new(ErrorCode::TooLarge, format!("name has at most {most} bytes")));
    }
    if label::key(name).is_empty() || name.chars().any(char::is_control) {
        let detail = "name is empty, or has control characters";
        return Err(Problem::new(ErrorCode::BadField, detail));
    }
    Ok(())
}

async fn join_any(
    request: &Request,
    caller: &Caller,
    which: membership::ChatRef,
    given: Option<String>,
) -> Result<Response, Problem> {
    password(given.as_ref())?;
    let chat = membership::join(&request.context.core, caller.user(), which, given).await?;
    Ok(ok(&view(request, chat, caller.user()).await?))
}

/// `POST /v1/chats/{id}/leave`.
pub(super) async fn leave(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let Nothing {} = body.json_or_nothing(&request).await?;
    membership::leave(&request.context.core, caller.user(), body::id(&id)?).await?;
    Ok(ok(&serde_json::json!({})))
}

/// `POST /v1/chats/{id}/members`.
pub(super) async fn invite(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let invite: Invite = body.json(&request).await?;
    let core = &request.context.core;
    let (chat, admission) = membership::invite(core, caller.user(), body::id(&id)?, &invite.user).await?;
    let mut view = view(&request, chat, caller.user()).await?;
    view.invited.extend((admission == Admission::Asked).then_some(invite.user));
    Ok(ok(&view))
}

/// `DELETE /v1/chats/{id}/members/{user}`.
pub(super) async fn remove(id: String, user: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    membership::remove(&request.context.core, caller.user(), body::id(&id)?, &body::id(&user)?).await?;
    Ok(ok(&serde_json::json!({})))
}

/// `POST /v1/chats/{id}/messages`: for bots.
pub(super) async fn send(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let received = Instant::now();
    let caller = auth::caller(&request).await?;
    let chat: ChatId = body::id(&id)?;
    let message: Send = body.json(&request).await?;
    if message.id.is_some() || message.chat.is_some_and(|named| named != chat) {
        return Err(Problem::new(ErrorCode::BadField, "the chat is in the path, and a call needs no id"));
    }
    let core = &request.context.core;
    core.admission.rates.call(caller.user(), message.bytes(), &core.limits)?;
    let sender = send::Sender { user: caller.user(), device: caller.device() };
    let (seq, at) = send::send(core, sender, chat, &message).await?;
    core.metrics.send_reply_http.observe(received.elapsed().as_secs_f64());
    Ok(ok(&serde_json::json!({ "seq": seq, "at": at })))
}

#[derive(Serialize)]
struct Messages<'a> {
    items: Vec<&'a RawValue>,
    more: bool,
}

/// `GET /v1/chats/{id}/messages?before=&limit=`: the messages in the log above the user's boundary (a sub: above its own).
pub(super) async fn messages(id: String, request: Request) -> Result<Response, Problem> {
    let Caller::Device(device) = auth::caller(&request).await? else {
        return Err(Problem::new(ErrorCode::Forbidden, "messages are for devices: use a device token"));
    };
    let chat: ChatId = body::id(&id)?;
    let core = &request.context.core;
    let most = core.limits.history_page_messages;
    let limit = body::limit(&request.query, most as u64, most)?;
    let before = request.query.number("before", 0..=MAX_SAFE_INTEGER)?.unwrap_or(Seq::MAX);
    let _turn = counted(&request, &device.user).await?;
    let found = core.store.chat_of_member(chat, &device.user).await?;
    let (found, member) = found.ok_or_else(Problem::no_such_chat)?;
    let mut lowest = member.boundary + 1;
    if device.kind == DeviceKind::Sub {
        // Older messages come from the main, which decides what it gives.
        let position = core.store.position(chat, device.id).await?;
        lowest = lowest.max(position.map_or(found.head, |position| position.from) + 1);
    }
    let before = before.min(found.head + 1);
    let bytes = core.limits.history_page_bytes;
    request.reserve(bytes)?;
    // A user who left meanwhile gets nothing.
    let reader = Reader { user: device.user.clone(), since: member.boundary };
    let page = core.store.log_before(chat, &reader, before, lowest, limit, bytes).await?;
    let page = page.ok_or_else(Problem::no_such_chat)?;
    let first = page.messages.first().map_or(before, |(seq, _)| *seq);
    let more = first > lowest.max(page.floor);
    let frames: Vec<_> = page.messages.into_iter().map(|(_, body)| split_epoch(body).0).collect();
    let items = frames.iter().filter_map(|frame| serde_json::from_slice(frame).ok()).collect();
    Ok(ok(&Messages { items, more }))
}

/// `GET /v1/offsets`: a map of all chats of the user; 0 where nothing was read.
pub(super) async fn offsets(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let _turn = counted(&request, caller.user()).await?;
    let store = &request.context.core.store;
    let (chats, reads) = tokio::try_join!(store.chats_of(caller.user()), store.reads(caller.user()))?;
    let offset = |chat: ChatId| (chat.to_string(), reads.get(&chat).map_or(0, |offset| offset.seq));
    let map: BTreeMap<String, Seq> = chats.into_iter().map(offset).collect();
    Ok(ok(&map))
}
