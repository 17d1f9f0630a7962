//! Pending invitations and blocks.

use serde::Serialize;
use warp::reply::Response;

use super::{
    Request, auth,
    body::{self, Body},
    chats::{Nothing, counted, view},
    devices::paged,
    respond::ok,
};
use crate::{
    domain::{
        Millis,
        chat::ChatKind,
        id::{ChatId, UserId},
    },
    protocol::Problem,
    sync::people,
};

/// About the size of an invitation or a block, in bytes.
const ITEM_BYTES: usize = 512;

/// An invitation on the wire.
#[derive(Serialize)]
struct InvitationView {
    chat: ChatId,
    kind: ChatKind,
    name: Option<String>,
    by: UserId,
    at: Millis,
}

/// A block on the wire.
#[derive(Serialize)]
struct BlockView {
    user: UserId,
    at: Millis,
}

/// `GET /v1/invitations`.
pub(super) async fn invitations(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let _turn = counted(&request, caller.user()).await?;
    let core = &request.context.core;
    request.reserve(core.limits.page.min(people::most_invitations(core) as usize) * ITEM_BYTES)?;
    let found = people::invitations(core, caller.user()).await?.into_iter().map(|(invitation, chat)| {
        InvitationView {
            chat: chat.id,
            kind: chat.kind,
            name: chat.name,
            by: invitation.by,
            at: invitation.at,
        }
    });
    paged(&request, found.collect(), |one| one.chat.to_string())
}

/// `POST /v1/invitations/{chat}/accept`.
pub(super) async fn accept(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let Nothing {} = body.json_or_nothing(&request).await?;
    let chat = people::accept(&request.context.core, caller.user(), body::id(&id)?).await?;
    Ok(ok(&view(&request, chat, caller.user()).await?))
}

/// `POST /v1/invitations/{chat}/decline`.
pub(super) async fn decline(id: String, request: Request, body: Body) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let Nothing {} = body.json_or_nothing(&request).await?;
    people::decline(&request.context.core, caller.user(), body::id(&id)?).await?;
    Ok(ok(&serde_json::json!({})))
}

/// `GET /v1/blocks`.
pub(super) async fn blocks(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let _turn = counted(&request, caller.user()).await?;
    let core = &request.context.core;
    request.reserve(core.limits.page.min(core.limits.blocks_per_user as usize) * ITEM_BYTES)?;
    let blocks = people::blocks(core, caller.user()).await?.into_iter();
    let views = blocks.map(|block| BlockView { user: block.user, at: block.at }).collect();
    paged(&request, views, |one| one.user.to_string())
}

/// `PUT /v1/blocks/{user}`.
pub(super) async fn block(user: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let block = people::block(&request.context.core, caller.user(), &body::id(&user)?).await?;
    Ok(ok(&BlockView { user: block.user, at: block.at }))
}

/// `DELETE /v1/blocks/{user}`.
pub(super) async fn unblock(user: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    people::unblock(&request.context.core, caller.user(), &body::id(&user)?).await?;
    Ok(ok(&serde_json::json!({})))
}
