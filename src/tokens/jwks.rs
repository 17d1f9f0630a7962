//! The public keys, kept fresh.
//!
//! One task owns the reading. It reads the set every 10 minutes; sooner when a token names a key that isn't known (a
//! rotation, as a rule), but then not within 30 s of the last attempt, so that made-up key names can't be used to hammer
//! the identity provider; and sooner after a failure, 1 s later at first and then ever more slowly. A verifier whose key
//! is unknown waits for the reading that it asked for; it can't cancel it by going away.
//!
//! A set that was read replaces the old one as a whole: a key that is no longer published is no longer trusted. A set
//! that can't be read changes nothing, for as long as keys may be stale: a key that was taken back because somebody stole it
//! must not count for ever, because that somebody keeps the set from being read.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    TokenError, TokensError,
    keys::{Found, KeySet},
};
use crate::{config::JwksSource, outbound};

/// The largest set that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// How often the set is read. Its own type so that tests needn't wait for minutes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two readings when nothing happens.
    pub(super) every: Duration,
    /// Between two readings that unknown key names ask for.
    pub(super) gap: Duration,
    /// For one reading.
    pub(super) deadline: Duration,
    /// After the first failure; doubled after each further one, up to `gap`.
    pub(super) retry: Duration,
    /// How long keys count that can't be read again; none: for ever.
    pub(super) stale: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(600),
            gap: Duration::from_secs(30),
            deadline: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            stale: None,
        }
    }
}

/// The keys and the task that reads them; the task ends when this is dropped.
pub(super) struct Jwks {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    pace: Pace,
    _stop: DropGuard,
}

/// What the last reading gave.
struct State {
    keys: Arc<KeySet>,
    /// Attempts that have ended, good or bad.
    attempts: u64,
    /// When the last of them ended.
    ended: Option<Instant>,
    /// How many have failed since the last good one.
    failures: u32,
    /// When that was.
    good: Option<Instant>,
}

impl State {
    /// Whether the keys were read too long ago.
    fn is_stale(&self, pace: &Pace) -> bool {
        pace.stale.is_some_and(|stale| self.good.is_some_and(|good| good.elapsed() >= stale))
    }

    fn find(&self, kid: &str, algorithm: Algorithm, pace: &Pace) -> Found {
        if self.is_stale(pace) { Found::None } else { self.keys.find(kid, algorithm) }
    }
}

impl Jwks {
    pub(super) fn new(source: &JwksSource, pace: Pace) -> Result<Self, TokensError> {
        let wrong = |reason: String| TokensError::Jwks { place: source.to_string(), reason };
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| TokensError::NoRuntime)?;
        let mut state = State { keys: Arc::default(), attempts: 0, ended: None, failures: 0, good: None };
        let reader = match source {
            // A file that isn't there is a mistake in the settings, so it is seen now and not at the first token.
            JwksSource::File(path) => {
                let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
                if length > MAX_BYTES as u64 {
                    return Err(wrong("it is larger than 1 MiB".to_owned()));
                }
                let keys = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
                let keys = KeySet::read(&keys).map_err(wrong)?;
                if keys.len() == 0 {
                    return Err(wrong(
                        "it holds no key that can be used: each needs a kid and a type of Ed25519, P-256 or RSA (2048-4096 \
                         bits)"
                            .to_owned(),
                    ));
                }
                let now = Some(Instant::now());
                state = State { keys: Arc::new(keys), attempts: 1, ended: now, failures: 0, good: now };
                Reader::File(path.clone())
            }
            JwksSource::Url(url) => Reader::Url(outbound::client(pace.deadline).map_err(wrong)?, url.clone()),
        };
        let (sender, receiver) = watch::channel(state);
        let wanted = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let task = Task { reader, place: source.to_string(), pace, sender, wanted: Arc::clone(&wanted) };
        let stopped = stop.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run() => {}
            }
        });
        Ok(Self { state: receiver, wanted, pace, _stop: stop.drop_guard() })
    }

    /// The key of this name for this algorithm.
    pub(super) async fn key(&self, kid: &str, algorithm: Algorithm) -> Result<Arc<DecodingKey>, TokenError> {
        let (attempts, due) = {
            let state = self.state.borrow();
            match state.find(kid, algorithm, &self.pace) {
                Found::Key(key) => return Ok(key),
                Found::OtherAlgorithm => return Err(TokenError::Algorithm),
                Found::None => (state.attempts, state.ended.is_none_or(|at| at.elapsed() >= self.pace.gap)),
            }
        };
        if due {
            self.wanted.notify_one();
            let mut state = self.state.clone();
            // The reading has a deadline of its own; this one is for a task that is gone with its runtime.
            let patience = self.pace.deadline + Duration::from_secs(1);
            let _ = tokio::time::timeout(patience, state.wait_for(|state| state.attempts > attempts)).await;
        }
        let state = self.state.borrow();
        match state.find(kid, algorithm, &self.pace) {
            Found::Key(key) => Ok(key),
            Found::OtherAlgorithm => Err(TokenError::Algorithm),
            Found::None if state.failures > 0 || state.attempts == 0 || state.is_stale(&self.pace) => {
                Err(TokenError::KeysUnavailable)
            }
            Found::None => Err(TokenError::UnknownKey),
        }
    }
}

enum Reader {
    File(std::path::PathBuf),
    Url(reqwest::Client, reqwest::Url),
}

struct Task {
    reader: Reader,
    place: String,
    pace: Pace,
    sender: watch::Sender<State>,
    wanted: Arc<Notify>,
}

impl Task {
    /// Read, publish, sleep until the next reading is due or wanted; for ever.
    async fn run(self) {
        loop {
            let pause = {
                let state = self.sender.borrow();
                match (state.ended, state.failures) {
                    (None, _) => Duration::ZERO,
                    (_, 0) => self.pace.every,
                    (_, failures) => {
                        let longer = self.pace.retry.saturating_mul(1 << (failures - 1).min(16));
                        longer.min(self.pace.gap.max(self.pace.retry))
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted() => {}
            }
            self.read_once().await;
        }
    }

    /// Until a verifier asks for a reading and one is due. A wish that came while the last reading ran was answered by
    /// it, so it is forgotten.
    async fn wanted(&self) {
        loop {
            self.wanted.notified().await;
            if self.sender.borrow().ended.is_none_or(|at| at.elapsed() >= self.pace.gap) {
                return;
            }
        }
    }

    async fn read_once(&self) {
        let read = tokio::time::timeout(self.pace.deadline, self.reader.read()).await;
        let read = read.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.pace.deadline)));
        let keys = read.and_then(|bytes| KeySet::read(&bytes));
        match &keys {
            Ok(keys) => tracing::debug!(place = self.place, keys = keys.len(), "the public keys were read"),
            Err(reason) => {
                if self.sender.borrow().is_stale(&self.pace) {
                    tracing::error!(
                        place = self.place,
                        error = reason,
                        "the public keys can't be read, and those that were are older than KEEPSTEP_JWKS_STALE: no token that \
                         they sign is taken until they can"
                    );
                } else {
                    tracing::warn!(
                        place = self.place,
                        error = reason,
                        "reading the public keys failed; will retry"
                    );
                }
            }
        }
        let now = Instant::now();
        self.sender.send_modify(|state| {
            state.attempts += 1;
            state.ended = Some(now);
            match keys {
                Ok(keys) => {
                    state.keys = Arc::new(keys);
                    state.failures = 0;
                    state.good = Some(now);
                }
                Err(_) => state.failures = state.failures.saturating_add(1),
            }
        });
    }
}

impl Reader {
    async fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::File(path) => {
                use tokio::io::AsyncReadExt;
                let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
                let mut bytes = Vec::new();
                file.take(MAX_BYTES as u64 + 1)
                    .read_to_end(&mut bytes)
                    .await
                    .map_err(|error| error.to_string())?;
                within(bytes)
            }
            Self::Url(client, url) => {
                // The address may hold credentials: it is taken out of every error.
                let seen = |error: reqwest::Error| outbound::chain(&error.without_url());
                let mut answer = client.get(url.clone()).send().await.map_err(seen)?;
                if answer.status() != reqwest::StatusCode::OK {
                    return Err(format!("it answered {}", answer.status()));
                }
                let mut bytes = Vec::new();
                while let Some(chunk) = answer.chunk().await.map_err(seen)? {
                    bytes.extend_from_slice(&chunk);
                    if bytes.len() > MAX_BYTES {
                        break;
                    }
                }
                within(bytes)
            }
        }
    }
}

fn within(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if bytes.len() > MAX_BYTES { Err("it is larger than 1 MiB".to_owned()) } else { Ok(bytes) }
}
