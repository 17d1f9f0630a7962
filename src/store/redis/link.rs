//! One permanent connection to Redis: opened, watched, and reopened by its own task.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::sleep,
};

use super::{
    error::{failure, in_words, is_misled, is_refusal, timed_out},
    identity::Identity,
    patience::{answered, within},
    script::{self, Call},
};
use crate::store::{Result, StoreError};

/// How often an idle connection is pinged; this finds a half-open one.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How many commands may wait to be written; beyond that their callers wait, against their own deadline.
const PIPELINE: usize = 1024;

/// Opens one connection. `push` receives unsolicited messages, and the connection's end; it must not block. Requests on
/// it have no deadline of their own: the caller has one (see `patience`).
pub(super) async fn open(
    client: &Client,
    deadline: Duration,
    push: impl Fn(PushInfo) + Send + Sync + 'static,
) -> std::result::Result<MultiplexedConnection, RedisError> {
    let push = move |info| -> std::result::Result<(), ()> {
        push(info);
        Ok(())
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(PIPELINE)
        .set_push_sender(push);
    answered(deadline, client.get_multiplexed_async_connection_with_config(&config)).await
}

/// Waits longer with each failure, up to two seconds, with jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn next(&mut self) -> Duration {
        let most = (50 << self.failures.min(6)).min(2_000);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(rand::random_range(most / 2..=most))
    }
}

#[derive(Debug, Clone)]
enum State {
    Starting,
    Up(MultiplexedConnection),
    Down(String),
}

/// A handle on the permanent connection. Dropping the last one ends the task and the connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    /// Why the server accepts no writes now.
    refusal: watch::Receiver<Option<String>>,
    suspect: Arc<Notify>,
    deadline: Duration,
    _task: Arc<AbortOnDrop>,
}

/// Aborts a task when its owner is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Starts to connect, in the background. `name` is for the log.
    pub(super) fn start(name: &'static str, client: Client, identity: Identity, deadline: Duration) -> Self {
        let ((sender, state), (refuses, refusal)) = (watch::channel(State::Starting), watch::channel(None));
        let suspect = Arc::new(Notify::new());
        let kept = Kept { name, client, identity, deadline, state: sender, refusal: refuses };
        let task = tokio::spawn(kept.keep(Arc::clone(&suspect)));
        Self { state, refusal, suspect, deadline, _task: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Waits until the first attempt to connect has succeeded or failed.
    pub(super) async fn tried(&self) {
        let _ = self.state.clone().wait_for(|state| !matches!(state, State::Starting)).await;
    }

    /// Returns whether it is connected, and the server answered the last ping.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Returns why the server accepts no writes now, though it can be read.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.borrow().clone()
    }

    /// Runs one command.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value> {
        self.raw(command).await?.map_err(|err| failure(&err))
    }

    /// Runs some commands, sent together, each with its own answer; the first error counts for all.
    pub(super) async fn run_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.raw_all(pipeline).await?;
        values.into_iter().map(|value| value.extract_error().map_err(|err| failure(&err))).collect()
    }

    /// Runs one script.
    pub(super) async fn eval(&self, call: &Call) -> Result<Value> {
        match self.raw(call.command()).await? {
            Err(err) if missing(&err) => {
                self.again(async {
                    self.run_all(&script::load_all()).await?;
                    self.run(call.command()).await
                })
                .await
            }
            other => other.map_err(|err| failure(&err)),
        }
    }

    /// Runs some scripts, sent together. Each must be idempotent: a script that Redis forgot makes all run again.
    pub(super) async fn eval_all(&self, calls: &[Call]) -> Result<Vec<Value>> {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            pipeline.add_command(call.command().clone());
        }
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.raw_all(&pipeline).await?;
        let forgotten = |value: &Value| matches!(value, Value::ServerError(err) if err.code() == "NOSCRIPT");
        if values.iter().any(forgotten) {
            let again = async {
                self.run_all(&script::load_all()).await?;
                self.run_all(&pipeline).await
            };
            return self.again(again).await;
        }
        values.into_iter().map(|value| value.extract_error().map_err(|err| failure(&err))).collect()
    }

    /// Runs one command and returns the server's own words: the inner error is its answer, the outer one means that
    /// there was none.
    pub(super) async fn raw(&self, command: &Cmd) -> Result<std::result::Result<Value, RedisError>> {
        let mut connection = self.connection()?;
        match answered(self.deadline, connection.req_packed_command(command)).await {
            Ok(value) => {
                let answer = value.extract_error();
                self.heed(answer.as_ref().err().and_then(RedisError::code));
                Ok(answer)
            }
            Err(err) => Err(self.unanswered(&err)),
        }
    }

    async fn raw_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let mut connection = self.connection()?;
        let commands = pipeline.len();
        // A transaction has one answer, behind an OK for MULTI and a QUEUED for each command.
        let (skip, take) = if pipeline.is_transaction() { (commands + 1, 1) } else { (0, commands) };
        let sent = connection.send_packed_commands(pipeline, skip, take);
        let mut values = match answered(self.deadline, sent).await {
            Ok(values) => values,
            Err(err) => return Err(self.unanswered(&err)),
        };
        for value in &values {
            if let Value::ServerError(err) = value {
                self.heed(Some(err.code()));
            }
        }
        match values.pop() {
            Some(Value::Array(answers)) if pipeline.is_transaction() => Ok(answers),
            last => {
                values.extend(last);
                Ok(values)
            }
        }
    }

    // All retries for a forgotten script share one deadline.
    async fn again<T>(&self, steps: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.deadline, steps).await.unwrap_or_else(|| Err(failure(&timed_out())))
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn connection(&self) -> Result<MultiplexedConnection> {
        match &*self.state.borrow() {
            State::Up(connection) => Ok(connection.clone()),
            State::Starting => Err(StoreError::Unavailable("not connected to Redis yet".into())),
            State::Down(reason) => Err(StoreError::Unavailable(reason.clone())),
        }
    }

    /// Triggers a check at once if the server's answer shows that it may have changed.
    fn heed(&self, code: Option<&str>) {
        if is_misled(code) || (is_refusal(code) && self.refusal.borrow().is_none()) {
            self.suspect.notify_one();
        }
    }

    fn unanswered(&self, err: &RedisError) -> StoreError {
        self.suspect.notify_one();
        failure(err)
    }
}

fn missing(err: &RedisError) -> bool {
    err.code() == Some("NOSCRIPT")
}

/// The state of the connection's task.
struct Kept {
    name: &'static str,
    client: Client,
    identity: Identity,
    deadline: Duration,
    state: watch::Sender<State>,
    refusal: watch::Sender<Option<String>>,
}

impl Kept {
    /// Connects, checks that the server is the same store and the primary, loads the scripts, and publishes the
    /// connection to the callers. Then checks all of that again every second, and at once after a caller got no answer
    /// or a suspect one, or after the connection's end. If a check fails, withdraws the connection (so that callers
    /// fail fast instead of waiting) and starts again.
    async fn keep(self, suspect: Arc<Notify>) {
        let mut backoff = Backoff::default();
        loop {
            let gone = Arc::clone(&suspect);
            let push = move |info: PushInfo| {
                if info.kind == PushKind::Disconnection {
                    gone.notify_one();
                }
            };
            let link = self.name;
            match self.prepared(open(&self.client, self.deadline, push)).await {
                Ok(connection) => {
                    backoff.reset();
                    tracing::info!(link, "connected to Redis");
                    self.state.send_replace(State::Up(connection.clone()));
                    let reason = self.watch_over(connection, &suspect).await;
                    tracing::warn!(link, error = %reason, "connection to Redis lost; reconnecting");
                    self.state.send_replace(State::Down(reason));
                    self.refusal.send_replace(None);
                }
                Err(err) => {
                    let reason = in_words(&err);
                    let told = matches!(&*self.state.borrow(), State::Down(known) if *known == reason);
                    if !told {
                        tracing::warn!(link, error = reason, "Redis is not usable; retrying");
                    }
                    self.state.send_replace(State::Down(reason));
                }
            }
            sleep(backoff.next()).await;
        }
    }

    async fn prepared(
        &self,
        opening: impl Future<Output = std::result::Result<MultiplexedConnection, RedisError>>,
    ) -> std::result::Result<MultiplexedConnection, RedisError> {
        let mut connection = opening.await?;
        let refusal = self.identity.check(&mut connection, self.deadline).await?;
        let load = script::load_all();
        let loaded = connection.send_packed_commands(&load, 0, load.len());
        for value in answered(self.deadline, loaded).await? {
            value.extract_error()?;
        }
        self.refuses(refusal.as_ref());
        Ok(connection)
    }

    async fn watch_over(&self, mut connection: MultiplexedConnection, suspect: &Notify) -> String {
        loop {
            tokio::select! {
                () = suspect.notified() => {}
                () = sleep(PING_EVERY) => {}
            }
            match self.identity.check(&mut connection, self.deadline).await {
                Ok(refusal) => self.refuses(refusal.as_ref()),
                Err(err) => return in_words(&err),
            }
        }
    }

    /// Records whether the server accepts writes; logs a change.
    fn refuses(&self, refusal: Option<&RedisError>) {
        let reason = refusal.map(in_words);
        let was = self.refusal.send_replace(reason.clone());
        match (was, reason) {
            (None, Some(error)) => tracing::error!(link = self.name, error, "Redis refuses writes"),
            (Some(_), None) => tracing::info!(link = self.name, "Redis takes writes again"),
            _ => {}
        }
    }
}
