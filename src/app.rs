//! One edge, put together: build -> addresses -> run -> drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    broker::{
        Broker,
        embedded::EmbeddedBroker,
        nsq::{NodeAddress, NsqBroker, NsqOptions},
    },
    config::{Backend, Config, Limits, NsqConfig, RedisConfig},
    drain::Drain,
    http::{self, Context, listener, listener::Rules},
    metrics::Metrics,
    store::{
        Store, StoreLimits,
        embedded::EmbeddedStore,
        redis::{RedisOptions, RedisStore, StartupError},
    },
    sync::Core,
    tokens::Tokens,
};

/// Why an edge doesn't start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address can't be listened on.
    #[error("{address} can't be listened on: {reason}. Choose another address, or end what uses it")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        reason: std::io::Error,
    },
    /// A setting that can't be used.
    #[error("{0}")]
    Refused(String),
}

/// An edge that listens, and doesn't serve yet.
#[derive(Debug)]
pub struct App {
    core: Arc<Core>,
    context: Context,
    rules: Rules,
    api: TcpListener,
    ops: TcpListener,
    // A Redis that wasn't there at the start is looked at when it comes.
    unchecked: Option<(RedisStore, bool)>,
}

impl App {
    /// Listens, reaches for the store and the broker, and starts the background work.
    ///
    /// # Errors
    /// What can't be used. A server that merely isn't there is no error: `/readyz` says so, and it heals.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        raise_file_limit();
        let tokens = Tokens::new(&config.tokens).map_err(refused)?;
        let mut unchecked = None;
        let (store, broker) = match &config.backend {
            Backend::Embedded => {
                let store = EmbeddedStore::new(store_limits(&config.limits));
                (Store::Embedded(store), Broker::Embedded(EmbeddedBroker::new()))
            }
            Backend::Real { redis, nsq } => {
                let store = connect_redis(redis, &config.limits).await?;
                unchecked =
                    check(&store, redis.allow_volatile).await?.then(|| (store.clone(), redis.allow_volatile));
                (Store::Redis(store), Broker::Nsq(connect_nsq(nsq, &config.edge).await?))
            }
        };
        let api = listen(config.server.listen).await?;
        let ops = listen(config.server.ops_listen).await?;
        let drain = Drain::default();
        let core =
            Core::start(store, broker, Metrics::new(), drain, config.limits, config.timing, config.edge);
        let rules = Rules::from(&config.server);
        let context = Context::new(core.clone(), tokens, config.server);
        Ok(Self { core, context, rules, api, ops, unchecked })
    }

    /// Where the API and the sockets are.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// Where health, readiness and metrics are.
    ///
    /// # Errors
    /// The system's.
    pub fn ops_address(&self) -> std::io::Result<SocketAddr> {
        self.ops.local_addr()
    }

    /// Serves until `stop`, then drains: not ready, no new connections, acknowledgements taken for a moment, everything
    /// else given back, sockets closed, leases released.
    ///
    /// # Errors
    /// When a Redis that came late turns out not to be usable.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), AppError> {
        let Self { core, context, rules, api, ops, unchecked } = self;
        let drain = core.drain.clone();
        drain.spawn(listener::serve(api, http::api(&context), rules, drain.clone(), true));
        // Health and metrics are served to the very end: an operator wants to see the drain.
        drain.spawn_background(listener::serve(ops, http::ops(&context), rules, drain.clone(), false));
        let late = async {
            match unchecked {
                Some((store, volatile)) => check_late(&store, volatile).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            () = stop => Ok(()),
            error = late => Err(error),
        };
        tracing::info!(
            "draining: no new connections; open sockets are closed when their acknowledgements are in"
        );
        drain.begin();
        if !drain.finish(core.timing.drain_deadline).await {
            tracing::warn!("the drain's time is over: what is left is cut off, and heals elsewhere");
        }
        end
    }
}

fn refused(error: impl std::fmt::Display) -> AppError {
    AppError::Refused(error.to_string())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|reason| AppError::Listen { address, reason })
}

/// Each device is a socket, and a connection to NSQ per chat.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(1 << 20) {
        tracing::warn!(%error, "the limit of open files can't be raised: it bounds how many devices can connect");
    }
}

fn store_limits(limits: &Limits) -> StoreLimits {
    StoreLimits {
        subs_per_user: limits.subs_per_user,
        chats_per_user: limits.chats_per_user,
        members_per_group: limits.members_per_group,
        log_messages: limits.log_messages,
        log_age: limits.log_age,
    }
}

async fn connect_redis(config: &RedisConfig, limits: &Limits) -> Result<RedisStore, AppError> {
    let options = RedisOptions {
        prefix: config.prefix.clone(),
        limits: store_limits(limits),
        ..RedisOptions::default()
    };
    RedisStore::connect(config.url.as_str(), options).await.map_err(refused)
}

async fn connect_nsq(config: &NsqConfig, edge: &str) -> Result<NsqBroker, AppError> {
    let nsqd: Result<Vec<_>, _> = config.nsqd.iter().map(|text| NodeAddress::parse(text)).collect();
    let options = NsqOptions::new(edge, nsqd.map_err(refused)?, config.nsqlookupd.clone());
    NsqBroker::connect(options).await.map_err(refused)
}

/// Whether this Redis may be trusted with messages. True: it can't be reached, so it isn't known yet.
async fn check(store: &RedisStore, allow_volatile: bool) -> Result<bool, AppError> {
    match store.startup_check(allow_volatile).await {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            Ok(false)
        }
        Err(StartupError::Unreachable(reason)) => {
            tracing::warn!(%reason, "Redis can't be reached yet: it is looked for, and /readyz says so");
            Ok(true)
        }
        Err(refusal) => Err(refused(refusal)),
    }
}

async fn check_late(store: &RedisStore, allow_volatile: bool) -> AppError {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match check(store, allow_volatile).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::info!("Redis is there now");
                return std::future::pending().await;
            }
            Err(error) => return error,
        }
    }
}

/// What `keepstep serve` does: an edge until SIGTERM or SIGINT.
///
/// # Errors
/// See [`AppError`].
pub async fn run(config: Config) -> Result<(), AppError> {
    let embedded = matches!(config.backend, Backend::Embedded);
    let edge = config.edge.clone();
    let app = App::build(config).await?;
    let address = app.address().map_err(refused)?;
    let ops = app.ops_address().map_err(refused)?;
    if embedded {
        tracing::info!("embedded mode: store and queues are in this process's memory, and end with it");
    }
    tracing::info!(%edge, "serving on http://{address}, health and metrics on http://{ops}");
    app.run(signalled()).await
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the process would end at once at a signal, so go on without waiting for it only if it can't be had.
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => {
            tracing::warn!("signals can't be heard: this process ends without a drain");
            std::future::pending().await
        }
    }
}
