//! Links: a page asks to become a sub, a main decides, the page gets the result.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use warp::{http::StatusCode, reply::Response};

use super::{
    Request,
    auth::{self, Caller},
    body::{self, Body},
    cors,
    devices::{DeviceView, name, token},
    qr::{self, Qr},
    respond::{json, ok},
};
use crate::{
    domain::{
        device::{Device, DeviceKind},
        id::LinkId,
        link::LinkCode,
    },
    protocol::{ErrorCode, Problem, SafeInt},
    sync::links::{self, Outcome},
};

/// Maximum of `wait`, in seconds: proxies close connections that are idle for 30 s.
const LONGEST_WAIT: u64 = 25;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLink {
    name: String,
    platform: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decision {
    approve: bool,
    history: Option<SafeInt>,
}

#[derive(Serialize)]
struct Opened {
    link: LinkId,
    code: String,
    secret: String,
    expires_in: u64,
    qr: Qr,
}

#[derive(Serialize)]
struct LinkAnswer {
    code: String,
    name: String,
    platform: String,
    expires_in: u64,
}

#[derive(Serialize, Default)]
struct State {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<DeviceView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// `POST /v1/links`: without a token, or with a user token.
pub(super) async fn open(request: Request, body: Body) -> Result<Response, Problem> {
    // Any page could make its visitors use up the links of others.
    cors::may_ask(&request.context.server.allowed_origins, &request.headers)?;
    // A token that is given must be valid: a page with a user must not become a page without one.
    let bound = if auth::is_given(&request) { Some(auth::user(&request).await?.user) } else { None };
    let core = &request.context.core;
    // Two escaped names and little beside them: without authentication no more is read.
    let new: NewLink = body.at_most(512 + 12 * core.limits.name_bytes).json(&request).await?;
    name("name", &new.name, core.limits.name_bytes)?;
    name("platform", &new.platform, core.limits.name_bytes)?;
    let opened = links::open(core, request.address.into(), bound, new.name, new.platform).await?;
    let code = opened.code.to_string();
    let qr = qr::of(&format!("keepstep:link?code={code}")).map_err(|error| {
        tracing::error!(%error, "QR code not created");
        Problem::new(ErrorCode::Unavailable, "the link can't be shown now: try again")
    })?;
    let opened =
        Opened { link: opened.id, code, secret: opened.secret, expires_in: seconds(opened.lifetime), qr };
    Ok(json(StatusCode::CREATED, &opened))
}

/// `GET /v1/links/{code}`: the link that a main is to decide. `GET /v1/links/{link}`: its result. No id is a code.
pub(super) async fn get(which: String, request: Request) -> Result<Response, Problem> {
    match body::id::<LinkId>(&which) {
        Ok(link) => wait(link, &request).await,
        Err(_) => look(&which, &request).await,
    }
}

async fn look(code: &str, request: &Request) -> Result<Response, Problem> {
    let main = main(request).await?;
    let link = links::look(&request.context.core, &main, &decoded(code)).await?;
    Ok(ok(&LinkAnswer {
        code: LinkCode::to_string(&link.code),
        name: link.name,
        platform: link.platform,
        expires_in: seconds(link.left),
    }))
}

async fn wait(link: LinkId, request: &Request) -> Result<Response, Problem> {
    let patience = request.query.number("wait", 0..=LONGEST_WAIT)?.unwrap_or_default();
    // A missing secret is a wrong one.
    let secret = request.headers.get("x-link-secret").and_then(|value| value.to_str().ok()).unwrap_or("");
    let core = &request.context.core;
    let state =
        match links::wait(core, request.address.into(), link, secret, Duration::from_secs(patience)).await? {
            Outcome::Pending => State { state: "pending", ..State::default() },
            Outcome::Refused => State { state: "refused", ..State::default() },
            Outcome::Expired => State { state: "expired", ..State::default() },
            Outcome::Approved(device, claims) => {
                let token = token(request, &claims)?;
                State { state: "approved", device: Some((*device).into()), token: Some(token) }
            }
        };
    Ok(ok(&state))
}

/// `POST /v1/links/{code}/approve`.
pub(super) async fn decide(code: String, request: Request, body: Body) -> Result<Response, Problem> {
    let main = main(&request).await?;
    let Decision { approve, history } = body.json(&request).await?;
    if history.is_some() && !approve {
        return Err(Problem::new(ErrorCode::BadField, "history goes with \"approve\": true"));
    }
    let history = history.map(|most| most.0);
    let device = links::decide(&request.context.core, &main, &decoded(&code), approve, history).await?;
    Ok(match device {
        Some(device) => ok(&serde_json::json!({ "device": DeviceView::from(device) })),
        None => ok(&serde_json::json!({})),
    })
}

async fn main(request: &Request) -> Result<Device, Problem> {
    match auth::caller(request).await? {
        Caller::Device(device) if device.kind == DeviceKind::Main => Ok(*device),
        _ => {
            let detail = "only the main decides who is linked: use its device token";
            Err(Problem::new(ErrorCode::Forbidden, detail))
        }
    }
}

// Text that isn't UTF-8 is no code either.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

// Rounded up: 0 means that the link has expired.
fn seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX)
}
