//! The settings: one struct per concern. Each field's doc names its environment variable and its default.
//!
//! `config/args` reads them from the command line and the environment. A [`Config`] is checked: a bad setting is refused
//! before anything runs, with a sentence that says what to do.

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

/// The settings of `keepstep serve`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners and connections.
    pub server: ServerConfig,
    /// Identity and tokens.
    pub tokens: TokenConfig,
    /// Pages beside the API.
    pub pages: PageConfig,
    /// Store and broker.
    pub backend: Backend,
    /// Sizes, rates and counts.
    pub limits: Limits,
    /// Durations.
    pub timing: Timing,
    /// This edge's id, under which it holds leases. `KEEPSTEP_EDGE`, default `e-` and 8 random hexadecimal digits. A
    /// second edge of the same id doesn't start.
    pub edge: String,
    /// The log.
    pub log: LogConfig,
}

impl Config {
    /// Returns the defaults on free ports of 127.0.0.1, with a random secret: for tests and for a server inside another
    /// process.
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

/// Listeners and connections.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address of the API and the sockets. `KEEPSTEP_LISTEN`, default `127.0.0.1:8080`. Port 0: any free one.
    pub listen: SocketAddr,
    /// Address of health, readiness and metrics; never open it to the world. `KEEPSTEP_OPS_LISTEN`, default
    /// `127.0.0.1:8081`.
    pub ops_listen: SocketAddr,
    /// Which web pages may open sockets. `KEEPSTEP_ALLOWED_ORIGINS`, default empty: same origin only.
    pub allowed_origins: AllowedOrigins,
    /// Maximum number of connections on `listen`. `KEEPSTEP_MAX_CONNECTIONS`, default 100000.
    pub max_connections: usize,
    /// Maximum number of connections on `listen` from one address (IPv6: a /64). `KEEPSTEP_MAX_CONNECTIONS_PER_IP`,
    /// default 20000, for load balancers that aren't in `trusted_proxies`. Lower it where addresses are known.
    pub max_connections_per_ip: usize,
    /// Connections on `listen` that one address (IPv6: a /64) may open per second; behind a trusted proxy, requests.
    /// Further ones are delayed. `KEEPSTEP_NEW_CONNECTIONS_PER_IP`, default 500.
    pub new_connections_per_ip: u32,
    /// Time for a client to send the head of a request. `KEEPSTEP_HEADER_TIMEOUT`, default 10 s.
    pub header_timeout: Duration,
    /// Maximum size of the head of a request, in bytes. `KEEPSTEP_MAX_HEADER_BYTES`, default 16384.
    pub max_header_bytes: usize,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` is believed. `KEEPSTEP_TRUSTED_PROXIES`, default none.
    pub trusted_proxies: TrustedProxies,
    /// Whether each connection on `listen` begins with a PROXY protocol header. `KEEPSTEP_PROXY_PROTOCOL`, default false.
    pub proxy_protocol: bool,
}

impl Default for ServerConfig {
    /// Returns the defaults on free ports of 127.0.0.1.
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

/// How user and device tokens are verified and signed.
#[derive(Debug, Clone, Default)]
pub struct TokenConfig {
    /// Verifies user tokens of `HS256`. `KEEPSTEP_JWT_SECRET`, at least 32 bytes, default none.
    pub jwt_secret: Option<Secret>,
    /// Verify user tokens during a rotation and sign none. `KEEPSTEP_JWT_SECRET_2` and `_3`, default none.
    pub other_jwt_secrets: Vec<Secret>,
    /// Signs and verifies device tokens. `KEEPSTEP_TOKEN_SECRET`, at least 32 bytes, default derived from `jwt_secret`.
    pub token_secret: Option<Secret>,
    /// Verify device tokens during a rotation and sign none. `KEEPSTEP_TOKEN_SECRET_2` and `_3`, default none; without a
    /// `token_secret` derived from `other_jwt_secrets`.
    pub other_token_secrets: Vec<Secret>,
    /// Public keys for `EdDSA`, `ES256` and `RS256`. `KEEPSTEP_JWKS`, a file or an `http(s)` URL, default none.
    pub jwks: Option<JwksSource>,
    /// How long keys stay valid while the JWKS can't be read; none: for ever. `KEEPSTEP_JWKS_STALE`, default 24 h.
    pub jwks_stale: Option<Duration>,
    /// Required `iss`. `KEEPSTEP_JWT_ISSUER`, default none: any, or absent.
    pub issuer: Option<String>,
    /// Required `aud`, or one of its entries. `KEEPSTEP_JWT_AUDIENCE`, default none: any, or absent.
    pub audience: Option<String>,
    /// Whether `jwt_secret` was generated at this start; `serve` then prints tokens.
    pub generated: bool,
}

impl TokenConfig {
    /// Returns a random secret and nothing else.
    #[must_use]
    pub fn generate() -> Self {
        Self { jwt_secret: Some(Secret::random()), generated: true, ..Self::default() }
    }

    /// Returns one shared secret and nothing else.
    ///
    /// # Errors
    /// See [`Secret::new`].
    pub fn from_secret(secret: &str) -> Result<Self, ConfigError> {
        Ok(Self { jwt_secret: Some(Secret::new("KEEPSTEP_JWT_SECRET", secret)?), ..Self::default() })
    }
}

/// Store and broker.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In memory. Chosen when neither `KEEPSTEP_REDIS_URL` nor `KEEPSTEP_NSQD` is set.
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
    /// Start although Redis may lose acknowledged messages (no AOF). `KEEPSTEP_ALLOW_VOLATILE_STORE`, default false.
    pub allow_volatile: bool,
    /// Start although Redis doesn't show all of its settings (a managed service without CONFIG).
    /// `KEEPSTEP_REDIS_TRUSTED`, default false.
    pub trusted: bool,
    /// Prefix of every key, without the colon. `KEEPSTEP_REDIS_PREFIX`, default `ks`.
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

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `KEEPSTEP_LOG_FORMAT`, default `text`.
    pub format: LogFormat,
    /// Filter: a level, or `target=level` pairs. `KEEPSTEP_LOG`, default `info`. It parses.
    pub filter: String,
}

/// Why settings are refused. No text contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The broker is missing.
    #[error(
        "KEEPSTEP_REDIS_URL is set but KEEPSTEP_NSQD isn't: set KEEPSTEP_NSQD to the HTTP addresses of your nsqd \
         (for example 127.0.0.1:4151), or unset KEEPSTEP_REDIS_URL to run embedded"
    )]
    NsqdMissing,
    /// The store is missing.
    #[error(
        "KEEPSTEP_NSQD is set but KEEPSTEP_REDIS_URL isn't: set KEEPSTEP_REDIS_URL (for example \
         redis://127.0.0.1:6379), or unset KEEPSTEP_NSQD to run embedded"
    )]
    RedisMissing,
    /// `KEEPSTEP_DATA`.
    #[error("KEEPSTEP_DATA is set, but the on-disk embedded mode isn't there yet: leave it empty")]
    DataNotYet,
    /// A secret is too short.
    #[error("{name} has {length} bytes and needs at least 32: make one with `openssl rand -hex 32`")]
    ShortSecret {
        /// Which setting.
        name: &'static str,
        /// Its length, in bytes.
        length: usize,
    },
    /// A secret could be guessed.
    #[error("{name} {how}, so it could be guessed: make one with `openssl rand -hex 32`")]
    WeakSecret {
        /// Which setting.
        name: &'static str,
        /// What is weak about it, without any part of the secret.
        how: String,
    },
    /// Others can reach a listener of a server with a generated secret.
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
    /// Environment variables that look like settings and are none.
    #[error("{0}")]
    UnknownVariables(String),
    /// Nothing verifies user tokens.
    #[error(
        "neither KEEPSTEP_JWT_SECRET nor KEEPSTEP_JWKS is set, so no user token could be verified: set one of them \
         (a secret is made with `openssl rand -hex 32`)"
    )]
    NoVerifier,
    /// Nothing signs device tokens.
    #[error(
        "KEEPSTEP_JWKS alone can't sign device tokens: set KEEPSTEP_TOKEN_SECRET too, the same on every edge \
         (`openssl rand -hex 32`)"
    )]
    NoTokenSecret,
    /// A value can't be read.
    #[error("{name}: {reason}")]
    Value {
        /// The setting's environment variable.
        name: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Two values don't go together.
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
