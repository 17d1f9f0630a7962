//! The HTTP calls that a device needs.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::frame::{ChatId, DeviceId, Draft, MessageKey, Page};

mod types;

pub use types::{
    ChatInfo, DeviceInfo, LinkOffer, LinkState, NewGroup, Registered, Registration, SentAt, Termination,
};

/// For one call, the body included. The server's own deadlines are shorter, but for a long poll.
const DEADLINE: Duration = Duration::from_secs(40);

/// Installs `ring` as the process's provider for TLS, unless there is one.
pub(crate) fn install_crypto_provider() {
    // Only the first call in a process sets it; that a later one finds it set already is no fault.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A call that the server refused: problem details by RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call} was answered {status} {code}: {detail}")]
pub struct Refusal {
    /// The method and path, for people.
    pub call: String,
    /// The HTTP status.
    pub status: u16,
    /// For programs: one of the error codes of `docs/protocol.md`; `-` if the answer had none.
    pub code: String,
    /// For people.
    pub detail: String,
    /// Seconds to wait, where the server knows it.
    pub retry_after: Option<u64>,
    /// Names the call in the server's log.
    pub request_id: Option<String>,
}

/// A call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no answer. Whether the call did something isn't known: ask again with the same ids and keys.
    #[error("{0}")]
    Unreachable(String),
    /// The address can't be used, or the answer isn't what the contract says.
    #[error("{0}")]
    Unusable(String),
}

impl ApiError {
    /// The error code; none if the server didn't refuse it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// Returns whether the same call, with the same ids and keys, may succeed later: there was no answer, or it was 429 or
    /// a failure of the server.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status == 429 || refusal.status >= 500,
            Self::Unreachable(_) => true,
            Self::Unusable(_) => false,
        }
    }
}

/// The HTTP API of a server, with one token: a user's or a device's. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Api {
    /// Returns the API of the server at `url`, without a token.
    ///
    /// # Errors
    /// When the address isn't `http://…` or `https://…`, or this machine has no TLS.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let base = Url::parse(url.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.ok_or_else(|| ApiError::Unusable(format!("{url} isn't http://host:port")))?;
        install_crypto_provider();
        let http = reqwest::Client::builder()
            .timeout(DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("keepstep-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ApiError::Unusable(chain(&error)))?;
        Ok(Self { http, base, token: None })
    }

    /// The same server with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// Makes any call of the contract: `path` is percent-encoded, segment by segment.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        self.ask(self.request(method.clone(), path, query), &format!("{method} /{}", path.join("/")), body)
            .await
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        mut request: reqwest::RequestBuilder,
        what: &str,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        if let Some(body) = body {
            request = request.json(body);
        }
        let away = |error: reqwest::Error| {
            ApiError::Unreachable(format!("{what}: no answer ({})", chain(&error.without_url())))
        };
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| text.parse().ok());
        let bytes = answer.bytes().await.map_err(away)?;
        if !status.is_success() {
            return Err(refusal(what, status, retry_after, &bytes).into());
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::Unusable(format!("{what} was answered strangely: {error}")))
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, ApiError> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.call(Method::GET, path, &[], None).await
    }

    /// All pages of a list.
    async fn list<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Vec<T>, ApiError> {
        #[derive(Deserialize)]
        struct Rows<T> {
            items: Vec<T>,
            next: Option<String>,
        }
        let (mut items, mut after) = (Vec::new(), None::<String>);
        loop {
            let query: Vec<(&str, &str)> = after.iter().map(|after| ("after", after.as_str())).collect();
            let page: Rows<T> = self.call(Method::GET, path, &query, None).await?;
            items.extend(page.items);
            match page.next {
                // A server that gives the same place again would be asked for ever.
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok(items),
            }
        }
    }

    // ---- devices

    /// Registers a device, with a user token. Idempotent on the id. Its queues exist when this returns.
    ///
    /// # Errors
    /// `main_exists`, `limit_reached`, `conflict`; see [`ApiError`].
    pub async fn register(&self, registration: &Registration) -> Result<Registered, ApiError> {
        self.post(&["v1", "devices"], &json(registration)).await
    }

    /// Returns the user's devices.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn devices(&self) -> Result<Vec<DeviceInfo>, ApiError> {
        self.list(&["v1", "devices"]).await
    }

    /// Terminates a device. From this answer on no edge lets it in.
    ///
    /// # Errors
    /// `not_found`, `forbidden`; see [`ApiError`].
    pub async fn terminate(&self, device: DeviceId) -> Result<Termination, ApiError> {
        #[derive(Deserialize)]
        struct Accepted {
            termination: Termination,
        }
        let path = ["v1", "devices", &device.to_string()];
        let accepted: Accepted = self.call(Method::DELETE, &path, &[], None).await?;
        Ok(accepted.termination)
    }

    /// Returns how far a termination is.
    ///
    /// # Errors
    /// `not_found`; see [`ApiError`].
    pub async fn termination(&self, id: &str) -> Result<Termination, ApiError> {
        self.get(&["v1", "terminations", id]).await
    }

    // ---- linking

    /// Asks that a web page be linked as a sub; with a user token the user's main is told.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn request_link(&self, name: &str, platform: &str) -> Result<LinkOffer, ApiError> {
        self.post(&["v1", "links"], &json!({ "name": name, "platform": platform })).await
    }

    /// Waits up to 25 s for what becomes of a link.
    ///
    /// # Errors
    /// `not_found`; see [`ApiError`].
    pub async fn link_state(&self, offer: &LinkOffer) -> Result<LinkState, ApiError> {
        let request = self.request(Method::GET, &["v1", "links", &offer.link], &[("wait", "25")]);
        self.ask(request.header("x-link-secret", &offer.secret), "GET /v1/links", None).await
    }

    /// Approves a link, with a main's device token. `history`: how many messages of each chat's past the sub may ask
    /// for; none: all.
    ///
    /// # Errors
    /// `not_found`, `conflict`, `limit_reached`; see [`ApiError`].
    pub async fn approve_link(&self, code: &str, history: Option<u64>) -> Result<DeviceInfo, ApiError> {
        #[derive(Deserialize)]
        struct Approved {
            device: DeviceInfo,
        }
        let body = json!({ "approve": true, "history": history });
        let approved: Approved = self.post(&["v1", "links", code, "approve"], &body).await?;
        Ok(approved.device)
    }

    /// Refuses a link, with a main's device token.
    ///
    /// # Errors
    /// `not_found`, `conflict`; see [`ApiError`].
    pub async fn refuse_link(&self, code: &str) -> Result<(), ApiError> {
        self.post::<Value>(&["v1", "links", code, "approve"], &json!({ "approve": false })).await.map(drop)
    }

    // ---- chats

    /// Makes the direct chat with a user, or returns the one that is there.
    ///
    /// # Errors
    /// `forbidden`, `limit_reached`; see [`ApiError`].
    pub async fn direct_chat(&self, with: &str) -> Result<ChatInfo, ApiError> {
        self.post(&["v1", "chats"], &json!({ "kind": "direct", "with": with })).await
    }

    /// Makes a group. Idempotent on its id.
    ///
    /// # Errors
    /// `conflict`, `limit_reached`; see [`ApiError`].
    pub async fn create_group(&self, group: &NewGroup) -> Result<ChatInfo, ApiError> {
        let mut body = json(group);
        body["kind"] = json!("group");
        self.post(&["v1", "chats"], &body).await
    }

    /// Puts a user into a group, or asks them; only its owner may.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `limit_reached`; see [`ApiError`].
    pub async fn invite(&self, chat: ChatId, user: &str) -> Result<ChatInfo, ApiError> {
        self.post(&["v1", "chats", &chat.to_string(), "members"], &json!({ "user": user })).await
    }

    /// Joins a group that is public or has a password.
    ///
    /// # Errors
    /// `wrong_password`, `not_found`, `limit_reached`; see [`ApiError`].
    pub async fn join(&self, chat: ChatId, password: Option<&str>) -> Result<ChatInfo, ApiError> {
        let body = password.map_or_else(|| json!({}), |password| json!({ "password": password }));
        self.post(&["v1", "chats", &chat.to_string(), "join"], &body).await
    }

    /// Leaves a chat.
    ///
    /// # Errors
    /// `not_found`; see [`ApiError`].
    pub async fn leave(&self, chat: ChatId) -> Result<(), ApiError> {
        self.post::<Value>(&["v1", "chats", &chat.to_string(), "leave"], &json!({})).await.map(drop)
    }

    /// Returns the user's chats.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn chats(&self) -> Result<Vec<ChatInfo>, ApiError> {
        self.list(&["v1", "chats"]).await
    }

    // ---- messages

    /// Sends a message without a socket. The same key again gives the same seq.
    ///
    /// # Errors
    /// Those of the frame `send`; see [`ApiError`].
    pub async fn send(&self, chat: ChatId, key: MessageKey, draft: &Draft) -> Result<SentAt, ApiError> {
        let mut body = json(draft);
        body["key"] = json!(key);
        self.post(&["v1", "chats", &chat.to_string(), "messages"], &body).await
    }

    /// Returns what the server's log still holds of a chat: the newest messages below `before`, ascending.
    ///
    /// # Errors
    /// `not_found`, `forbidden`; see [`ApiError`].
    pub async fn messages(&self, chat: ChatId, before: Option<u64>, limit: u64) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct Held {
            items: Vec<crate::frame::Message>,
            more: bool,
        }
        let (limit, before) = (limit.to_string(), before.map(|before| before.to_string()));
        let mut query = vec![("limit", limit.as_str())];
        query.extend(before.as_deref().map(|before| ("before", before)));
        let path = ["v1", "chats", &chat.to_string(), "messages"];
        let held: Held = self.call(Method::GET, &path, &query, None).await?;
        Ok(Page { messages: held.items, more: held.more })
    }

    /// Returns the user's read offsets.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn offsets(&self) -> Result<std::collections::BTreeMap<ChatId, u64>, ApiError> {
        self.get(&["v1", "offsets"]).await
    }
}

fn json(value: &impl Serialize) -> Value {
    // Strings, numbers and string-keyed maps only: this can't fail.
    serde_json::to_value(value).unwrap_or_default()
}

fn refusal(call: &str, status: StatusCode, retry_after: Option<u64>, body: &[u8]) -> Refusal {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Problem {
        code: Option<String>,
        detail: Option<String>,
        request_id: Option<String>,
    }
    let Problem { code, detail, request_id } = serde_json::from_slice(body).unwrap_or_default();
    Refusal {
        call: call.to_owned(),
        status: status.as_u16(),
        code: code.unwrap_or_else(|| "-".to_owned()),
        detail: detail.unwrap_or_else(|| "-".to_owned()),
        retry_after,
        request_id,
    }
}

/// An error with its causes, which reqwest's own text leaves out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
