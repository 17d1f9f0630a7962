//! The flags of `keepstep serve`, and what is made of them.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use tracing_subscriber::filter::LevelFilter;

use super::{
    Backend, Config, ConfigError, Limits, LogConfig, LogFormat, NsqConfig, RedisConfig, ServerConfig, Timing,
    TokenConfig,
    pages::PageArgs,
    values::{
        AllowedOrigins, JwksSource, RedisUrl, Secret, duration, listen, nsq_addresses, plain, random_edge,
    },
};

/// The settings as they were typed. Texts that may hold a secret are taken as they are and checked later, because a
/// refusal by the command line's parser would quote them.
#[derive(Args)]
pub struct ServeArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    tokens: TokenArgs,
    #[command(flatten)]
    pages: PageArgs,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    timing: Timing,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args)]
#[command(next_help_heading = "Server")]
struct ServerArgs {
    /// Address of the API and the sockets
    #[arg(long, env = "KEEPSTEP_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen, value_name = "ADDR")]
    listen: SocketAddr,
    /// Address of health, readiness and metrics
    #[arg(long, env = "KEEPSTEP_OPS_LISTEN", default_value = "127.0.0.1:8081", value_parser = listen, value_name = "ADDR")]
    ops_listen: SocketAddr,
    /// Web pages that may open sockets: exact origins separated by commas, or `*`. Empty: the same origin only
    #[arg(long, env = "KEEPSTEP_ALLOWED_ORIGINS", default_value = "", value_name = "ORIGINS")]
    allowed_origins: String,
    /// Connections at the same time
    #[arg(long, env = "KEEPSTEP_MAX_CONNECTIONS", default_value_t = 100_000, value_name = "N")]
    max_connections: usize,
    /// Connections at the same time from one address (behind a load balancer all come from one)
    #[arg(long, env = "KEEPSTEP_MAX_CONNECTIONS_PER_IP", default_value_t = 20_000, value_name = "N")]
    max_connections_per_ip: usize,
    /// For a client to send the head of a request
    #[arg(long, env = "KEEPSTEP_HEADER_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "TIME")]
    header_timeout: Duration,
    /// Longest head of a request, in bytes
    #[arg(long, env = "KEEPSTEP_MAX_HEADER_BYTES", default_value_t = 16_384, value_name = "BYTES")]
    max_header_bytes: usize,
    /// This edge's name; no other edge that runs may have it [default: e- and 8 random digits]
    #[arg(long, env = "KEEPSTEP_EDGE", value_name = "NAME")]
    edge: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Tokens (give secrets by environment: flags are seen by every process)")]
struct TokenArgs {
    /// Verifies user tokens of HS256; at least 32 bytes (`openssl rand -hex 32`)
    #[arg(long, env = "KEEPSTEP_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Signs device tokens; at least 32 bytes [default: derived from the JWT secret]
    #[arg(long, env = "KEEPSTEP_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    token_secret: Option<String>,
    /// Public keys for EdDSA, ES256 and RS256: a file or an http(s) address of a JWKS
    #[arg(long, env = "KEEPSTEP_JWKS", hide_env_values = true, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// What `iss` of a user token must be
    #[arg(long, env = "KEEPSTEP_JWT_ISSUER", value_name = "TEXT")]
    jwt_issuer: Option<String>,
    /// What `aud` of a user token must be or contain
    #[arg(long, env = "KEEPSTEP_JWT_AUDIENCE", value_name = "TEXT")]
    jwt_audience: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Backend (neither Redis nor nsqd: embedded, in memory)")]
struct BackendArgs {
    /// Redis: redis://host:6379 or rediss://host:6379
    #[arg(long, env = "KEEPSTEP_REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<String>,
    /// What every key in Redis starts with
    #[arg(long, env = "KEEPSTEP_REDIS_PREFIX", default_value = "ks", value_name = "TEXT")]
    redis_prefix: String,
    /// Start although Redis may forget acknowledged messages (no AOF)
    #[arg(long, env = "KEEPSTEP_ALLOW_VOLATILE_STORE", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    allow_volatile_store: bool,
    /// HTTP addresses of every nsqd, separated by commas: host:4151 or http://host:4151?tcp=host:4150
    #[arg(long, env = "KEEPSTEP_NSQD", value_name = "ADDRS")]
    nsqd: Option<String>,
    /// HTTP addresses of every nsqlookupd, separated by commas
    #[arg(long, env = "KEEPSTEP_NSQLOOKUPD", value_name = "ADDRS")]
    nsqlookupd: Option<String>,
    /// Folder of the embedded mode (not there yet: leave it empty)
    #[arg(long, env = "KEEPSTEP_DATA", value_name = "FOLDER")]
    data: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Log (to the standard error)")]
struct LogArgs {
    /// Which events: a level, or `target=level` pairs separated by commas
    #[arg(long, env = "KEEPSTEP_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// For people, or one JSON object a line
    #[arg(long, env = "KEEPSTEP_LOG_FORMAT", default_value = "text", value_enum, value_name = "FORMAT")]
    log_format: LogFormat,
}

impl ServeArgs {
    /// Checks each setting, then whether they go together.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`]: one sentence that says which setting, what is wrong and what to do.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let backend = self.backend.into_backend()?;
        let tokens = self.tokens.into_config(matches!(backend, Backend::Embedded))?;
        let pages = self.pages.into_config(&tokens, &backend)?;
        self.limits.check()?;
        self.timing.check()?;
        let edge = match given(self.server.edge.as_deref()) {
            Some(edge) => plain("KEEPSTEP_EDGE", edge)?,
            None => random_edge(),
        };
        Ok(Config {
            server: self.server.into_config()?,
            tokens,
            pages,
            backend,
            limits: self.limits,
            timing: self.timing,
            edge,
            log: self.log.into_config()?,
        })
    }
}

impl ServerArgs {
    fn into_config(self) -> Result<ServerConfig, ConfigError> {
        if self.listen == self.ops_listen && self.listen.port() != 0 {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_LISTEN and KEEPSTEP_OPS_LISTEN are the same address: give the second another port"
                    .to_owned(),
            ));
        }
        let at_least = |name, value: usize, least: usize| {
            let reason = format!("{value} is too little: give at least {least}");
            if value < least { Err(ConfigError::value(name, reason)) } else { Ok(()) }
        };
        at_least("KEEPSTEP_MAX_CONNECTIONS", self.max_connections, 1)?;
        at_least("KEEPSTEP_MAX_CONNECTIONS_PER_IP", self.max_connections_per_ip, 1)?;
        // Below this hyper refuses to read anything; and a token alone may have 8 KiB.
        at_least("KEEPSTEP_MAX_HEADER_BYTES", self.max_header_bytes, 8_192)?;
        if self.header_timeout.is_zero() {
            return Err(ConfigError::value("KEEPSTEP_HEADER_TIMEOUT", "it must be longer than 0"));
        }
        Ok(ServerConfig {
            listen: self.listen,
            ops_listen: self.ops_listen,
            allowed_origins: AllowedOrigins::new(&self.allowed_origins)?,
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            header_timeout: self.header_timeout,
            max_header_bytes: self.max_header_bytes,
        })
    }
}

impl TokenArgs {
    /// Checks them. `embedded`: without any verifier a random secret is made instead of a refusal.
    fn into_config(self, embedded: bool) -> Result<TokenConfig, ConfigError> {
        let secret = |name, text: &Option<String>| {
            given(text.as_deref()).map(|text| Secret::new(name, text)).transpose()
        };
        let mut tokens = TokenConfig {
            jwt_secret: secret("KEEPSTEP_JWT_SECRET", &self.jwt_secret)?,
            token_secret: secret("KEEPSTEP_TOKEN_SECRET", &self.token_secret)?,
            jwks: given(self.jwks.as_deref()).map(|text| JwksSource::new(text.trim())).transpose()?,
            issuer: given(self.jwt_issuer.as_deref()).map(str::to_owned),
            audience: given(self.jwt_audience.as_deref()).map(str::to_owned),
            generated: false,
        };
        match (&tokens.jwt_secret, &tokens.jwks, &tokens.token_secret) {
            (Some(_), ..) | (None, Some(_), Some(_)) => Ok(tokens),
            (None, Some(_), None) => Err(ConfigError::NoTokenSecret),
            (None, None, _) if embedded => {
                tokens.jwt_secret = Some(Secret::random());
                tokens.generated = true;
                Ok(tokens)
            }
            (None, None, _) => Err(ConfigError::NoVerifier),
        }
    }
}

impl BackendArgs {
    fn into_backend(self) -> Result<Backend, ConfigError> {
        if given(self.data.as_deref()).is_some() {
            return Err(ConfigError::DataNotYet);
        }
        let (url, nsqd) = match (given(self.redis_url.as_deref()), given(self.nsqd.as_deref())) {
            (None, None) => return Ok(Backend::Embedded),
            (Some(_), None) => return Err(ConfigError::NsqdMissing),
            (None, Some(_)) => return Err(ConfigError::RedisMissing),
            (Some(url), Some(nsqd)) => (url, nsqd),
        };
        let nsqd = nsq_addresses("KEEPSTEP_NSQD", nsqd, true)?;
        if nsqd.is_empty() {
            return Err(ConfigError::value("KEEPSTEP_NSQD", "no address in it: write host:4151"));
        }
        Ok(Backend::Real {
            redis: RedisConfig {
                url: RedisUrl::new(url.trim())?,
                allow_volatile: self.allow_volatile_store,
                prefix: plain("KEEPSTEP_REDIS_PREFIX", &self.redis_prefix)?,
            },
            nsq: NsqConfig {
                nsqd,
                nsqlookupd: nsq_addresses(
                    "KEEPSTEP_NSQLOOKUPD",
                    self.nsqlookupd.as_deref().unwrap_or_default(),
                    false,
                )?,
            },
        })
    }
}

impl LogArgs {
    fn into_config(self) -> Result<LogConfig, ConfigError> {
        let refused = |why: String| {
            ConfigError::value("KEEPSTEP_LOG", format!("{why}: write a level, or target=level pairs"))
        };
        tracing_subscriber::EnvFilter::try_new(&self.log).map_err(|error| refused(error.to_string()))?;
        // A word alone is a target to the library, so that a level that is misspelt would silence all others.
        let mut alone =
            self.log.split(',').map(str::trim).filter(|part| !part.contains(['=', '[']) && !part.is_empty());
        if let Some(word) = alone.find(|word| word.parse::<LevelFilter>().is_err()) {
            return Err(refused(format!("{word} is no level")));
        }
        Ok(LogConfig { format: self.log_format, filter: self.log })
    }
}

/// A flag may be given empty, as a variable may: both count as not given. What is given stays as it is: a secret may
/// well begin with a space.
pub(super) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}
