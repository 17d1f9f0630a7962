//! The settings: one struct per concern. Each field's doc names its environment variable and its default.
//!
//! `config/args` reads them from the command line and the environment and checks them; whoever holds a [`Config`] holds
//! one that makes sense. A setting that doesn't is refused before anything runs, with a sentence that says what to do.

use std::{net::SocketAddr, time::Duration};

pub mod args;
pub mod limits;
pub mod numbers;
pub mod pages;
pub mod proxies;
pub mod values;

pub use args::ServeArgs;
pub use limits::{Limits, Timing};
pub use pages::{PageConfig, PlaygroundConfig};
pub use proxies::TrustedProxies;
pub use values::{AllowedOrigins, JwksSource, RedisUrl, Secret};

/// Everything that `keepstep serve` was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens, and whom it lets in.
    pub server: ServerConfig,
    /// How it knows its users.
    pub tokens: TokenConfig,
    /// What is served beside the API.
    pub pages: PageConfig,
    /// Where the truth and the queues are.
    pub backend: Backend,
    /// How much of everything is allowed.
    pub limits: Limits,
    /// How long everything may take.
    pub timing: Timing,
    /// This edge's id: the name under which it holds leases. `KEEPSTEP_EDGE`, default `e-` and 8 random hexadecimal
    /// digits. A second edge of the same name doesn't start.
    pub edge: String,
    /// What is logged, and how.
    pub log: LogConfig,
}

impl Config {
    /// What an empty environment gives, on free ports of 127.0.0.1: for tests and for whatever runs a server inside its
    /// own process. Its secret is random ([`TokenConfig::generated`]).
    #[must_use]
    pub fn embedded() -> Self {
        Self {
            server: ServerConfig::default(),
            tokens: TokenConfig::generate(),
            pages: PageConfig::default(),
            backend: Backend::Embedded,
            limits: Limits::default(),
            timing: Timing::default(),
            edge: values::random_edge(),
            log: LogConfig { format: LogFormat::Text, filter: "info".to_owned() },
        }
    }
}

/// Where the server listens, and whom it lets in.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address of the API and the sockets. `KEEPSTEP_LISTEN`, default `127.0.0.1:8080`. Port 0: any free one.
    pub listen: SocketAddr,
    /// Address of health, readiness and metrics; never open it to the world. `KEEPSTEP_OPS_LISTEN`, default
    /// `127.0.0.1:8081`.
    pub ops_listen: SocketAddr,
    /// Which web pages may open sockets. `KEEPSTEP_ALLOWED_ORIGINS`, default empty: same origin only.
    pub allowed_origins: AllowedOrigins,
    /// Connections on `listen` at the same time, all together. `KEEPSTEP_MAX_CONNECTIONS`, default 100000.
    pub max_connections: usize,
    /// Connections on `listen` at the same time from one address, of IPv6 from one /64.
    /// `KEEPSTEP_MAX_CONNECTIONS_PER_IP`, default 20000: that many because behind a load balancer that isn't in
    /// `trusted_proxies` all come from one address. Lower it where addresses are known.
    pub max_connections_per_ip: usize,
    /// Connections on `listen` that one address (of IPv6: one /64) may open in a second; through a proxy in
    /// `trusted_proxies`, requests. Further ones are served a little later. `KEEPSTEP_NEW_CONNECTIONS_PER_IP`, default 500.
    pub new_connections_per_ip: u32,
    /// How long a client may take to send the head of a request. `KEEPSTEP_HEADER_TIMEOUT`, default 10 s.
    pub header_timeout: Duration,
    /// The longest head of a request, in bytes. `KEEPSTEP_MAX_HEADER_BYTES`, default 16384.
    pub max_header_bytes: usize,
    /// Proxies in front, which say whose a request is in `Forwarded` or `X-Forwarded-For`. `KEEPSTEP_TRUSTED_PROXIES`,
    /// default none.
    pub trusted_proxies: TrustedProxies,
    /// Whether every connection on `listen` begins with a head of the PROXY protocol. `KEEPSTEP_PROXY_PROTOCOL`, default
    /// false.
    pub proxy_protocol: bool,
}

impl Default for ServerConfig {
    /// The defaults, but on free ports of 127.0.0.1.
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: any,
            ops_listen: any,
            allowed_origins: AllowedOrigins::SameOrigin,
            max_connections: 100_000,
            max_connections_per_ip: 20_000,
            new_connections_per_ip: 500,
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 16_384,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
        }
    }
}

/// How users and devices are known.
#[derive(Debug, Clone, Default)]
pub struct TokenConfig {
    /// Verifies user tokens of `HS256`. `KEEPSTEP_JWT_SECRET`, at least 32 bytes, default none.
    pub jwt_secret: Option<Secret>,
    /// Verify user tokens, too, and sign none: of a rotation. `KEEPSTEP_JWT_SECRET_2` and `_3`, default none.
    pub other_jwt_secrets: Vec<Secret>,
    /// Signs and verifies device tokens. `KEEPSTEP_TOKEN_SECRET`, at least 32 bytes, default derived from `jwt_secret`.
    pub token_secret: Option<Secret>,
    /// Verify device tokens, too, and sign none. `KEEPSTEP_TOKEN_SECRET_2` and `_3`, default none; without a `token_secret`
    /// derived from `other_jwt_secrets`.
    pub other_token_secrets: Vec<Secret>,
    /// Where the public keys for `EdDSA`, `ES256` and `RS256` are. `KEEPSTEP_JWKS`, a file or an `http(s)` address,
    /// default none.
    pub jwks: Option<JwksSource>,
    /// How long keys that were read count although they can't be read again; none: for ever. `KEEPSTEP_JWKS_STALE`, default
    /// 24 h.
    pub jwks_stale: Option<Duration>,
    /// What `iss` must be. `KEEPSTEP_JWT_ISSUER`, default none: any, or absent.
    pub issuer: Option<String>,
    /// What `aud` must be or contain. `KEEPSTEP_JWT_AUDIENCE`, default none: any, or absent.
    pub audience: Option<String>,
    /// Whether `jwt_secret` was made up at this start: then nobody else can make tokens, and `serve` prints one.
    pub generated: bool,
}

impl TokenConfig {
    /// A random secret and nothing else.
    #[must_use]
    pub fn generate() -> Self {
        Self { jwt_secret: Some(Secret::random()), generated: true, ..Self::default() }
    }

    /// One shared secret and nothing else.
    ///
    /// # Errors
    ///
    /// When it is shorter than 32 bytes.
    pub fn from_secret(secret: &str) -> Result<Self, ConfigError> {
        Ok(Self { jwt_secret: Some(Secret::new("KEEPSTEP_JWT_SECRET", secret)?), ..Self::default() })
    }
}

/// Where the truth and the queues are.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In this process's memory. Chosen when neither `KEEPSTEP_REDIS_URL` nor `KEEPSTEP_NSQD` is set.
    Embedded,
    /// In Redis and NSQ. Chosen when both are set.
    Real {
        /// The store.
        redis: RedisConfig,
        /// The broker.
        nsq: NsqConfig,
    },
}

/// The store of a deployment.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `KEEPSTEP_REDIS_URL`: `redis://`, `rediss://` (TLS) or `unix://`.
    pub url: RedisUrl,
    /// Whether to start although Redis may forget acknowledged messages (no AOF). `KEEPSTEP_ALLOW_VOLATILE_STORE`,
    /// default false.
    pub allow_volatile: bool,
    /// Whether what this Redis doesn't show of its settings is taken to be right (a managed Redis without CONFIG).
    /// `KEEPSTEP_REDIS_TRUSTED`, default false.
    pub trusted: bool,
    /// What every key starts with, without the colon behind it. `KEEPSTEP_REDIS_PREFIX`, default `ks`.
    pub prefix: String,
}

/// The broker of a deployment.
#[derive(Debug, Clone)]
pub struct NsqConfig {
    /// HTTP addresses of every nsqd: `host:port`, `http://host:port`, either with `?tcp=host:port` behind it. At least
    /// one, each once. `KEEPSTEP_NSQD`, comma-separated.
    pub nsqd: Vec<String>,
    /// HTTP addresses of every nsqlookupd, in the same forms without `?tcp=`. `KEEPSTEP_NSQLOOKUPD`, comma-separated,
    /// default none.
    pub nsqlookupd: Vec<String>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `KEEPSTEP_LOG_FORMAT`, default `text`.
    pub format: LogFormat,
    /// Which events: a level, or `target=level` pairs. `KEEPSTEP_LOG`, default `info`. Checked: it parses.
    pub filter: String,
}

/// Why these settings are refused. No text of it contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Half a deployment: the broker is missing.
    #[error(
        "KEEPSTEP_REDIS_URL is set but KEEPSTEP_NSQD isn't: set KEEPSTEP_NSQD to the HTTP addresses of your nsqd \
         (for example 127.0.0.1:4151), or unset KEEPSTEP_REDIS_URL to run embedded"
    )]
    NsqdMissing,
    /// Half a deployment: the store is missing.
    #[error(
        "KEEPSTEP_NSQD is set but KEEPSTEP_REDIS_URL isn't: set KEEPSTEP_REDIS_URL (for example \
         redis://127.0.0.1:6379), or unset KEEPSTEP_NSQD to run embedded"
    )]
    RedisMissing,
    /// `KEEPSTEP_DATA`.
    #[error("KEEPSTEP_DATA is set, but the on-disk embedded mode isn't there yet: leave it empty")]
    DataNotYet,
    /// A secret that can be guessed.
    #[error("{name} has {length} bytes and needs at least 32: make one with `openssl rand -hex 32`")]
    ShortSecret {
        /// Which setting.
        name: &'static str,
        /// How long it is, in bytes.
        length: usize,
    },
    /// A secret that can be guessed although it is long.
    #[error("{name} {how}, so it could be guessed: make one with `openssl rand -hex 32`")]
    WeakSecret {
        /// Which setting.
        name: &'static str,
        /// What is weak about it. Nothing of the secret.
        how: String,
    },
    /// Anybody could come in.
    #[error(
        "{name} is {address}, which others can reach, and no secret is set that says who may come in: set KEEPSTEP_JWT_SECRET \
         (`openssl rand -hex 32`), or listen on 127.0.0.1"
    )]
    Exposed {
        /// Which setting.
        name: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Variables of the environment that look like settings and are none.
    #[error("{0}")]
    UnknownVariables(String),
    /// Nothing to verify user tokens with.
    #[error(
        "neither KEEPSTEP_JWT_SECRET nor KEEPSTEP_JWKS is set, so no user token could be verified: set one of them \
         (a secret is made with `openssl rand -hex 32`)"
    )]
    NoVerifier,
    /// Nothing to sign device tokens with.
    #[error(
        "KEEPSTEP_JWKS alone can't sign device tokens: set KEEPSTEP_TOKEN_SECRET too, the same on every edge \
         (`openssl rand -hex 32`)"
    )]
    NoTokenSecret,
    /// One value that can't be read.
    #[error("{name}: {reason}")]
    Value {
        /// Which setting, by its environment variable.
        name: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// Two values that don't go together.
    #[error("{0}")]
    Conflict(String),
}

impl ConfigError {
    pub(crate) fn value(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Value { name, reason: reason.into() }
    }
}

#[cfg(test)]
#[path = "../tests/unit/config.rs"]
mod tests;
