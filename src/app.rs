//! One edge, assembled: build -> addresses -> run -> drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use crate::{
    broker::{
        Broker,
        embedded::EmbeddedBroker,
        nsq::{NodeAddress, NsqBroker, NsqOptions},
    },
    config::{Backend, Config, NsqConfig, RedisConfig, Timing, values::is_loopback},
    domain::names,
    drain::Drain,
    http::{self, Context, assets::Assets, listener, listener::Rules, playground::Playground},
    metrics::Metrics,
    store::{
        Store, StoreError, StoreLimits,
        embedded::EmbeddedStore,
        redis::{RedisOptions, RedisStore, StartupError, Trust},
    },
    sync::{Core, console, name::EdgeName, session_expiry},
    tokens::Tokens,
};

mod second;

use second::Second;

/// Seconds of the store's clock between two reports to nsqd.
const MARK: u64 = 600;
/// The name of that leased work, and its length.
const CLAIM: &str = "claim";
const CLAIM_FOR: Duration = Duration::from_secs(60);

/// Why an edge doesn't start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address can't be listened on.
    #[error("{address} can't be listened on: {reason}. Choose another address, or end what uses it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        reason: std::io::Error,
    },
    /// A setting that can't be used.
    #[error("{0}")]
    Refused(String),
    /// Another edge has the name.
    #[error(
        "the name `{0}` (KEEPSTEP_EDGE) is that of another edge, which is running: give this one another name, or stop that \
         one first"
    )]
    NameTaken(String),
    /// It was taken by another process.
    #[error(
        "another process took the name `{0}` (KEEPSTEP_EDGE) while this edge was silent, so this one has stopped: give each \
         edge a name of its own"
    )]
    NameLost(String),
}

/// An edge that listens, and doesn't serve yet.
#[derive(Debug)]
pub struct App {
    core: Arc<Core>,
    context: Context,
    rules: Rules,
    api: TcpListener,
    ops: TcpListener,
    redis: Option<Watched>,
    second: Option<Second>,
}

/// The Redis of the edge.
#[derive(Debug)]
struct Watched {
    store: RedisStore,
    config: RedisConfig,
    // It couldn't be reached at the start: it is checked when it can.
    unchecked: bool,
}

impl App {
    /// Binds the listeners, connects to the store and the broker, and starts the background work.
    ///
    /// # Errors
    /// A dependency that can't be used. One that can't be reached is no error: `/readyz` says so, and it heals. Until then nobody
    /// is served: the edge's name may be another's.
    pub async fn build(config: Config) -> Result<Self, AppError> {
        raise_file_limit();
        let tokens = Tokens::new(&config.tokens).map_err(refused)?;
        let mut watched = None;
        let (store, broker) = match &config.backend {
            Backend::Embedded => {
                let store = EmbeddedStore::new(StoreLimits::new(&config.limits, &config.timing));
                (Store::Embedded(store), Broker::Embedded(EmbeddedBroker::new()))
            }
            Backend::Real { redis, nsq } => {
                let store = connect_redis(redis, StoreLimits::new(&config.limits, &config.timing)).await?;
                let broker = Broker::Nsq(connect_nsq(nsq, &config.timing, &config.edge).await?);
                let unchecked = check(&store, &broker, redis).await?;
                watched = Some(Watched { store: store.clone(), config: redis.clone(), unchecked });
                (Store::Redis(store), broker)
            }
        };
        let api = listen(config.server.listen).await?;
        let ops = listen(config.server.ops_listen).await?;
        let drain = Drain::default();
        let rules = Rules::new(&config.server, &config.timing);
        let (mut second, mut playground) = (None, None);
        if let Some(wished) = &config.pages.playground {
            // Beyond this machine only if configured.
            let near = Some(config.server.listen).filter(|listen| is_loopback(*listen));
            let on = wished.listen.or(near.map(|listen| SocketAddr::new(listen.ip(), 0)));
            if let (Store::Embedded(store), Some(on)) = (&store, on) {
                // It subscribes for itself, as another edge does.
                let both = (Store::Embedded(store.another()), broker.clone());
                second = Some(Second::build(&config, on, both, tokens.clone(), drain.clone()).await?);
            }
            let edges = wished.edges.iter().map(|edge| edge.origin().ascii_serialization()).collect();
            let second = second.as_ref().map(|second: &Second| second.address);
            playground = Some(Playground { edges, second });
        }
        let metrics = Metrics::new().map_err(refused)?;
        let name = EdgeName::from(config.edge);
        if let Some(watched) = &watched {
            // The last refusal: an edge with a name is alive.
            if watched.unchecked || !claimed(&name, &store, &config.timing).await? {
                name.wait();
            }
        }
        let core = Core::start(store, broker, metrics, drain, config.limits, config.timing, name);
        core.drain.spawn_background(console::run(core.clone()));
        let assets = Assets::from(&config.pages);
        let context = Context::new(core.clone(), tokens, config.server, assets, playground);
        Ok(Self { core, context, rules, api, ops, redis: watched, second })
    }

    /// The address of the API and the sockets.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.api.local_addr()
    }

    /// The address of health, readiness and metrics.
    ///
    /// # Errors
    /// The system's.
    pub fn ops_address(&self) -> std::io::Result<SocketAddr> {
        self.ops.local_addr()
    }

    /// Serves until `stop`, then drains: not ready, no new connections, acknowledgements accepted for a moment, everything else
    /// requeued, sockets closed, leases released.
    ///
    /// # Errors
    /// When a Redis that came late turns out to be unusable.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), AppError> {
        let Self { core, context, rules, api, ops, redis, second } = self;
        let drain = core.drain.clone();
        // Load balancers know only the first listener.
        let inside = rules.without_proxies();
        drain.spawn(listener::serve(api, http::api(&context), rules, Some(drain.clone())));
        // Health and metrics are served to the end: operators want to see the drain.
        drain.spawn_background(listener::serve(ops, http::ops(&context), inside.clone(), None));
        let second = second.map(|second| {
            let routes = second.routes();
            drain.spawn(listener::serve(second.api, routes, inside, Some(drain.clone())));
            second.core
        });
        let refused = async {
            match redis {
                Some(redis) => watch(redis, &core).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            () = stop => Ok(()),
            () = core.edge.claim.lost() => Err(AppError::NameLost(core.edge.name.clone())),
            error = refused => Err(error),
        };
        tracing::info!(
            "draining: no new connections; open sockets are closed when their acknowledgements are in"
        );
        drain.begin();
        let flushed = async {
            core.flushed().await;
            if let Some(second) = second {
                second.flushed().await;
            }
        };
        if !drain.finish(core.timing.drain_deadline, flushed).await {
            tracing::warn!("drain deadline exceeded: open sockets are cut and recover at other edges");
        }
        core.release_name().await;
        end
    }
}

fn refused(error: impl std::fmt::Display) -> AppError {
    AppError::Refused(error.to_string())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address).await.map_err(|reason| AppError::Listen { address, reason })
}

/// Each device needs a socket, and a connection to NSQ per chat.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(1 << 20) {
        tracing::warn!(%error, "the limit of open files can't be raised: it bounds how many devices can connect");
    }
}

async fn connect_redis(config: &RedisConfig, limits: StoreLimits) -> Result<RedisStore, AppError> {
    let options = RedisOptions { prefix: config.prefix.clone(), limits, ..RedisOptions::default() };
    RedisStore::connect(config.url.as_str(), options).await.map_err(refused)
}

async fn connect_nsq(config: &NsqConfig, timing: &Timing, edge: &str) -> Result<NsqBroker, AppError> {
    let nsqd: Result<Vec<_>, _> = config.nsqd.iter().map(|text| NodeAddress::parse(text)).collect();
    let options = NsqOptions::new(edge, nsqd.map_err(refused)?, config.nsqlookupd.clone())
        .with_msg_timeout(timing.nsq_message_timeout);
    NsqBroker::connect(options).await.map_err(refused)
}

/// Checks whether this Redis may be trusted with messages. True: it can't be reached, so this is unknown.
async fn check(store: &RedisStore, broker: &Broker, config: &RedisConfig) -> Result<bool, AppError> {
    let unreachable = |reason: &StoreError| {
        tracing::warn!(error = %reason, "Redis is unreachable: retrying; /readyz reports it");
        Ok(true)
    };
    let trust = Trust { volatile: config.allow_volatile, unseen: config.trusted };
    match store.startup_check(trust).await {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(StartupError::Unreachable(reason)) => return unreachable(&reason),
        Err(refusal) => return Err(refused(refusal)),
    }
    // A store that may forget everything has no name.
    if config.allow_volatile {
        return Ok(false);
    }
    // The claim first: another edge that starts on the same new Redis names it before it claims.
    let claimed = broker.claimed(&config.prefix).await;
    match store.identify(claimed.is_none(), claimed.unwrap_or(0)).await {
        Ok(true) => {
            broker.claim(&config.prefix, mark(store)).await;
            Ok(false)
        }
        Ok(false) => Err(refused(StartupError::Emptied {
            address: store.address().to_owned(),
            topic: names::claim(&config.prefix),
        })),
        Err(error) => unreachable(&error),
    }
}

/// Returns whether the name is this process's. False: Redis can't be reached, so this is unknown.
async fn claimed(name: &EdgeName, store: &Store, timing: &Timing) -> Result<bool, AppError> {
    match name.claim(store, session_expiry::dead_after(timing)).await {
        Ok(true) => Ok(true),
        Ok(false) => Err(AppError::NameTaken(name.as_str().to_owned())),
        Err(error) => {
            tracing::warn!(%error, "claiming the edge's name failed; retrying");
            Ok(false)
        }
    }
}

/// Checks a Redis that comes late, and then keeps nsqd's mark of its clock. Returns if it is unusable.
async fn watch(redis: Watched, core: &Core) -> AppError {
    let Watched { store, config, mut unchecked } = redis;
    let mut marked = mark(&store);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if unchecked {
            match check(&store, &core.broker, &config).await {
                Ok(still) => unchecked = still,
                Err(error) => return error,
            }
            if !unchecked {
                tracing::info!("Redis is there now");
                marked = mark(&store);
            }
        } else if core.edge.claim.waits() {
            if let Err(error) = claimed(&core.edge.claim, &core.store, &core.timing).await {
                return error;
            }
        } else if mark(&store) > marked && !config.allow_volatile {
            marked = mark(&store);
            // The first edge does it for all.
            if matches!(store.try_acquire_lease(CLAIM, &core.edge.name, CLAIM_FOR).await, Ok(true)) {
                core.broker.claim(&config.prefix, marked).await;
            }
        }
    }
}

/// Returns the store's clock for nsqd: rarely another number, because nsqd saves all its lists for each.
fn mark(store: &RedisStore) -> u64 {
    store.clock() / MARK * MARK
}
