//! The accept loop. warp's own `serve` has no time limit for a request's head, no TCP_NODELAY, no limit of connections,
//! and its graceful end doesn't wait for sockets; so its routes run here as a plain hyper service.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
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
use tokio::net::TcpListener;
use warp::{filters::BoxedFilter, reply::Response};

use crate::{config::ServerConfig, drain::Drain};

/// At a stop: how long a request that is under way has for its answer.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// What one listener allows.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub per_address: usize,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Bytes of the head of a request.
    pub header_bytes: usize,
}

impl From<&ServerConfig> for Rules {
    fn from(config: &ServerConfig) -> Self {
        Self {
            connections: config.max_connections,
            per_address: config.max_connections_per_ip,
            header_timeout: config.header_timeout,
            header_bytes: config.max_header_bytes,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Counts connections by address.
#[derive(Debug, Clone, Default)]
struct Census(Arc<Mutex<Counts>>);

/// One connection that is counted until this is dropped. Each request carries it, so that a socket, which leaves the
/// connection's task, stays counted too.
#[derive(Debug, Clone)]
pub struct Counted {
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry(Census, IpAddr);

impl Counted {
    /// Whose it is.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.entry.1
    }
}

impl Census {
    fn enter(&self, address: IpAddr, rules: Rules) -> Option<Counted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_address.get(&address).copied().unwrap_or_default();
        if counts.all >= rules.connections || own >= rules.per_address {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, own + 1);
        Some(Counted { entry: Arc::new(Entry(self.clone(), address)) })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut counts = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.1);
            }
        }
    }
}

/// Serves until the drain begins; connections that are open then finish what they have under way.
pub async fn serve(
    listener: TcpListener,
    routes: BoxedFilter<(Response,)>,
    rules: Rules,
    drain: Drain,
    stop_on_drain: bool,
) {
    let census = Census::default();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(rules.header_timeout)
        .max_buf_size(rules.header_bytes.max(8192));
    loop {
        let accepted = tokio::select! {
            () = drain.begun(), if stop_on_drain => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually no file descriptors are left: accepting again at once would only burn the processor.
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(counted) = census.enter(peer.ip(), rules) else {
            tracing::debug!(%peer, "too many connections: refused");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY can't be set");
        }
        let routes = TowerToHyperService::new(warp::service(routes.clone()));
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(counted.clone());
            routes.call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let (tasks, drain) = (drain.clone(), drain.clone());
        let connection = async move {
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = drain.begun(), if stop_on_drain => {
                    connection.as_mut().graceful_shutdown();
                    match tokio::time::timeout(LAST_ANSWER, connection).await {
                        Ok(result) => result,
                        Err(_) => return tracing::debug!(%peer, "a connection was cut off by the stop"),
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "a connection ended in an error");
            }
        };
        // Those that end with the drain are waited for: else the process would be gone before their answers are.
        if stop_on_drain {
            tasks.spawn(connection);
        } else {
            tokio::spawn(connection);
        }
    }
}
