//! The values of settings that aren't numbers: secrets, addresses, origins.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use reqwest::Url;

use super::ConfigError;

/// A secret of at least 32 bytes. It never prints.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The shortest secret that is accepted, in bytes.
    pub const MIN: usize = 32;
    /// Least number of different bytes. (32 random hexadecimal digits have fewer once in ten million times.)
    const DIFFERENT: usize = 8;
    /// Least number of bytes that don't continue the two before them (`abc`, `321`, `aaa`).
    const UNFORESEEN: usize = 20;

    /// Takes the bytes of `text` as they are (hexadecimal digits aren't decoded). `name` is the setting.
    ///
    /// # Errors
    /// There are fewer than [`Secret::MIN`] bytes, or they could be guessed: few are different, a short piece is repeated, or
    /// most follow each other.
    pub fn new(name: &'static str, text: &str) -> Result<Self, ConfigError> {
        let bytes = text.as_bytes();
        if bytes.len() < Self::MIN {
            return Err(ConfigError::ShortSecret { name, length: bytes.len() });
        }
        let different = bytes.iter().collect::<std::collections::BTreeSet<_>>().len();
        if different < Self::DIFFERENT {
            let how = format!("has only {different} different bytes");
            return Err(ConfigError::WeakSecret { name, how });
        }
        let repeats = |piece: usize| bytes.iter().skip(piece).eq(bytes.iter().take(bytes.len() - piece));
        // At least twice the whole piece, because a random text may end as it begins.
        let pieces = 1..Self::MIN.min(bytes.len() / 2 + 1);
        if let Some(piece) = pieces.into_iter().find(|piece| repeats(*piece)) {
            let how = format!("is a piece of {piece} bytes again and again");
            return Err(ConfigError::WeakSecret { name, how });
        }
        let step = |one: u8, next: u8| i16::from(next) - i16::from(one);
        let follows = |three: &&[u8]| {
            let step_before = step(three[0], three[1]);
            step_before.abs() <= 1 && step_before == step(three[1], three[2])
        };
        if bytes.len() - bytes.windows(3).filter(follows).count() < Self::UNFORESEEN {
            let how = "is made of characters that follow each other, such as abcd and 4321".to_owned();
            return Err(ConfigError::WeakSecret { name, how });
        }
        Ok(Self(bytes.into()))
    }

    /// Returns 32 random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<[u8; Self::MIN]>().as_slice().into())
    }

    /// Returns the bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The address of Redis. It prints without its user and password.
#[derive(Clone)]
pub struct RedisUrl(Url);

impl RedisUrl {
    /// Parses an address. Doesn't connect.
    ///
    /// # Errors
    /// It isn't `redis://host[:port][/db]` or `rediss://…`.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::value("KEEPSTEP_REDIS_URL", reason);
        // The reasons never quote the text: it may hold a password.
        let url = Url::parse(text).map_err(|error| {
            refuse(&format!("not an address ({error}): write redis://host:6379 or rediss://host:6379"))
        })?;
        match url.scheme() {
            "redis" | "rediss" => {
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(refuse("the host is missing: write redis://host:6379"));
                }
                let db = url.path().trim_matches('/');
                if url.port() == Some(0) || !(db.is_empty() || db.parse::<u16>().is_ok()) {
                    return Err(refuse(
                        "what follows the host isn't a port and a database number: redis://host:6379/0",
                    ));
                }
            }
            _ => return Err(refuse("it must start with redis:// or rediss://")),
        }
        Ok(Self(url))
    }

    /// Returns the whole address with its password: for the Redis client, not for a log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// Place of a set of public keys (RFC 7517).
#[derive(Clone)]
pub enum JwksSource {
    /// A file. It must be readable at the start.
    File(PathBuf),
    /// An `http` or `https` address. It may be unreachable at the start.
    Url(Url),
}

impl JwksSource {
    /// Parses an address if it starts with `http://` or `https://`, else a path.
    ///
    /// # Errors
    /// The address can't be read.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        if !text.starts_with("http://") && !text.starts_with("https://") {
            return Ok(Self::File(text.into()));
        }
        Url::parse(text).map(Self::Url).map_err(|error| {
            ConfigError::value(
                "KEEPSTEP_JWKS",
                format!("not an address ({error}): write https://host/path, or a file"),
            )
        })
    }
}

impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => f.write_str(&without_credentials(url)),
        }
    }
}

impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksSource({self})")
    }
}

/// Scheme, host, port and path; a query may hold a key as well as the user part.
fn without_credentials(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Origins of web pages that may call the API and open sockets. A request without `Origin` isn't from a web page; its
/// token decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// The origin's `host:port` is the request's `Host`.
    SameOrigin,
    /// The origin's host is the request's, on any port: for the playground's second edge.
    SameHost,
    /// Every origin (`*`).
    Any,
    /// Exactly these, and not even the same origin. Lower case, without default port.
    List(Vec<String>),
}

impl AllowedOrigins {
    /// Parses an empty text, `*`, or origins separated by commas.
    ///
    /// # Errors
    /// One of them isn't `scheme://host[:port]`.
    pub fn new(text: &str) -> Result<Self, ConfigError> {
        match text.trim() {
            "" => return Ok(Self::SameOrigin),
            "*" => return Ok(Self::Any),
            _ => {}
        }
        let one = |text: &str| {
            let text = text.trim();
            origin(text).ok_or_else(|| {
                let reason =
                    format!("`{text}` isn't an origin: write scheme://host or scheme://host:port, no path");
                ConfigError::value("KEEPSTEP_ALLOWED_ORIGINS", reason)
            })
        };
        text.split(',')
            .filter(|text| !text.trim().is_empty())
            .map(one)
            .collect::<Result<_, _>>()
            .map(Self::List)
    }

    /// Returns whether a request with these two headers is allowed.
    #[must_use]
    pub fn allows(&self, origin_header: Option<&str>, host_header: Option<&str>) -> bool {
        let Some(asked) = origin_header else { return true };
        match self {
            Self::Any => true,
            Self::List(list) => origin(asked).is_some_and(|asked| list.contains(&asked)),
            Self::SameHost => {
                let host = |text: &str| Url::parse(text).ok()?.host_str().map(str::to_owned);
                let own = host_header.and_then(|own| host(&format!("http://{own}")));
                own.is_some() && own == host(asked)
            }
            Self::SameOrigin => {
                let (Some(asked), Some(host)) = (origin(asked), host_header) else { return false };
                // Behind a load balancer that ends TLS this server's scheme isn't known: the page's decides which port
                // may be left out.
                let scheme = if asked.starts_with("https://") { "https" } else { "http" };
                origin(&format!("{scheme}://{host}")) == Some(asked)
            }
        }
    }
}

/// Returns an origin in lower case without default port. None if it has more than scheme, host and port.
fn origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', '\\', ' ', '*']) {
        return None;
    }
    // Application schemes (capacitor://localhost) are opaque to the URL standard: their text is compared.
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Some(text.to_ascii_lowercase());
    }
    let url = Url::parse(text).ok()?;
    Some(url.origin().ascii_serialization())
}

/// Parses `http(s)://host[:port]`.
pub(super) fn without_path(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    (bare && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Returns whether only this machine reaches an address.
pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Returns whether an address is one of this machine.
pub(super) fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse().is_ok_and(|ip| is_loopback(SocketAddr::new(ip, 0)))
}

/// Parses an address to listen on.
///
/// # Errors
/// A sentence for clap.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| {
        "write address:port with an address of this machine, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all".to_owned()
    })
}

/// The two kinds of NSQ daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    Nsqd,
    Nsqlookupd,
}

impl Daemon {
    fn setting(self) -> &'static str {
        match self {
            Self::Nsqd => "KEEPSTEP_NSQD",
            Self::Nsqlookupd => "KEEPSTEP_NSQLOOKUPD",
        }
    }

    fn forms(self) -> &'static str {
        match self {
            Self::Nsqd => "host:4151, http://host:4151 or http://host:4151?tcp=host:4150",
            Self::Nsqlookupd => "host:4161",
        }
    }
}

/// Parses the HTTP addresses of daemons, separated by commas. Checks their shape only; the broker reads them.
pub(super) fn nsq_addresses(daemon: Daemon, text: &str) -> Result<Vec<String>, ConfigError> {
    let refused = |reason: String| Err(ConfigError::value(daemon.setting(), reason));
    let mut list: Vec<String> = Vec::new();
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let bare = item.strip_prefix("http://").or_else(|| item.strip_prefix("https://")).unwrap_or(item);
        let (http, pinned) = match bare.split_once('?') {
            Some((http, query)) => (http, Some(query.strip_prefix("tcp=").unwrap_or_default())),
            None => (bare, None),
        };
        let good = host_and_port(http.strip_suffix('/').unwrap_or(http))
            && pinned.is_none_or(|address| daemon == Daemon::Nsqd && host_and_port(address));
        if !good {
            return refused(format!("`{item}` isn't the HTTP address of a daemon: write {}", daemon.forms()));
        }
        if list.iter().any(|other| other == item) {
            return refused(format!("`{item}` is listed twice: list each daemon once"));
        }
        list.push(item.to_owned());
    }
    Ok(list)
}

fn host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    good_host && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Returns `e-` and 8 random hexadecimal digits.
pub(super) fn random_edge() -> String {
    format!("e-{:08x}", rand::random::<u32>())
}

/// Checks a text that goes into keys of the store: no pattern characters, braces or spaces.
pub(super) fn plain(name: &'static str, text: &str) -> Result<String, ConfigError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err(ConfigError::value(name, "write 1-64 characters of A-Z a-z 0-9 _ . -"))
    }
}
