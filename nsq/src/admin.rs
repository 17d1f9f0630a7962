//! The HTTP interfaces of nsqd and nsqlookupd. Every call has a deadline.

mod lookupd;
mod nsqd;

use std::sync::Once;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use self::lookupd::{LookupdAdmin, LookupdInfo, LookupdNode, Producer, TopicLookup};
pub use self::nsqd::{ChannelBrief, ChannelStats, ClientStats, NodeInfo, NsqdAdmin, StatsFilter, TopicStats};
use crate::frame::valid_name;

/// The deadline of a call that only reads or changes little.
const DEADLINE: Duration = Duration::from_secs(3);

/// The deadline of creating and deleting: nsqd rewrites and syncs all its metadata each time, one at a time.
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// The maximum size of an answer; reading stops beyond it. 50,000 topics with 3 channels are some 60 MB of statistics.
const MAX_ANSWER_BYTES: usize = 512 << 20;

/// Why an administrative call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// No connection, or no answer within the deadline.
    #[error("{addr} can't be reached: {error}; check that it runs and is reachable")]
    Unreachable {
        /// The address called.
        addr: String,
        /// What went wrong.
        error: String,
        /// False: nothing was sent, so certainly nothing happened. True: whether the call took effect is unknown.
        sent: bool,
    },
    /// The topic or channel of the call doesn't exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// Any other answer than success.
    #[error("refused with status {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// nsqd's error text, for example `INVALID_CHANNEL`.
        message: String,
    },
    /// Success, with an answer that can't be parsed.
    #[error("{addr} gave an answer that isn't NSQ's: {error}; check that the address is its HTTP port")]
    BadAnswer {
        /// The address called.
        addr: String,
        /// What is wrong with the answer.
        error: String,
    },
    /// Not even tried: the name isn't valid for a topic or channel.
    #[error("{0:?} isn't an NSQ name; use 1 to 64 of .a-zA-Z0-9_-")]
    InvalidName(String),
    /// Not even tried: the address can't be parsed.
    #[error("{0:?} isn't an address; use host:port or http://host:port")]
    InvalidAddress(String),
}

/// Makes ring the process's TLS implementation, unless one is chosen already. The admin clients call this themselves.
pub fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the process has chosen one: fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// One daemon's HTTP interface. Clones share connections.
#[derive(Clone)]
pub(crate) struct Http {
    /// The client, or the reason why there is none (the system's TLS set-up is broken), which each call then reports.
    client: Result<Client, String>,
    /// Without a trailing slash.
    base: String,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.base)
    }
}

impl Http {
    pub(crate) fn new(addr: &str) -> Self {
        Self { client: build_client(8), base: base_url(addr) }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Calls `path` and returns the body of a successful answer.
    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        deadline: Duration,
    ) -> Result<Vec<u8>, AdminError> {
        let mut url = Url::parse(&format!("{}{path}", self.base))
            .map_err(|_| AdminError::InvalidAddress(self.base.clone()))?;
        if !query.is_empty() {
            // Percent-encodes: `#ephemeral` must not become a fragment.
            url.query_pairs_mut().extend_pairs(query);
        }
        let unreachable = |error: reqwest::Error| AdminError::Unreachable {
            addr: self.base.clone(),
            error: root_cause(&error),
            sent: !error.is_connect(),
        };
        let client = self.client.as_ref().map_err(|error| AdminError::Unreachable {
            addr: self.base.clone(),
            error: error.clone(),
            sent: false,
        })?;
        let mut answer = client.request(method, url).timeout(deadline).send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(self.bad_answer("it is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(body);
        }
        let message = serde_json::from_slice(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).chars().take(200).collect(),
            |Refusal { message }| message,
        );
        // nsqd answers 404 with *_NOT_FOUND for topics and channels; a 404 for the path means a wrong address.
        if status == StatusCode::NOT_FOUND && message.ends_with("_NOT_FOUND") && message != "NOT_FOUND" {
            return Err(AdminError::NotFound(message));
        }
        Err(AdminError::Refused { status: status.as_u16(), message })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, AdminError> {
        let body = self.call(Method::GET, path, query, DEADLINE).await?;
        serde_json::from_slice(&body).map_err(|e| self.bad_answer(&e.to_string()))
    }

    async fn ping(&self) -> Result<(), AdminError> {
        self.call(Method::GET, "/ping", &[], DEADLINE).await.map(drop)
    }

    /// Posts a change of a topic or channel.
    async fn change(&self, path: &str, topic: &str, channel: Option<&str>) -> Result<(), AdminError> {
        let mut query = vec![("topic", named(topic)?)];
        if let Some(channel) = channel {
            query.push(("channel", named(channel)?));
        }
        self.call(Method::POST, path, &query, CHANGE_DEADLINE).await.map(drop)
    }

    fn bad_answer(&self, error: &str) -> AdminError {
        AdminError::BadAnswer { addr: self.base.clone(), error: error.to_owned() }
    }
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

fn build_client(idle: usize) -> Result<Client, String> {
    install_crypto_provider();
    // nsqd is addressed directly: a proxy of the environment is for other traffic, and a redirect is never intended.
    Client::builder()
        .no_proxy()
        .connect_timeout(DEADLINE)
        .pool_max_idle_per_host(idle)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| format!("the HTTP client can't be set up: {error:?}"))
}

fn base_url(addr: &str) -> String {
    let addr = addr.trim_end_matches('/');
    if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") }
}

fn named(name: &str) -> Result<&str, AdminError> {
    if valid_name(name) { Ok(name) } else { Err(AdminError::InvalidName(name.to_owned())) }
}

/// Returns a missing topic or channel as false instead of an error.
fn was_there(result: Result<(), AdminError>) -> Result<bool, AdminError> {
    match result {
        Ok(()) => Ok(true),
        Err(AdminError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the innermost cause: reqwest's own text hides it ("error sending request").
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the deadline".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
#[path = "../tests/unit/admin.rs"]
mod tests;
