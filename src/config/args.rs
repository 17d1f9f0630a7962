//! The flags of `keepstep serve`, and the settings that are made of them.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use tracing_subscriber::filter::LevelFilter;

use super::{
    Backend, Config, ConfigError, Limits, LogConfig, LogFormat, NsqConfig, RedisConfig, ServerConfig, Timing,
    TokenConfig, TrustedProxies,
    numbers::{bytes, count, duration, period},
    pages::PageArgs,
    values::{
        AllowedOrigins, Daemon, JwksSource, RedisUrl, Secret, is_loopback, is_this_machine, listen,
        nsq_addresses, plain, random_edge,
    },
};

const NSQ: &str = "NSQ";

/// The settings as they were typed. Texts that may hold a secret are checked later, because clap's errors quote the value.
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
#[command(next_help_heading = "Listeners and connections")]
struct ServerArgs {
    /// Address of the API and the WebSockets. Without a secret of your own: an address of this machine only
    #[arg(long, env = "KEEPSTEP_LISTEN", default_value = "127.0.0.1:8080", value_parser = listen, value_name = "ADDR")]
    listen: SocketAddr,
    /// Address of health, readiness and metrics. It asks for no token: keep it on an internal network
    #[arg(long, env = "KEEPSTEP_OPS_LISTEN", default_value = "127.0.0.1:8081", value_parser = listen, value_name = "ADDR")]
    ops_listen: SocketAddr,
    /// Origins of web pages that may call the API and open sockets: exact origins separated by commas, or `*`. Empty: the
    /// same origin only
    #[arg(long, env = "KEEPSTEP_ALLOWED_ORIGINS", default_value = "", value_name = "ORIGINS")]
    allowed_origins: String,
    /// Maximum number of connections. Further ones are closed without an answer
    #[arg(long, env = "KEEPSTEP_MAX_CONNECTIONS", default_value_t = 100_000, value_parser = count::<usize>, value_name = "N")]
    max_connections: usize,
    /// Maximum number of connections from one address (IPv6: a /64). The default is for load balancers that are not in
    /// KEEPSTEP_TRUSTED_PROXIES, behind which all clients have one address; lower it where addresses are known. Further ones are
    /// closed without an answer, and behind a trusted proxy refused: 429
    #[arg(long, env = "KEEPSTEP_MAX_CONNECTIONS_PER_IP", default_value_t = 20_000, value_parser = count::<usize>, value_name = "N")]
    max_connections_per_ip: usize,
    /// Connections that one address may open per second; behind a trusted proxy, requests. Further ones are delayed
    #[arg(long, env = "KEEPSTEP_NEW_CONNECTIONS_PER_IP", default_value_t = 500, value_parser = count::<u32>, value_name = "N")]
    new_connections_per_ip: u32,
    /// Time for a client to send the head of a request. After it the connection is closed
    #[arg(long, env = "KEEPSTEP_HEADER_TIMEOUT", default_value = "10s", value_parser = period, value_name = "TIME")]
    header_timeout: Duration,
    /// Maximum size of the head of a request, in bytes; at least 8192. A larger one is refused: 431
    #[arg(long, env = "KEEPSTEP_MAX_HEADER_BYTES", default_value_t = 16_384, value_parser = bytes::<usize>, value_name = "BYTES")]
    max_header_bytes: usize,
    /// Networks and addresses of your load balancers, separated by commas. The client's address is taken from their Forwarded or
    /// X-Forwarded-For header. Never list a network of clients
    #[arg(long, env = "KEEPSTEP_TRUSTED_PROXIES", default_value = "", value_name = "NETWORKS")]
    trusted_proxies: String,
    /// Require a PROXY protocol header (version 1 or 2) on each connection. Connections without one are closed, and those from
    /// other addresses than KEEPSTEP_TRUSTED_PROXIES, if that is set
    #[arg(long, env = "KEEPSTEP_PROXY_PROTOCOL", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    proxy_protocol: bool,
    /// Name of this edge, 1-64 characters of A-Z a-z 0-9 _ . -. While an edge of this name runs, a second one does not start
    /// [default: e- and 8 random digits]
    #[arg(long, env = "KEEPSTEP_EDGE", value_name = "NAME")]
    edge: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Identity and tokens")]
struct TokenArgs {
    /// Secret that verifies HS256 user tokens; at least 32 random bytes (`openssl rand -hex 32`), the same on every edge. Set it by
    /// the variable: every process of the machine can read flags. Embedded without it: a secret is generated and tokens are
    /// printed
    #[arg(long, env = "KEEPSTEP_JWT_SECRET", hide_env_values = true, value_name = "SECRET")]
    jwt_secret: Option<String>,
    /// Second secret that verifies user tokens and signs none: the next or the previous one of a rotation, see
    /// docs/operating.md#rotating-secrets
    #[arg(
        long = "jwt-secret-2",
        env = "KEEPSTEP_JWT_SECRET_2",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    jwt_secret_2: Option<String>,
    /// Third secret that verifies user tokens and signs none
    #[arg(
        long = "jwt-secret-3",
        env = "KEEPSTEP_JWT_SECRET_3",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    jwt_secret_3: Option<String>,
    /// Secret that signs device tokens; at least 32 random bytes, the same on every edge. Required with KEEPSTEP_JWKS alone
    /// [default: derived from KEEPSTEP_JWT_SECRET]
    #[arg(long, env = "KEEPSTEP_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    token_secret: Option<String>,
    /// Second secret that verifies device tokens and signs none: the next or the previous one of a rotation, see
    /// docs/operating.md#rotating-secrets
    #[arg(
        long = "token-secret-2",
        env = "KEEPSTEP_TOKEN_SECRET_2",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    token_secret_2: Option<String>,
    /// Third secret that verifies device tokens and signs none
    #[arg(
        long = "token-secret-3",
        env = "KEEPSTEP_TOKEN_SECRET_3",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    token_secret_3: Option<String>,
    /// JWKS with the public keys that verify EdDSA, ES256 and RS256 user tokens: a file, an https URL, or an http URL of this
    /// machine
    #[arg(long, env = "KEEPSTEP_JWKS", hide_env_values = true, value_name = "FILE|URL")]
    jwks: Option<String>,
    /// Allow an http URL of another machine as KEEPSTEP_JWKS. Who controls the network can then make tokens
    #[arg(long, env = "KEEPSTEP_JWKS_INSECURE", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    jwks_insecure: bool,
    /// How long keys of the JWKS stay valid while it cannot be read. After it tokens are answered
    /// `unavailable`. 0s: for ever
    #[arg(long, env = "KEEPSTEP_JWKS_STALE", default_value = "24h", value_parser = duration, value_name = "TIME")]
    jwks_stale: Duration,
    /// Required `iss` of a user token. Empty: not checked
    #[arg(long, env = "KEEPSTEP_JWT_ISSUER", value_name = "TEXT")]
    jwt_issuer: Option<String>,
    /// Required `aud` of a user token, or one of its entries. Empty: not checked
    #[arg(long, env = "KEEPSTEP_JWT_AUDIENCE", value_name = "TEXT")]
    jwt_audience: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Redis")]
struct BackendArgs {
    /// Address of Redis: redis://host:6379, or rediss:// for TLS. Set it together with KEEPSTEP_NSQD. Neither: embedded mode,
    /// everything in memory
    #[arg(long, env = "KEEPSTEP_REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<String>,
    /// Prefix of every key and channel in Redis, without the colon
    #[arg(long, env = "KEEPSTEP_REDIS_PREFIX", default_value = "ks", value_name = "TEXT")]
    redis_prefix: String,
    /// Start although Redis has no AOF. A restart of Redis then loses acknowledged messages
    #[arg(long, env = "KEEPSTEP_ALLOW_VOLATILE_STORE", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    allow_volatile_store: bool,
    /// Start although Redis does not show all of its settings (a managed service without CONFIG), see
    /// docs/operating.md#a-managed-redis
    #[arg(long, env = "KEEPSTEP_REDIS_TRUSTED", default_value = "false", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    redis_trusted: bool,
    /// HTTP addresses of every nsqd, separated by commas, the same on every edge: host:4151, or host:4151?tcp=host:4150 where the
    /// TCP address that nsqd broadcasts cannot be reached
    #[arg(long, env = "KEEPSTEP_NSQD", help_heading = NSQ, value_name = "ADDRS")]
    nsqd: Option<String>,
    /// HTTP addresses of every nsqlookupd, separated by commas: host:4161
    #[arg(long, env = "KEEPSTEP_NSQLOOKUPD", help_heading = NSQ, value_name = "ADDRS")]
    nsqlookupd: Option<String>,
    /// Reserved for a data folder of the embedded mode, which is in memory only. Must be empty
    #[arg(long, env = "KEEPSTEP_DATA", help_heading = "Embedded mode", value_name = "FOLDER")]
    data: Option<String>,
}

#[derive(Args)]
#[command(next_help_heading = "Log output")]
struct LogArgs {
    /// Events that are logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or `target=level` pairs separated by commas, such as
    /// `info,keepstep=debug`. Libraries are never logged below `info`
    #[arg(long, env = "KEEPSTEP_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Format of the log on standard error: `text` for people, or `json`, one object per line
    #[arg(long, env = "KEEPSTEP_LOG_FORMAT", default_value = "text", value_enum, value_name = "FORMAT")]
    log_format: LogFormat,
}

impl ServeArgs {
    /// Checks each setting, then that they go together.
    ///
    /// # Errors
    /// One sentence: which setting, what is wrong and what to do.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let backend = self.backend.into_backend()?;
        let tokens = self.tokens.into_config(&backend)?;
        let pages = self.pages.into_config(&tokens, &backend)?;
        if tokens.generated {
            // Its tokens are printed.
            let second = pages.playground.as_ref().and_then(|playground| playground.listen);
            let listens = [
                ("KEEPSTEP_LISTEN", Some(self.server.listen)),
                ("KEEPSTEP_OPS_LISTEN", Some(self.server.ops_listen)),
                ("KEEPSTEP_PLAYGROUND_LISTEN", second),
            ];
            for (name, address) in listens {
                if let Some(address) = address.filter(|address| !is_loopback(*address)) {
                    return Err(ConfigError::Exposed { name, address });
                }
            }
        }
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
        // hyper refuses less, and a token alone may have 8 KiB.
        if self.max_header_bytes < 8_192 {
            let reason = format!("{} is too little: give at least 8192", self.max_header_bytes);
            return Err(ConfigError::value("KEEPSTEP_MAX_HEADER_BYTES", reason));
        }
        Ok(ServerConfig {
            listen: self.listen,
            ops_listen: self.ops_listen,
            allowed_origins: AllowedOrigins::new(&self.allowed_origins)?,
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            new_connections_per_ip: self.new_connections_per_ip,
            header_timeout: self.header_timeout,
            max_header_bytes: self.max_header_bytes,
            trusted_proxies: TrustedProxies::new(&self.trusted_proxies)?,
            proxy_protocol: self.proxy_protocol,
        })
    }
}

impl TokenArgs {
    /// Checks them. In the embedded mode a missing verifier is a random secret.
    fn into_config(self, backend: &Backend) -> Result<TokenConfig, ConfigError> {
        let secret = |name, text: &Option<String>| {
            given(text.as_deref()).map(|text| Secret::new(name, text)).transpose()
        };
        let others = |all: [(&'static str, &Option<String>); 2]| {
            let all = all.into_iter().map(|(name, text)| secret(name, text));
            all.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        };
        let mut tokens = TokenConfig {
            jwt_secret: secret("KEEPSTEP_JWT_SECRET", &self.jwt_secret)?,
            other_jwt_secrets: others([
                ("KEEPSTEP_JWT_SECRET_2", &self.jwt_secret_2),
                ("KEEPSTEP_JWT_SECRET_3", &self.jwt_secret_3),
            ])?,
            token_secret: secret("KEEPSTEP_TOKEN_SECRET", &self.token_secret)?,
            other_token_secrets: others([
                ("KEEPSTEP_TOKEN_SECRET_2", &self.token_secret_2),
                ("KEEPSTEP_TOKEN_SECRET_3", &self.token_secret_3),
            ])?,
            jwks: given(self.jwks.as_deref()).map(|text| JwksSource::new(text.trim())).transpose()?,
            jwks_stale: Some(self.jwks_stale).filter(|stale| !stale.is_zero()),
            issuer: given(self.jwt_issuer.as_deref()).map(str::to_owned),
            audience: given(self.jwt_audience.as_deref()).map(str::to_owned),
            generated: false,
        };
        for (name, first, others) in [
            ("KEEPSTEP_JWT_SECRET", &tokens.jwt_secret, &tokens.other_jwt_secrets),
            ("KEEPSTEP_TOKEN_SECRET", &tokens.token_secret, &tokens.other_token_secrets),
        ] {
            if first.is_none() && !others.is_empty() {
                return Err(ConfigError::Conflict(format!(
                    "{name}_2 or {name}_3 is set, and {name}, which signs, isn't: set it, too"
                )));
            }
        }
        if let Some(JwksSource::Url(url)) = &tokens.jwks
            && url.scheme() == "http"
            && !is_this_machine(url)
            && !self.jwks_insecure
        {
            return Err(ConfigError::value(
                "KEEPSTEP_JWKS",
                "by plain http from another machine, whoever is on the way could publish keys of their own and be anybody: use \
                 https, or set KEEPSTEP_JWKS_INSECURE=true if that way is your own",
            ));
        }
        match (&tokens.jwt_secret, &tokens.jwks, &tokens.token_secret, backend) {
            (Some(_), ..) | (None, Some(_), Some(_), _) => Ok(tokens),
            (None, Some(_), None, _) => Err(ConfigError::NoTokenSecret),
            (None, None, _, Backend::Embedded) => {
                tokens.jwt_secret = Some(Secret::random());
                tokens.generated = true;
                Ok(tokens)
            }
            (None, None, _, Backend::Real { .. }) => Err(ConfigError::NoVerifier),
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
        let nsqd = nsq_addresses(Daemon::Nsqd, nsqd)?;
        if nsqd.is_empty() {
            return Err(ConfigError::value("KEEPSTEP_NSQD", "no address in it: write host:4151"));
        }
        Ok(Backend::Real {
            redis: RedisConfig {
                url: RedisUrl::new(url.trim())?,
                allow_volatile: self.allow_volatile_store,
                trusted: self.redis_trusted,
                prefix: plain("KEEPSTEP_REDIS_PREFIX", &self.redis_prefix)?,
            },
            nsq: NsqConfig {
                nsqd,
                nsqlookupd: nsq_addresses(
                    Daemon::Nsqlookupd,
                    self.nsqlookupd.as_deref().unwrap_or_default(),
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
        // The library takes a single word for a target, so a misspelt level would silence all others.
        let mut alone =
            self.log.split(',').map(str::trim).filter(|part| !part.contains(['=', '[']) && !part.is_empty());
        if let Some(word) = alone.find(|word| word.parse::<LevelFilter>().is_err()) {
            return Err(refused(format!("{word} is no level")));
        }
        Ok(LogConfig { format: self.log_format, filter: self.log })
    }
}

/// Returns a text unless it is empty: an empty flag or variable counts as not set. A secret may begin with a space.
pub(super) fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}
