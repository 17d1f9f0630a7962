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
        Millis, Seq,
        chat::{Chat, ChatKind},
        device::DeviceKind,
        id::{ChatId, UserId},
        message::split_epoch,
    },
    protocol::{ErrorCode, Problem, Send},
    store::{LogPage, Reader},
    sync::{membership, send},
};

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
struct Nothing {}

/// A chat on the wire.
#[derive(Serialize)]
struct ChatView {
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
}

async fn view(request: &Request, chat: Chat, user: &UserId) -> Result<ChatView, Problem> {
    let store = &request.context.core.store;
    let read = store.reads_in(user, &[chat.id]).await?.get(&chat.id).map_or(0, |offset| offset.seq);
    view_with(request, chat, read).await
}

async fn view_with(request: &Request, chat: Chat, read: Seq) -> Result<ChatView, Problem> {
    let members = request.context.core.store.members(chat.id).await?;
    Ok(ChatView {
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
    })
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
    let new: NewChat = body::json(body)?;
    let core = &request.context.core;
    if let Some(text) = &new.name {
        name("name", text, core.limits.name_bytes)?;
    }
    password(new.password.as_ref())?;
    let wish = membership::Wish {
        id: new.id,
        kind: new.kind,
        name: new.name,
        password: new.password,
        public: new.public,
        with: new.with,
    };
    let (chat, created) = membership::create(core, caller.user(), wish).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &view(&request, chat, caller.user()).await?))
}

/// `GET /v1/chats`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let store = &request.context.core.store;
    let chats = store.chats_of(caller.user()).await?;
    let (ids, next) = body::page(&request.query, request.context.core.limits.page, chats, ChatId::to_string)?;
    let reads = store.reads(caller.user()).await?;
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some((chat, _)) = store.chat_of_member(id, caller.user()).await? {
            let read = reads.get(&id).map_or(0, |offset| offset.seq);
            items.push(view_with(&request, chat, read).await?);
        }
    }
    Ok(ok(&Page { items, next }))
}

/// `GET /v1/chats/{id}`.
pub(super) async fn one(id: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let id: ChatId = body::id(&id)?;
    let found = request.context.core.store.chat_of_member(id, caller.user()).await?;
    let (chat, _) = found.ok_or_else(Problem::no_such_chat)?;
    Ok(ok(&view(&request, chat, caller.user()).await?))
}

/// `POST /v1/chats/{id}/join`.
pub(super) async fn join(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let join: Join = body::json_or_nothing(body)?;
    let which = membership::Which::Id(body::id(&id)?);
    join_any(&request, &caller, which, join.password).await
}

/// `POST /v1/chats/join`.
pub(super) async fn join_by_name(request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let join: JoinByName = body::json(body)?;
    name("name", &join.name, request.context.core.limits.name_bytes)?;
    join_any(&request, &caller, membership::Which::Name(join.name), join.password).await
}

async fn join_any(
    request: &Request,
    caller: &Caller,
    which: membership::Which,
    given: Option<String>,
) -> Result<Response, Problem> {
    password(given.as_ref())?;
    let chat = membership::join(&request.context.core, caller.user(), which, given).await?;
    Ok(ok(&view(request, chat, caller.user()).await?))
}

/// `POST /v1/chats/{id}/leave`.
pub(super) async fn leave(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let Nothing {} = body::json_or_nothing(body)?;
    membership::leave(&request.context.core, caller.user(), body::id(&id)?).await?;
    Ok(ok(&serde_json::json!({})))
}

/// `POST /v1/chats/{id}/members`.
pub(super) async fn invite(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let invite: Invite = body::json(body)?;
    let chat = membership::invite(&request.context.core, caller.user(), body::id(&id)?, &invite.user).await?;
    Ok(ok(&view(&request, chat, caller.user()).await?))
}

/// `DELETE /v1/chats/{id}/members/{user}`.
pub(super) async fn remove(id: String, user: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    membership::remove(&request.context.core, caller.user(), body::id(&id)?, &body::id(&user)?).await?;
    Ok(ok(&serde_json::json!({})))
}

/// `POST /v1/chats/{id}/messages`: what bots send with.
pub(super) async fn send(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let received = Instant::now();
    let caller = auth::caller(&request).await?;
    let chat: ChatId = body::id(&id)?;
    let message: Send = body::json(body)?;
    if message.id.is_some() || message.chat.is_some_and(|named| named != chat) {
        return Err(Problem::new(ErrorCode::BadField, "the chat is in the path, and a call needs no id"));
    }
    let core = &request.context.core;
    core.may_send(caller.user())?;
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

/// `GET /v1/chats/{id}/messages?before=&limit=`: what the server still holds, above the user's boundary (a sub: above
/// its own).
pub(super) async fn messages(id: String, request: Request) -> Result<Response, Problem> {
    let Caller::Device(device) = auth::caller(&request).await? else {
        return Err(Problem::new(ErrorCode::Forbidden, "messages are for devices: use a device token"));
    };
    let chat: ChatId = body::id(&id)?;
    let core = &request.context.core;
    let found = core.store.chat_of_member(chat, &device.user).await?;
    let (found, member) = found.ok_or_else(Problem::no_such_chat)?;
    let mut boundary = member.boundary;
    if device.kind == DeviceKind::Sub {
        // What is at or below it comes from the main, which decides what it gives.
        boundary = boundary.max(core.store.owed(chat, device.id).await?.map_or(found.head, |owed| owed.from));
    }
    let most = core.limits.history_page_messages as u64;
    let limit = request.query.number("limit")?.unwrap_or(most);
    if limit == 0 || limit > most {
        return Err(Problem::new(ErrorCode::BadRange, format!("limit is from 1 to {most}")));
    }
    let before = request.query.number("before")?.unwrap_or(found.head + 1).min(found.head + 1);
    let from = before.saturating_sub(limit).max(boundary + 1);
    // Read only while the user is a member: whoever left meanwhile gets nothing.
    let reader = Reader { user: device.user.clone(), since: member.boundary };
    let log = async |from, count, bytes| {
        let page = core.store.log_of_member(chat, &reader, from, count, bytes).await?;
        page.ok_or_else(Problem::no_such_chat)
    };
    let from = if from >= before { before } else { from.max(log(from, 1, 1).await?.floor) };
    let count = usize::try_from(before.saturating_sub(from)).unwrap_or_default();
    let page = if count == 0 {
        // Nothing is asked for, or nothing of it is held any more: here the log ends, or has a hole.
        LogPage { floor: found.head + 1, ..LogPage::default() }
    } else {
        log(from, count, usize::MAX).await?
    };
    let first = page.messages.first().map_or(before, |(seq, _)| *seq);
    let more = first > (boundary + 1).max(page.floor);
    let asked = page.messages.into_iter().filter(|(seq, _)| *seq < before);
    let frames: Vec<_> = asked.map(|(_, body)| split_epoch(body).0).collect();
    let items = frames.iter().filter_map(|frame| serde_json::from_slice(frame).ok()).collect();
    Ok(ok(&Messages { items, more }))
}

/// `GET /v1/offsets`: the bare map of all the user's chats; 0 where nothing was read.
pub(super) async fn offsets(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let store = &request.context.core.store;
    let (chats, reads) = (store.chats_of(caller.user()).await?, store.reads(caller.user()).await?);
    let offset = |chat: ChatId| (chat.to_string(), reads.get(&chat).map_or(0, |offset| offset.seq));
    let map: BTreeMap<String, Seq> = chats.into_iter().map(offset).collect();
    Ok(ok(&map))
}
