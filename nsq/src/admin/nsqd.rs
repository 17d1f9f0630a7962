//! nsqd's HTTP interface.

use serde::{Deserialize, Deserializer};

use super::{AdminError, Http, named, was_there};

/// The topic and channel of [`NsqdAdmin::barrier`] by default.
const BARRIER: (&str, &str) = ("keepstep.barrier", "barrier");

/// Administers one nsqd. Clones share connections; use it within one runtime.
#[derive(Debug, Clone)]
pub struct NsqdAdmin {
    http: Http,
    barrier: (String, String),
}

/// Which statistics to fetch. The default is all topics and channels, without clients.
#[derive(Debug, Clone, Copy, Default)]
pub struct StatsFilter<'a> {
    /// Only this topic.
    pub topic: Option<&'a str>,
    /// Only channels with this name.
    pub channel: Option<&'a str>,
    /// Include each channel's clients. This costs nsqd more work.
    pub clients: bool,
}

/// A topic as nsqd reports it. Counts are messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TopicStats {
    /// Its name.
    #[serde(rename = "topic_name")]
    pub topic: String,
    /// Messages not copied to the channels yet; they stay here while there is no channel.
    pub depth: i64,
    /// How many of `depth` are on disk.
    pub backend_depth: i64,
    /// Messages published since nsqd started.
    pub message_count: u64,
    /// Whether the topic is paused: nothing is copied to the channels.
    pub paused: bool,
    /// Its channels, by name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub channels: Vec<ChannelStats>,
}

/// A channel as nsqd reports it. Counts are messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelStats {
    /// Its name.
    #[serde(rename = "channel_name")]
    pub channel: String,
    /// Waiting to be delivered.
    pub depth: i64,
    /// How many of `depth` are on disk.
    pub backend_depth: i64,
    /// Delivered but not settled.
    #[serde(rename = "in_flight_count")]
    pub in_flight: u64,
    /// Requeued with a delay that isn't over.
    #[serde(rename = "deferred_count")]
    pub deferred: u64,
    /// Received from the topic since nsqd started.
    pub message_count: u64,
    /// Requeued by clients since nsqd started.
    pub requeue_count: u64,
    /// Timed out since nsqd started.
    pub timeout_count: u64,
    /// Clients subscribed.
    pub client_count: u64,
    /// Whether the channel is paused: nothing is delivered.
    pub paused: bool,
    /// The clients, if [`StatsFilter::clients`] asked for them.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub clients: Vec<ClientStats>,
}

/// A client of a channel as nsqd reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct ClientStats {
    /// The client's id for itself.
    pub client_id: String,
    /// The host that the client reports.
    pub hostname: String,
    /// `address:port` of the client's end of the connection.
    pub remote_address: String,
    /// Name and version of the client's software.
    pub user_agent: String,
    /// The client's RDY.
    pub ready_count: i64,
    /// Delivered to the client but not settled.
    pub in_flight_count: i64,
    /// Delivered to the client in total.
    pub message_count: u64,
    /// Finished by the client.
    pub finish_count: u64,
    /// Requeued by the client.
    pub requeue_count: u64,
    /// When the client connected: seconds since 1970.
    pub connect_ts: i64,
}

/// Only the names from the statistics.
#[derive(Deserialize)]
struct Names {
    #[serde(default, deserialize_with = "null_is_empty")]
    topics: Vec<TopicNames>,
}

#[derive(Deserialize)]
struct TopicNames {
    topic_name: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    channels: Vec<ChannelBrief>,
}

/// A channel in a list of all, with few of its figures. Counts are messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ChannelBrief {
    /// Its name.
    #[serde(rename = "channel_name")]
    pub channel: String,
    /// Waiting to be delivered.
    #[serde(default)]
    pub depth: i64,
    /// Clients subscribed.
    #[serde(default, rename = "client_count")]
    pub clients: u64,
}

/// nsqd's own information.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeInfo {
    /// Its version, for example `1.3.0`.
    pub version: String,
    /// The address that it reports to nsqlookupd.
    pub broadcast_address: String,
    /// Its host.
    pub hostname: String,
    /// -1 if it listens on a Unix socket.
    pub http_port: i32,
    /// -1 if it listens on a Unix socket.
    pub tcp_port: i32,
    /// When it started: seconds since 1970. A different value means that nsqd was restarted.
    pub start_time: i64,
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default, deserialize_with = "null_is_empty")]
    topics: Vec<TopicStats>,
}

/// Reads `null` as empty: Go writes an absent list as `null`.
pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl NsqdAdmin {
    /// Returns a client that administers the nsqd at `http_addr`: `host:port` or `http://host:port`.
    pub fn new(http_addr: impl AsRef<str>) -> Self {
        Self::over(Http::new(http_addr.as_ref()))
    }

    pub(super) fn over(http: Http) -> Self {
        Self { http, barrier: (BARRIER.0.to_owned(), BARRIER.1.to_owned()) }
    }

    /// Sets another topic and channel for [`NsqdAdmin::barrier`]. They must serve nothing else: the barrier unpauses
    /// the channel.
    #[must_use]
    pub fn with_barrier(mut self, topic: impl Into<String>, channel: impl Into<String>) -> Self {
        self.barrier = (topic.into(), channel.into());
        self
    }

    /// Returns the URL that this client calls.
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// Creates a topic. No-op if it exists.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_topic(&self, topic: &str) -> Result<(), AdminError> {
        self.http.change("/topic/create", topic, None).await
    }

    /// Deletes a topic with its channels and all their messages. Returns whether it existed.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn delete_topic(&self, topic: &str) -> Result<bool, AdminError> {
        was_there(self.http.change("/topic/delete", topic, None).await)
    }

    /// Creates a channel. No-op if it exists.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is no such topic; see [`AdminError`].
    pub async fn create_channel(&self, topic: &str, channel: &str) -> Result<(), AdminError> {
        self.http.change("/channel/create", topic, Some(channel)).await
    }

    /// Deletes a channel with all its messages; nsqd disconnects its clients. Returns whether it existed.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn delete_channel(&self, topic: &str, channel: &str) -> Result<bool, AdminError> {
        was_there(self.http.change("/channel/delete", topic, Some(channel)).await)
    }

    /// Deletes all messages of a channel. Returns whether the channel existed.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn empty_channel(&self, topic: &str, channel: &str) -> Result<bool, AdminError> {
        was_there(self.http.change("/channel/empty", topic, Some(channel)).await)
    }

    /// Makes all creations and deletions before this call durable. nsqd saves them in the background, but saves an
    /// unpause before its response, and with it all its metadata.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn barrier(&self) -> Result<(), AdminError> {
        let (topic, channel) = (self.barrier.0.as_str(), self.barrier.1.as_str());
        match self.http.change("/channel/unpause", topic, Some(channel)).await {
            Err(AdminError::NotFound(_)) => {
                self.create_topic(topic).await?;
                self.create_channel(topic, channel).await?;
                self.http.change("/channel/unpause", topic, Some(channel)).await
            }
            result => result,
        }
    }

    /// Returns statistics of topics and channels. Topics and channels that the filter names and that don't exist are
    /// left out.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn stats(&self, filter: StatsFilter<'_>) -> Result<Vec<TopicStats>, AdminError> {
        // Memory statistics stop nsqd's world, and nothing here uses them.
        let mut query = vec![("format", "json"), ("include_mem", "false")];
        query.push(("include_clients", if filter.clients { "true" } else { "false" }));
        if let Some(topic) = filter.topic {
            query.push(("topic", named(topic)?));
        }
        if let Some(channel) = filter.channel {
            query.push(("channel", named(channel)?));
        }
        Ok(self.http.get::<Stats>("/stats", &query).await?.topics)
    }

    /// Returns whether the channel exists.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn has_channel(&self, topic: &str, channel: &str) -> Result<bool, AdminError> {
        let filter = StatsFilter { topic: Some(topic), channel: Some(channel), clients: false };
        let stats = self.stats(filter).await?;
        Ok(stats.iter().any(|t| t.topic == topic && t.channels.iter().any(|c| c.channel == channel)))
    }

    /// Returns the names of all topics, each with its channels in brief: all figures of thousands of channels are
    /// megabytes.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn channels(&self) -> Result<Vec<(String, Vec<ChannelBrief>)>, AdminError> {
        let query = [("format", "json"), ("include_mem", "false"), ("include_clients", "false")];
        let names = self.http.get::<Names>("/stats", &query).await?;
        Ok(names.topics.into_iter().map(|topic| (topic.topic_name, topic.channels)).collect())
    }

    /// Returns nsqd's own information.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn info(&self) -> Result<NodeInfo, AdminError> {
        self.http.get("/info", &[]).await
    }

    /// Returns Ok if nsqd is healthy.
    ///
    /// # Errors
    /// [`AdminError::Refused`] with status 500 after a failed write to disk; see [`AdminError`].
    pub async fn ping(&self) -> Result<(), AdminError> {
        self.http.ping().await
    }
}
