//! The admin API. Every handler's first line checks the admin token. These calls only read; `actions` has those that change
//! something, which the audit log records.

use serde::Serialize;
use warp::{
    http::{HeaderValue, header},
    reply::{Reply, Response},
};

use super::{
    Request, auth,
    body::{self, Query},
    devices,
    respond::ok,
};
use crate::{
    domain::{
        MAX_SAFE_INTEGER,
        id::{DeviceId, UserId},
    },
    protocol::{ErrorCode, Problem},
    sync::{
        admin,
        console::{self, audit, order::Listing, orphans, snapshot},
    },
};

mod actions;

pub(super) use actions::{end, kick, sweep};

/// Maximum length of a search, in bytes.
const SEARCH: usize = 128;
/// Default number of items of a page.
const PAGE: u64 = 100;

/// `GET /admin/v1/overview`.
pub(super) async fn overview(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    Ok(ok(&console::overview(&request.context.core).await))
}

/// `GET /admin/v1/users`.
pub(super) async fn all_users(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let listing = listing(&request, snapshot::USER_SORTS)?;
    Ok(ok(&snapshot::users(&request.context.core, &listing).await?))
}

/// `GET /admin/v1/devices`.
pub(super) async fn all_devices(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let user = given(&request.query, "user").map(body::parse::<UserId>).transpose()?;
    let listing = listing(&request, snapshot::DEVICE_SORTS)?;
    Ok(ok(&snapshot::devices(&request.context.core, user.as_ref(), &listing).await?))
}

/// `GET /admin/v1/users/{u}/devices`.
pub(super) async fn devices(user: String, request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let user: UserId = body::id(&user)?;
    devices::page(&request, request.context.core.store.devices(&user).await?)
}

#[derive(Serialize)]
struct ChannelPage<'a> {
    items: Vec<&'a admin::ChannelView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    total: usize,
    unreachable: &'a [String],
}

/// `GET /admin/v1/devices/{id}/channels`.
pub(super) async fn channels(id: String, request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let device = body::id(&id)?;
    queues(&request, device).await
}

/// Returns a page of the queues of a device, without a check of who asks.
pub(super) async fn queues(request: &Request, device: DeviceId) -> Result<Response, Problem> {
    let listing = listing(request, admin::CHANNEL_SORTS)?;
    let channels = admin::channels(&request.context.core, device).await?;
    let page = channels.page(&listing)?;
    let unreachable = &channels.unreachable;
    Ok(ok(&ChannelPage { items: page.rows, next: page.next, total: page.total, unreachable }))
}

/// `GET /admin/v1/channels/orphans`.
pub(super) async fn orphans(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let listing = listing(&request, &["chat"])?;
    Ok(ok(&orphans::orphans(&request.context.core, &listing).await?))
}

/// `GET /admin/v1/audit`.
pub(super) async fn audit_log(request: Request) -> Result<Response, Problem> {
    auth::admin(&request).await?;
    let (query, most) = (&request.query, request.context.core.limits.page);
    let lines_wanted = one_of(query, "format", &["json", "jsonl"])? == Some("jsonl");
    let after = given(query, "after").map(str::parse).transpose();
    let all = lines_wanted && given(query, "limit").is_none();
    let wanted = audit::Wanted {
        who: given(query, "who").map(body::parse::<UserId>).transpose()?,
        action: one_of(query, "action", audit::ACTIONS)?,
        since: query.number("since", 0..=MAX_SAFE_INTEGER)?,
        after: after.map_err(|_| bad_field("after is the `next` of the page before"))?,
        limit: if all { None } else { Some(body::limit(query, PAGE, most)?) },
    };
    let (items, next) = audit::entries(&request.context.core, &wanted).await?;
    if !lines_wanted {
        return Ok(ok(&devices::Page { items, next }));
    }
    let lines: Vec<String> = items.iter().filter_map(|item| serde_json::to_string(item).ok()).collect();
    let mut response = lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Parses the parameters of a list. The default is the first sort, descending unless it is by name.
fn listing(request: &Request, sorts: &[&'static str]) -> Result<Listing, Problem> {
    let query = &request.query;
    let search =
        given(query, "search").map(|text| text.trim().to_lowercase()).filter(|text| !text.is_empty());
    if search.as_ref().is_some_and(|text| text.len() > SEARCH) {
        return Err(Problem::new(ErrorCode::BadRange, format!("search has at most {SEARCH} bytes")));
    }
    let sort = one_of(query, "sort", sorts)?.or(sorts.first().copied()).unwrap_or_default();
    let descending = match one_of(query, "order", &["asc", "desc"])? {
        Some(order) => order == "desc",
        None => !matches!(sort, "user" | "chat"),
    };
    let limit = body::limit(query, PAGE, request.context.core.limits.page)?;
    Ok(Listing { search, sort, descending, after: given(query, "after").map(str::to_owned), limit })
}

/// Returns a parameter unless it is empty, as forms send it.
fn given<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.get(name).filter(|text| !text.is_empty())
}

fn one_of(query: &Query, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Problem> {
    let Some(text) = given(query, name) else { return Ok(None) };
    let word = words.iter().copied().find(|word| *word == text);
    word.map(Some).ok_or_else(|| bad_field(format!("{name} is one of: {}", words.join(", "))))
}

fn bad_field(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ErrorCode::BadField, detail)
}
