//! Devices and their terminations.

use serde::{Deserialize, Serialize};
use warp::{http::StatusCode, reply::Response};

use super::{
    Request, admin,
    auth::{self, Caller},
    body::{self, Body},
    chats::counted,
    respond::{json, ok},
};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState},
        id::{DeviceId, TerminationId},
        label,
        termination::Termination,
    },
    protocol::{ErrorCode, Problem},
    sync::{registration, termination},
    tokens::DeviceClaims,
};

/// A view of a user's queues counts once more for each this many chats.
const CHATS_PER_VIEW: u32 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    kind: DeviceKind,
    name: String,
    platform: String,
    id: Option<DeviceId>,
    #[serde(default)]
    replace: bool,
}

/// A device on the wire.
#[derive(Serialize)]
pub(super) struct DeviceView {
    pub id: DeviceId,
    kind: DeviceKind,
    name: String,
    platform: String,
    created: Millis,
    last_seen: Millis,
    online: bool,
    edge: Option<String>,
    state: DeviceState,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<u64>,
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        Self {
            id: device.id,
            kind: device.kind,
            online: device.online(),
            name: device.name,
            platform: device.platform,
            created: device.created,
            last_seen: device.last_seen,
            edge: device.lease.map(|lease| lease.edge),
            state: device.state,
            expires: device.expires,
            history: device.history,
        }
    }
}

/// Checks a name that people give.
pub(super) fn name(field: &'static str, text: &str, most: usize) -> Result<(), Problem> {
    if text.len() > most {
        return Err(Problem::new(ErrorCode::TooLarge, format!("{field} has at most {most} bytes")));
    }
    label::check(text)
        .map_err(|unfit| Problem::new(ErrorCode::BadField, format!("{field} {}", unfit.because())))
}

/// `POST /v1/devices`.
pub(super) async fn register(request: Request, body: Body) -> Result<Response, Problem> {
    let claims = auth::user(&request).await?;
    let new: NewDevice = body.json(&request).await?;
    let core = &request.context.core;
    let most = core.limits.name_bytes;
    let fit = name("name", &new.name, most).and_then(|()| name("platform", &new.platform, most));
    if let Err(problem) = fit {
        // A device that was registered under older rules keeps its names and gets its token.
        let known = match new.id {
            Some(id) => core.store.device(&claims.user, id).await?.is_some(),
            None => false,
        };
        if !known {
            return Err(problem);
        }
    }
    if new.replace && new.kind == DeviceKind::Sub {
        return Err(Problem::new(ErrorCode::BadField, "replace is for a main: a user has one of them"));
    }
    let wanted = registration::RegisterDevice {
        id: new.id,
        kind: new.kind,
        name: new.name,
        platform: new.platform,
        replace: new.replace,
        history: None,
    };
    let (device, claims, created) = registration::register(core, &claims.user, wanted).await?;
    let token = token(&request, &claims)?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &serde_json::json!({ "device": DeviceView::from(device), "token": token })))
}

/// Issues a device token.
pub(super) fn token(request: &Request, claims: &DeviceClaims) -> Result<String, Problem> {
    request.context.tokens.issue_device(claims).map_err(|error| {
        Problem::new(ErrorCode::Unavailable, "the token can't be made now: try again with the same id")
            .because_of(&error)
    })
}

/// Returns the page of a list of devices that the query asks for.
pub(super) fn page(request: &Request, devices: Vec<Device>) -> Result<Response, Problem> {
    let views = devices.into_iter().map(DeviceView::from).collect();
    paged(request, views, |device| device.id.to_string())
}

/// Returns the page of a list that the query asks for. The list is sorted by its key.
pub(super) fn paged<T: Serialize>(
    request: &Request,
    all: Vec<T>,
    key: impl Fn(&T) -> String,
) -> Result<Response, Problem> {
    let (items, next) = body::page(&request.query, request.context.core.limits.page, all, key)?;
    Ok(ok(&Page { items, next }))
}

/// A list on the wire.
#[derive(Serialize)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `GET /v1/devices`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let _turn = counted(&request, caller.user()).await?;
    let mut devices = request.context.core.store.devices(caller.user()).await?;
    devices.retain(|device| device.state != DeviceState::Terminating);
    page(&request, devices)
}

/// `DELETE /v1/devices/{id}`: the user, the main, or the device itself.
pub(super) async fn end(id: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let device: DeviceId = body::id(&id)?;
    let by = match &caller {
        Caller::User(_) => "user",
        Caller::Device(own) if own.id == device => "self",
        Caller::Device(own) if own.kind == DeviceKind::Main => "main",
        Caller::Device(_) => {
            return Err(Problem::new(
                ErrorCode::Forbidden,
                "a sub ends itself only: the main or the user ends others",
            ));
        }
    };
    let core = &request.context.core;
    // Each call fences off every chat again.
    core.limit("ends", caller.user(), core.limits.creates_per_minute).await?;
    let termination = termination::begin(core, caller.user(), device, by).await?;
    Ok(accepted(&termination))
}

/// `GET /v1/devices/{id}/channels`: the device's queues, for its user. Each call asks every nsqd, so calls are counted.
pub(super) async fn channels(id: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let device: DeviceId = body::id(&id)?;
    let core = &request.context.core;
    // The cost grows with the user's chats.
    let chats = u32::try_from(core.store.chats_of(caller.user()).await?.len()).unwrap_or(u32::MAX);
    let most = core.limits.queue_views_per_minute / (1 + chats / CHATS_PER_VIEW);
    core.limit("queues", caller.user(), most).await?;
    if core.store.device(caller.user(), device).await?.is_none() {
        return Err(Problem::new(ErrorCode::NotFound, "you have no such device"));
    }
    admin::queues(&request, device).await
}

/// Returns a response with status 202 and the termination.
pub(super) fn accepted(termination: &Termination) -> Response {
    json(StatusCode::ACCEPTED, &accepted_body(termination))
}

/// Returns the body of that response.
pub(super) fn accepted_body(termination: &Termination) -> serde_json::Value {
    serde_json::json!({ "termination": { "id": termination.id, "state": termination.state } })
}

/// `GET /v1/terminations/{id}`: the user, any device of the user, an admin.
pub(super) async fn termination(id: String, request: Request) -> Result<Response, Problem> {
    let caller = auth::caller(&request).await?;
    let id: TerminationId = body::id(&id)?;
    let admin = matches!(&caller, Caller::User(claims) if claims.admin);
    match request.context.core.store.termination(id).await? {
        Some(termination) if admin || termination.user == *caller.user() => Ok(ok(&serde_json::json!({
            "id": termination.id,
            "device": termination.device,
            "by": termination.by,
            "state": termination.state,
            "accepted_at": termination.accepted_at,
            "channels_deleted": termination.receipt.channels.len(),
            "unreachable": termination.unreachable,
            "receipt": termination.receipt,
        }))),
        _ => Err(Problem::new(ErrorCode::NotFound, "there is no such termination for you")),
    }
}
