//! The accept loop. warp's `serve` has no timeout for a request's head, no TCP_NODELAY and no limit of connections, so its
//! routes run here as a plain hyper service.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use warp::{filters::BoxedFilter, reply::Response};

use super::{address, respond::answer, trace::Traced};
use crate::{
    config::{ServerConfig, Timing, TrustedProxies},
    drain::Drain,
    protocol::{ErrorCode, Problem},
};

mod limiter;
mod line;
mod proxied;

pub use limiter::Permit;
use limiter::{Connection, ConnectionLimiter};
pub use line::{Line, Unread};

/// Time for the response of a running request when the server stops.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// Connections that are accepted in a row before other tasks run.
const ACCEPTS: u32 = 16;
/// Seconds after which a client with too many connections may try again.
const AGAIN: u32 = 1;

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of connections from one address.
    pub per_address: usize,
    /// Connections that one address may open per second; further ones are delayed.
    pub pace: u32,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Maximum size of the head of a request, in bytes.
    pub header_bytes: usize,
    /// Time for a client to read anything of a response.
    pub write_timeout: Duration,
    /// Proxies whose word on the client's address is believed.
    pub proxies: TrustedProxies,
    /// Whether each connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Rules {
    /// Returns the limits of the settings.
    #[must_use]
    pub fn new(config: &ServerConfig, timing: &Timing) -> Self {
        Self {
            connections: config.max_connections,
            per_address: config.max_connections_per_ip,
            pace: config.new_connections_per_ip,
            header_timeout: config.header_timeout,
            header_bytes: config.max_header_bytes,
            write_timeout: timing.write_timeout,
            proxies: config.trusted_proxies.clone(),
            proxy_protocol: config.proxy_protocol,
        }
    }

    /// Returns the limits of a listener that isn't behind the load balancer.
    #[must_use]
    pub fn without_proxies(&self) -> Self {
        Self { proxies: TrustedProxies::default(), proxy_protocol: false, ..self.clone() }
    }
}

/// What the connections of one listener share.
#[derive(Clone)]
struct Endpoint {
    http: Arc<http1::Builder>,
    routes: BoxedFilter<(Response,)>,
    rules: Arc<Rules>,
    limiter: ConnectionLimiter,
    // Whether the missing PROXY protocol header was logged: a load balancer has many connections.
    warned: Arc<AtomicBool>,
}

/// Serves connections until the drain begins. Open connections then finish their requests, and the drain waits for them.
/// Without a drain it serves until the process ends.
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    rules: Rules,
    drain: Option<Drain>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(rules.header_timeout)
        .max_buf_size(rules.header_bytes.max(8192));
    let limiter = ConnectionLimiter::new(rules.connections, rules.per_address, rules.pace);
    let endpoint =
        Endpoint { http: http.into(), routes, rules: rules.into(), limiter, warned: Arc::default() };
    let mut accepts = 0u32;
    loop {
        accepts = accepts.wrapping_add(1);
        if accepts.is_multiple_of(ACCEPTS) {
            tokio::task::yield_now().await;
        }
        let accepted = tokio::select! {
            () = begun(drain.as_ref()) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually no file descriptor is left, and accepting again at once would only take CPU time.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(connection) = endpoint.limiter.connect() else {
            tracing::debug!(%peer, "too many connections: refused");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
        let (endpoint, stop) = (endpoint.clone(), drain.clone());
        let served = async move { endpoint.serve(stream, peer, connection, begun(stop.as_ref())).await };
        match &drain {
            Some(drain) => drain.spawn(served),
            None => drop(tokio::spawn(served)),
        }
    }
}

async fn begun(drain: Option<&Drain>) {
    match drain {
        Some(drain) => drain.begun().await,
        None => std::future::pending().await,
    }
}

impl Endpoint {
    async fn serve(
        self,
        mut stream: TcpStream,
        peer: SocketAddr,
        connection: Arc<Connection>,
        stop: impl Future<Output = ()>,
    ) {
        let Some(from) = self.from(&mut stream, peer).await else { return };
        // Each request of a proxy is another client's, and gets its permit when its head is read.
        let permit = if self.rules.proxies.contains(from.ip()) {
            None
        } else {
            let Some(permit) = self.limiter.enter(from.ip(), &connection) else {
                return tracing::debug!(%from, "too many connections from this address: refused");
            };
            self.pace(from.ip()).await;
            Some(permit)
        };
        let routes = TowerToHyperService::new(warp::service(self.routes.clone()));
        let unread = Unread::default();
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            let traced = Traced::new(request.method(), request.uri().path(), request.headers());
            let mut waits = false;
            let permit = permit.clone().or_else(|| {
                waits = true;
                let client = address::client(&self.rules.proxies, from.ip(), request.headers());
                self.limiter.enter(client, &connection)
            });
            let answer = permit.map(|permit| {
                request.extensions_mut().insert(permit.clone());
                request.extensions_mut().insert(unread.clone());
                request.extensions_mut().insert(traced.id().clone());
                // `CONNECT` has a host and no path, which warp's path filters take for a bug.
                let has_path = request.uri().path().starts_with('/');
                (has_path.then(|| routes.call(request)), permit)
            });
            let endpoint = self.clone();
            traced.answered(async move {
                let Some((answer, permit)) = answer else { return Ok::<_, Infallible>(crowded()) };
                if waits {
                    endpoint.pace(permit.address()).await;
                }
                match answer {
                    Some(answer) => answer.await,
                    None => Ok(no_path()),
                }
            })
        });
        let line = Line::new(stream, self.rules.write_timeout, unread.clone());
        let mut http =
            std::pin::pin!(self.http.serve_connection(TokioIo::new(line), service).with_upgrades());
        let result = tokio::select! {
            result = http.as_mut() => result,
            () = stop => {
                http.as_mut().graceful_shutdown();
                match tokio::time::timeout(LAST_ANSWER, http).await {
                    Ok(result) => result,
                    Err(_) => return tracing::debug!(%from, "a connection was cut off by the stop"),
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%from, %error, "a connection ended in an error");
        }
    }

    async fn pace(&self, client: IpAddr) {
        let wait = self.limiter.wait(client);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Returns the client of a connection, by its PROXY protocol header if one is required. None: it is refused.
    async fn from(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.rules.proxy_protocol {
            return Some(peer);
        }
        let reason = if self.rules.proxies.is_empty() || self.rules.proxies.contains(peer.ip()) {
            match tokio::time::timeout(self.rules.header_timeout, proxied::client(stream)).await {
                Ok(Ok(Some(client))) => return Some(SocketAddr::new(client, peer.port())),
                Ok(Ok(None)) => return Some(peer),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it didn't come in time".to_owned(),
            }
        } else {
            "the address isn't in KEEPSTEP_TRUSTED_PROXIES".to_owned()
        };
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!(%peer, reason, "a connection without a head of the PROXY protocol is refused");
        } else {
            tracing::warn!(
                %peer, reason,
                "a connection without a head of the PROXY protocol is refused: let the balancer send one, or unset \
                 KEEPSTEP_PROXY_PROTOCOL (logged once)"
            );
        }
        None
    }
}

/// Answers a request without a path.
fn no_path() -> Response {
    answer(Err(Problem::new(ErrorCode::NotFound, "ask for a path: it begins with a slash")))
}

/// Answers a client behind a proxy that has too many connections.
fn crowded() -> Response {
    let detail = "too many connections from your address: close some, or try again later";
    answer(Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(AGAIN)))
}
