//! nsqlookupd's HTTP interface.

use serde::Deserialize;

use super::nsqd::null_is_empty;
use super::{AdminError, Http, named, was_there};

/// Administers one nsqlookupd. Clones share connections; use it within one runtime.
///
/// nsqlookupd remembers topics and channels of an nsqd that has left, and nsqd creates the channels that nsqlookupd
/// knows with each new topic. So delete a topic or channel on every nsqd and on every nsqlookupd.
#[derive(Debug, Clone)]
pub struct LookupdAdmin {
    http: Http,
}

/// An nsqd that is registered and was seen lately.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LookupdNode {
    /// `address:port` of its connection to nsqlookupd.
    pub remote_address: String,
    /// Its host.
    pub hostname: String,
    /// The address at which clients reach it.
    pub broadcast_address: String,
    /// The TCP port at which clients reach it.
    pub tcp_port: i32,
    /// The HTTP port at which clients reach it.
    pub http_port: i32,
    /// Its version.
    pub version: String,
    /// Its topics.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub topics: Vec<String>,
}

/// An nsqd that has a topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Producer {
    /// `address:port` of its connection to nsqlookupd.
    pub remote_address: String,
    /// Its host.
    pub hostname: String,
    /// The address at which clients reach it.
    pub broadcast_address: String,
    /// The TCP port at which clients reach it.
    pub tcp_port: i32,
    /// The HTTP port at which clients reach it.
    pub http_port: i32,
    /// Its version.
    pub version: String,
}

/// The location of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TopicLookup {
    /// Its channels, on any nsqd.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub channels: Vec<String>,
    /// The nsqd that have it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub producers: Vec<Producer>,
}

/// nsqlookupd's own information.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LookupdInfo {
    /// Its version, for example `1.3.0`.
    pub version: String,
}

#[derive(Deserialize)]
struct Nodes {
    #[serde(default, deserialize_with = "null_is_empty")]
    producers: Vec<LookupdNode>,
}

#[derive(Deserialize)]
struct Topics {
    #[serde(default, deserialize_with = "null_is_empty")]
    topics: Vec<String>,
}

#[derive(Deserialize)]
struct Channels {
    #[serde(default, deserialize_with = "null_is_empty")]
    channels: Vec<String>,
}

impl LookupdAdmin {
    /// Returns a client that administers the nsqlookupd at `http_addr`: `host:port` or `http://host:port`.
    pub fn new(http_addr: impl AsRef<str>) -> Self {
        Self { http: Http::new(http_addr.as_ref()) }
    }

    /// Returns the URL that this client calls.
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// Returns the nsqd that are registered and alive.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn nodes(&self) -> Result<Vec<LookupdNode>, AdminError> {
        Ok(self.http.get::<Nodes>("/nodes", &[]).await?.producers)
    }

    /// Returns all topics that nsqlookupd knows, including those of nsqd that have left.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn topics(&self) -> Result<Vec<String>, AdminError> {
        Ok(self.http.get::<Topics>("/topics", &[]).await?.topics)
    }

    /// Returns all channels that nsqlookupd knows of a topic; none if it doesn't know the topic.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn channels(&self, topic: &str) -> Result<Vec<String>, AdminError> {
        Ok(self.http.get::<Channels>("/channels", &[("topic", named(topic)?)]).await?.channels)
    }

    /// Returns the location of a topic. Returns `None` if the topic is unknown.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn lookup(&self, topic: &str) -> Result<Option<TopicLookup>, AdminError> {
        match self.http.get("/lookup", &[("topic", named(topic)?)]).await {
            Ok(found) => Ok(Some(found)),
            Err(AdminError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Registers a topic. This creates it on no nsqd.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_topic(&self, topic: &str) -> Result<(), AdminError> {
        self.http.change("/topic/create", topic, None).await
    }

    /// Registers a channel: an nsqd that creates the topic from now on creates the channel with it.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_channel(&self, topic: &str, channel: &str) -> Result<(), AdminError> {
        self.http.change("/channel/create", topic, Some(channel)).await
    }

    /// Deletes the registration of a topic and its channels. nsqlookupd doesn't report whether it knew the topic.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn delete_topic(&self, topic: &str) -> Result<(), AdminError> {
        self.http.change("/topic/delete", topic, None).await
    }

    /// Deletes the registration of a channel. Returns whether it was known.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn delete_channel(&self, topic: &str, channel: &str) -> Result<bool, AdminError> {
        was_there(self.http.change("/channel/delete", topic, Some(channel)).await)
    }

    /// Returns nsqlookupd's own information.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn info(&self) -> Result<LookupdInfo, AdminError> {
        self.http.get("/info", &[]).await
    }

    /// Returns Ok if nsqlookupd answers.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn ping(&self) -> Result<(), AdminError> {
        self.http.ping().await
    }
}
