//! HTTP: the whole route table in one function. A handler returns `Result<Response, Problem>`; `respond` turns a problem
//! into a response.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use hyper::upgrade::OnUpgrade;
use warp::{
    Filter, Rejection, Reply,
    filters::BoxedFilter,
    http::{HeaderMap, StatusCode},
    reply::Response,
};

use crate::{
    config::ServerConfig,
    protocol::{ErrorCode, Problem},
    sync::Core,
    tokens::Tokens,
};

mod address;
mod admin;
pub mod assets;
mod auth;
mod body;
mod chats;
mod cors;
mod devices;
mod links;
pub mod listener;
mod ops;
mod paths;
mod people;
pub mod playground;
mod qr;
mod respond;
mod room;
mod socket;
mod trace;

use assets::Assets;
use body::{Body, Query};
use playground::Playground;
use respond::{answer, refuse};
use room::{RequestBudget, Room};

/// What every handler uses.
#[derive(Debug, Clone)]
pub struct Context {
    core: Arc<Core>,
    tokens: Tokens,
    server: Arc<ServerConfig>,
    assets: Assets,
    room: Room,
    // None: off.
    playground: Option<Arc<Playground>>,
}

impl Context {
    /// Returns a context.
    #[must_use]
    pub fn new(
        core: Arc<Core>,
        tokens: Tokens,
        server: ServerConfig,
        assets: Assets,
        playground: Option<Playground>,
    ) -> Self {
        Self {
            core,
            tokens,
            server: Arc::new(server),
            assets,
            room: Room::default(),
            playground: playground.map(Arc::new),
        }
    }
}

/// One request as handlers see it. The body is read after authentication.
#[derive(Debug)]
struct Request {
    context: Context,
    headers: HeaderMap,
    query: Query,
    // Of the client, also behind trusted proxies.
    address: IpAddr,
    budget: Arc<RequestBudget>,
}

/// The public API.
pub fn api(context: &Context) -> BoxedFilter<(Response,)> {
    let get = || warp::get().and(request(context));
    let delete = || warp::delete().and(request(context));
    let post = || warp::post().and(request(context)).and(body::unread(context.core.limits.body_bytes));
    let id = warp::path::param::<String>;
    let end = warp::path::end;

    let devices = warp::path!("v1" / "devices").and(post()).then(with_body(devices::register)).boxed();
    let devices =
        devices.or(warp::path!("v1" / "devices").and(get()).then(plain(devices::list))).unify().boxed();
    let devices =
        devices.or(warp::path!("v1" / "devices" / String).and(delete()).then(with_id(devices::end))).unify();
    let devices = devices
        .or(warp::path!("v1" / "terminations" / String).and(get()).then(with_id(devices::termination)))
        .unify()
        .boxed();

    let queues = warp::path!("v1" / "devices" / String / "channels");
    let devices = devices.or(queues.and(get()).then(with_id(devices::channels))).unify().boxed();
    let playground = warp::path!("v1" / "playground").and(post()).then(with_body(playground::open));
    let devices = devices.or(playground).unify().boxed();
    let playground = warp::path!("v1" / "playground").and(get()).then(plain(playground::look));
    let devices = devices.or(playground).unify().boxed();
    let ready = warp::path!("v1" / "ready").and(get()).then(plain(ops::open_for_clients));
    let devices = devices.or(ready).unify().boxed();
    let links = warp::path!("v1" / "links").and(post()).then(with_body(links::open)).boxed();
    let links = links.or(warp::path!("v1" / "links" / String).and(get()).then(with_id(links::get))).unify();
    let decide = warp::path!("v1" / "links" / String / "approve");
    let links = links.or(decide.and(post()).then(with_id_and_body(links::decide))).unify().boxed();

    let chat = || warp::path("v1").and(warp::path("chats"));
    let chats = chat().and(end()).and(post()).then(with_body(chats::create)).boxed();
    let chats = chats.or(chat().and(end()).and(get()).then(plain(chats::list))).unify().boxed();
    let by_name = chat().and(warp::path("join")).and(end()).and(post()).then(with_body(chats::join_by_name));
    let chats = chats.or(by_name).unify().boxed();
    let chats = chats.or(chat().and(id()).and(end()).and(get()).then(with_id(chats::one))).unify().boxed();
    let of = |name: &'static str| chat().and(id()).and(warp::path(name)).and(end());
    let chats = chats.or(of("join").and(post()).then(with_id_and_body(chats::join))).unify().boxed();
    let chats = chats.or(of("leave").and(post()).then(with_id_and_body(chats::leave))).unify().boxed();
    let chats = chats.or(of("members").and(post()).then(with_id_and_body(chats::invite))).unify().boxed();
    let remove = chat().and(id()).and(warp::path("members")).and(id()).and(end());
    let remove = remove.and(delete()).then(|chat, user, request: Request| {
        named(request.context.core.clone(), request.budget.clone(), chats::remove(chat, user, request))
    });
    let chats = chats.or(remove).unify().boxed();
    let chats = chats.or(of("messages").and(get()).then(with_id(chats::messages))).unify().boxed();
    let chats = chats.or(of("messages").and(post()).then(with_id_and_body(chats::send))).unify().boxed();
    let chats = chats.or(people(context)).unify().boxed();
    let chats =
        chats.or(warp::path!("v1" / "offsets").and(get()).then(plain(chats::offsets))).unify().boxed();

    let admin = warp::path!("admin" / "v1" / "overview").and(get()).then(plain(admin::overview)).boxed();
    let users = warp::path!("admin" / "v1" / "users").and(get());
    let admin = admin.or(users.then(plain(admin::all_users))).unify().boxed();
    let all = warp::path!("admin" / "v1" / "devices").and(get());
    let admin = admin.or(all.then(plain(admin::all_devices))).unify().boxed();
    let of_user = warp::path!("admin" / "v1" / "users" / String / "devices");
    let admin = admin.or(of_user.and(get()).then(with_id(admin::devices))).unify().boxed();
    let kick = warp::path!("admin" / "v1" / "users" / String / "kick");
    let admin = admin.or(kick.and(post()).then(with_id_and_body(admin::kick))).unify().boxed();
    let queues = warp::path!("admin" / "v1" / "devices" / String / "channels");
    let admin = admin.or(queues.and(get()).then(with_id(admin::channels))).unify().boxed();
    let remove = warp::path!("admin" / "v1" / "devices" / String);
    let admin = admin.or(remove.and(delete()).then(with_id(admin::end))).unify().boxed();
    let orphans = warp::path!("admin" / "v1" / "channels" / "orphans").and(get());
    let admin = admin.or(orphans.then(plain(admin::orphans))).unify().boxed();
    let sweep = warp::path!("admin" / "v1" / "channels" / "sweep").and(post());
    let admin = admin.or(sweep.then(with_body(admin::sweep))).unify().boxed();
    let audit = warp::path!("admin" / "v1" / "audit").and(get());
    let admin = admin.or(audit.then(plain(admin::audit_log))).unify().boxed();

    let upgrade = warp::ext::optional::<OnUpgrade>().and(warp::ext::optional::<listener::Permit>());
    let upgrade = upgrade.and(warp::ext::optional::<trace::RequestId>());
    let socket = warp::path!("v1" / "socket").and(warp::get()).and(request(context)).and(upgrade);
    let socket = socket.then(|request, upgrade, permit, id| async move {
        answer(socket::open(request, upgrade, permit, id).await)
    });

    let all = socket.or(chats).unify().or(devices).unify().or(links).unify().or(admin).unify();
    let all = all.or(pages(context)).unify().recover(unrouted).unify().boxed();
    let (server, headers) = (context.server.clone(), warp::header::headers_cloned);
    let asked =
        warp::options().and(headers()).map(move |headers| cors::preflight(&server.allowed_origins, &headers));
    let server = context.server.clone();
    let all = headers()
        .and(all)
        .map(move |headers, response| cors::allow(&server.allowed_origins, &headers, response));
    asked.or(all).unify().boxed()
}

/// Invitations and blocks.
fn people(context: &Context) -> BoxedFilter<(Response,)> {
    let get = || warp::get().and(request(context));
    let invitations = warp::path!("v1" / "invitations").and(get()).then(plain(people::invitations)).boxed();
    let post = || warp::post().and(request(context)).and(body::unread(context.core.limits.body_bytes));
    let accept = warp::path!("v1" / "invitations" / String / "accept");
    let calls = invitations.or(accept.and(post()).then(with_id_and_body(people::accept))).unify().boxed();
    let decline = warp::path!("v1" / "invitations" / String / "decline");
    let calls = calls.or(decline.and(post()).then(with_id_and_body(people::decline))).unify().boxed();
    let calls = calls.or(warp::path!("v1" / "blocks").and(get()).then(plain(people::blocks))).unify().boxed();
    let block = warp::path!("v1" / "blocks" / String);
    let put = warp::put().and(request(context));
    let calls = calls.or(block.and(put).then(with_id(people::block))).unify().boxed();
    let delete = warp::delete().and(request(context));
    calls.or(block.and(delete).then(with_id(people::unblock))).unify().boxed()
}

/// The files of the pages. This filter comes last and rejects a path that is no file.
fn pages(context: &Context) -> BoxedFilter<(Response,)> {
    let assets = context.assets.clone();
    let file = warp::path::full().and_then(move |path: warp::path::FullPath| {
        let assets = assets.clone();
        async move { assets.find(path.as_str()).await.ok_or_else(warp::reject::not_found) }
    });
    let method = warp::get().or(warp::head()).unify();
    let context = context.clone();
    file.and(method)
        .and(warp::header::headers_cloned())
        .map(move |asset, headers| assets::serve(asset, &context, &headers))
        .boxed()
}

/// Returns the `Host` header if it is a host and perhaps a port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let host = headers.get(warp::http::header::HOST)?.to_str().ok()?;
    // The longest name and a port.
    ((1..=261).contains(&host.len()) && host.bytes().all(good)).then_some(host)
}

/// Health, readiness and metrics, on a listener for operators.
pub fn ops(context: &Context) -> BoxedFilter<(Response,)> {
    let get = || warp::get().and(request(context));
    let health = warp::path!("healthz").and(get()).then(|_| async { "ok\n".into_response() });
    let ready = warp::path!("readyz").and(get()).then(|request: Request| ops::ready(request.context));
    let metrics = warp::path!("metrics").and(get()).then(|request: Request| ops::metrics(request.context));
    health.or(ready).unify().or(metrics).unify().recover(unrouted).unify().boxed()
}

fn request(
    context: &Context,
) -> impl Filter<Extract = (Request,), Error = Infallible> + Clone + Send + use<> {
    let context = context.clone();
    // Neither can fail: a request without a query has an empty one.
    let query = warp::query::raw().or_else(|_| async { Ok::<_, Infallible>((String::new(),)) });
    let permit = warp::ext::optional::<listener::Permit>();
    warp::header::headers_cloned().and(query).and(permit).map(
        move |headers, query: String, permit: Option<listener::Permit>| {
            let address = permit.map_or(Ipv4Addr::UNSPECIFIED.into(), |permit| permit.address());
            let budget = Arc::new(RequestBudget::new(&context.room, address.into()));
            Request { context: context.clone(), headers, query: Query::parse(&query), address, budget }
        },
    )
}

// The four shapes of handlers: with or without an id in the path, with or without a body.

fn plain<F>(handler: fn(Request) -> F) -> impl Fn(Request) -> BoxedAnswer + Clone
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    move |request| Box::pin(named(request.context.core.clone(), request.budget.clone(), handler(request)))
}

fn with_id<F>(handler: fn(String, Request) -> F) -> impl Fn(String, Request) -> BoxedAnswer + Clone
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    move |id, request| {
        Box::pin(named(request.context.core.clone(), request.budget.clone(), handler(id, request)))
    }
}

fn with_body<F>(handler: fn(Request, Body) -> F) -> impl Fn(Request, Body) -> BoxedAnswer + Clone
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    move |request, body| {
        Box::pin(named(request.context.core.clone(), request.budget.clone(), handler(request, body)))
    }
}

fn with_id_and_body<F>(
    handler: fn(String, Request, Body) -> F,
) -> impl Fn(String, Request, Body) -> BoxedAnswer + Clone
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    move |id, request, body| {
        Box::pin(named(request.context.core.clone(), request.budget.clone(), handler(id, request, body)))
    }
}

/// What a handler answers; but nothing is done under a name that may be another edge's.
async fn named(
    core: Arc<Core>,
    budget: Arc<RequestBudget>,
    handler: impl Future<Output = Result<Response, Problem>>,
) -> Response {
    if core.edge.claim.waits() {
        let why = "this edge doesn't know yet whether its name is its own: try again, or at another edge";
        return answer(Err(Problem::new(ErrorCode::Unavailable, why)));
    }
    answer(handler.await.and_then(|response| budget.answered(response)))
}

type BoxedAnswer = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// What no route took.
async fn unrouted(rejection: Rejection) -> Result<Response, Infallible> {
    let (code, detail) = if rejection.is_not_found() {
        (ErrorCode::NotFound, "there is no such address: see docs/protocol.md")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        let problem = Problem::new(ErrorCode::NotFound, "this address doesn't take this method");
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, &problem));
    } else {
        (ErrorCode::BadField, "the request can't be read")
    };
    Ok(answer(Err(Problem::new(code, detail))))
}
