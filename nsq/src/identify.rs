//! The first exchange of the two sides: IDENTIFY, and nsqd's answer.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to connect to an nsqd, and how the client identifies itself. One value serves any number of connections.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The client's id, as nsqd's statistics show it.
    pub client_id: String,
    /// Name and version of the client, as nsqd's statistics show it.
    pub user_agent: String,
    /// nsqd's heartbeat interval. A connection silent for two and a half times this long counts as dead. nsqd accepts 1
    /// s to `--max-heartbeat-interval` (60 s). Default 30 s.
    pub heartbeat: Duration,
    /// Deadline of connect, TLS, IDENTIFY and AUTH together. Default 3 s.
    pub connect_timeout: Duration,
    /// TLS to nsqd: with a configuration here, the client refuses an nsqd without TLS. Default: none.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The secret for an nsqd with `--auth-http-address`. Default: none.
    pub auth_secret: Option<String>,
}

impl ConnectOptions {
    /// Returns for how long nsqd may be silent before its connection counts as dead.
    pub(crate) fn silence(&self) -> Duration {
        self.heartbeat.mul_f64(2.5)
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            client_id: "keepstep".to_owned(),
            user_agent: concat!("keepstep-nsq/", env!("CARGO_PKG_VERSION")).to_owned(),
            heartbeat: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            tls: None,
            auth_secret: None,
        }
    }
}

// By hand: the secret and the TLS keys stay out of logs.
impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("client_id", &self.client_id)
            .field("user_agent", &self.user_agent)
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("tls", &self.tls.is_some())
            .field("auth_secret", &self.auth_secret.is_some())
            .finish()
    }
}

/// What a subscription requests beyond [`ConnectOptions`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// nsqd's default if `None`.
    pub(crate) msg_timeout: Option<Duration>,
    /// Makes nsqd write each message at once instead of collecting them.
    pub(crate) unbuffered: bool,
}

#[derive(Serialize)]
struct Identify<'a> {
    client_id: &'a str,
    hostname: &'a str,
    user_agent: &'a str,
    feature_negotiation: bool,
    heartbeat_interval: u64,
    tls_v1: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_buffer_size: Option<i32>,
    output_buffer_timeout: u64,
}

/// How often nsqd flushes a connection's buffer, even an empty one. At its default, 250 ms, that is most of nsqd's work
/// for idle connections. The RDY policy makes nsqd send messages at once. This timer is only the last resort, for when
/// nsqd counts fewer messages in flight than we do (some have just timed out there).
const OUTPUT_BUFFER_TIMEOUT: Duration = Duration::from_secs(2);

/// nsqd's answer, as far as this client uses it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Identified {
    #[serde(default = "default_max_rdy")]
    pub(crate) max_rdy_count: u32,
    /// Milliseconds.
    #[serde(default = "default_msg_timeout")]
    pub(crate) msg_timeout: u64,
    #[serde(default)]
    pub(crate) tls_v1: bool,
    #[serde(default)]
    pub(crate) auth_required: bool,
}

fn default_max_rdy() -> u32 {
    2500
}

fn default_msg_timeout() -> u64 {
    60_000
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the JSON body of IDENTIFY.
pub(crate) fn identify_json(options: &ConnectOptions, wishes: Wishes) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Identify {
        client_id: &options.client_id,
        hostname: &options.client_id,
        user_agent: &options.user_agent,
        feature_negotiation: true,
        heartbeat_interval: millis(options.heartbeat),
        tls_v1: options.tls.is_some(),
        msg_timeout: wishes.msg_timeout.map(millis),
        output_buffer_size: wishes.unbuffered.then_some(-1),
        output_buffer_timeout: millis(OUTPUT_BUFFER_TIMEOUT),
    })
}

#[cfg(test)]
#[path = "../tests/unit/identify.rs"]
mod tests;
