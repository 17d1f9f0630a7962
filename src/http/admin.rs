//! What admins call. Every handler's first line is the check of the admin token.

use serde::{Deserialize, Serialize};
use warp::reply::Response;

use super::{
    Request, auth,
    body::{self, Body},
    devices,
    respond::ok,
};
use crate::{
    domain::id::{DeviceId, UserId},
    protocol::Problem,
    sync::{admin, termination},
};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `GET /admin/v1/overview`.
pub(super) async fn overview(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    Ok(ok(&admin::overview(&request.context.core).await))
}

/// `GET /admin/v1/users/{u}/devices`.
pub(super) async fn devices(user: String, request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let user: UserId = body::id(&user)?;
    devices::page(&request, request.context.core.store.devices(&user).await?)
}

/// `POST /admin/v1/users/{u}/kick`.
pub(super) async fn kick(user: String, request: Request, body: Body) -> Result<Response, Problem> {
    let by = auth::admin(&request).await?;
    let user: UserId = body::id(&user)?;
    let Nothing {} = body::json_or_nothing(body)?;
    tracing::info!(by = %by.user, %user, "an admin closes all sockets of a user");
    admin::kick(&request.context.core, &user).await;
    Ok(ok(&serde_json::json!({})))
}

#[derive(Serialize)]
struct ChannelPage {
    items: Vec<admin::ChannelView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    unreachable: Vec<String>,
}

/// `GET /admin/v1/devices/{id}/channels`.
pub(super) async fn channels(id: String, request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let device = body::id(&id)?;
    queues(&request, device).await
}

/// A page of the queues of a device, whoever may see them.
pub(super) async fn queues(request: &Request, device: DeviceId) -> Result<Response, Problem> {
    let core = &request.context.core;
    let channels = admin::channels(core, device).await?;
    let (items, next) =
        body::page(&request.query, core.limits.page, channels.items, |item| match &item.node {
            Some(node) => format!("{}.{node}", item.chat),
            None => item.chat.to_string(),
        })?;
    Ok(ok(&ChannelPage { items, next, unreachable: channels.unreachable }))
}

/// `DELETE /admin/v1/devices/{id}?dry_run=`.
pub(super) async fn end(id: String, request: Request) -> Result<Response, Problem> {
    let by = auth::admin(&request).await?;
    let device: DeviceId = body::id(&id)?;
    let core = &request.context.core;
    let found = admin::find(core, device).await?;
    if request.query.flag("dry_run")? {
        let channels = admin::channels(core, device).await?;
        return Ok(ok(&serde_json::json!({
            "dry_run": true,
            "device": devices::DeviceView::from(found),
            "chats": channels.items.len(),
            "undelivered": channels.items.iter().map(|item| item.depth + item.in_flight).sum::<u64>(),
            "oldest_ms": channels.items.iter().filter_map(|item| item.oldest_ms).max(),
            "channels": channels.items,
            "unreachable": channels.unreachable,
        })));
    }
    tracing::info!(by = %by.user, user = %found.user, %device, "an admin ends a device");
    Ok(devices::accepted(&termination::begin(core, &found.user, device, "admin").await?))
}
