//! One connection to Redis that is kept for ever: opened, watched, and opened again by a task of its own.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    error::{failure, timed_out},
    identity::Identity,
    script::{self, Call},
};
use crate::store::{Result, StoreError};

/// How often an idle connection is asked whether it lives: what finds a half-open one.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How many commands may wait to be written; behind that their callers wait, against their own deadline.
const PIPELINE: usize = 1024;

/// Opens one connection. `push` gets what comes without being asked for, and the news of its end; it must not block.
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
        .set_connection_timeout(Some(deadline))
        .set_response_timeout(Some(deadline))
        .set_pipeline_buffer_size(PIPELINE)
        .set_push_sender(push);
    // The crate's own limit doesn't cover the handshake behind the connect.
    match timeout(deadline, client.get_multiplexed_async_connection_with_config(&config)).await {
        Ok(opened) => opened,
        Err(_) => Err(timed_out()),
    }
}

/// Waits longer with each failure, up to two seconds, and never as long as its neighbour.
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

/// A handle on the kept connection. Dropping the last one ends the task and the connection.
#[derive(Debug, Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    suspect: Arc<Notify>,
    deadline: Duration,
    _task: Arc<AbortOnDrop>,
}

/// Ends a task with its owner.
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
        let (sender, state) = watch::channel(State::Starting);
        let suspect = Arc::new(Notify::new());
        let task = tokio::spawn(keep(name, client, identity, deadline, sender, Arc::clone(&suspect)));
        Self { state, suspect, deadline, _task: Arc::new(AbortOnDrop(task.abort_handle())) }
    }

    /// Waits until the first attempt to connect has succeeded or failed.
    pub(super) async fn tried(&self) {
        let _ = self.state.clone().wait_for(|state| !matches!(state, State::Starting)).await;
    }

    /// Whether it is connected, and the server answered when it was last asked.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// One command.
    pub(super) async fn run(&self, command: &Cmd) -> Result<Value> {
        self.raw(command).await?.map_err(|err| failure(&err))
    }

    /// Some commands, sent together, each answered for itself; the first error counts for all.
    pub(super) async fn run_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.raw_all(pipeline).await?;
        values.into_iter().map(|value| value.extract_error().map_err(|err| failure(&err))).collect()
    }

    /// One script.
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

    /// Some calls of scripts, sent together. Each must be idempotent: a forgotten script makes all run again.
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

    /// One command, with the server's own words: the inner error is its answer, the outer one says that there was none.
    pub(super) async fn raw(&self, command: &Cmd) -> Result<std::result::Result<Value, RedisError>> {
        let mut connection = self.connection()?;
        match connection.req_packed_command(command).await {
            Ok(value) => Ok(value.extract_error()),
            Err(err) => Err(self.unanswered(&err)),
        }
    }

    async fn raw_all(&self, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let mut connection = self.connection()?;
        let commands = pipeline.len();
        // A transaction is answered once, behind an OK for MULTI and a QUEUED for each command.
        let (skip, take) = if pipeline.is_transaction() { (commands + 1, 1) } else { (0, commands) };
        let mut values = match connection.send_packed_commands(pipeline, skip, take).await {
            Ok(values) => values,
            Err(err) => return Err(self.unanswered(&err)),
        };
        match values.pop() {
            Some(Value::Array(answers)) if pipeline.is_transaction() => Ok(answers),
            last => {
                values.extend(last);
                Ok(values)
            }
        }
    }

    // What a forgotten script costs has one deadline in all.
    async fn again<T>(&self, steps: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(self.deadline, steps).await.unwrap_or_else(|_| Err(failure(&timed_out())))
    }

    pub(super) fn connection(&self) -> Result<MultiplexedConnection> {
        match &*self.state.borrow() {
            State::Up(connection) => Ok(connection.clone()),
            State::Starting => Err(StoreError::Unavailable("not connected to Redis yet".into())),
            State::Down(reason) => Err(StoreError::Unavailable(reason.clone())),
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

/// Connects, looks whether it is the store that it was, loads the scripts, shows the connection to the callers; then asks
/// it every second, and at once when a caller got no answer or the connection said goodbye, whether it lives and still is
/// that store. When not: takes it away (so that callers fail fast instead of waiting) and begins again.
async fn keep(
    name: &'static str,
    client: Client,
    identity: Identity,
    deadline: Duration,
    state: watch::Sender<State>,
    suspect: Arc<Notify>,
) {
    let mut backoff = Backoff::default();
    loop {
        let gone = Arc::clone(&suspect);
        let push = move |info: PushInfo| {
            if info.kind == PushKind::Disconnection {
                gone.notify_one();
            }
        };
        match prepared(open(&client, deadline, push), &identity).await {
            Ok(connection) => {
                backoff.reset();
                tracing::info!(link = name, "connected to Redis");
                state.send_replace(State::Up(connection.clone()));
                let reason = watch_over(connection, &identity, &suspect).await;
                tracing::warn!(link = name, error = %reason, "lost the connection to Redis; trying again");
                state.send_replace(State::Down(reason));
            }
            Err(err) => {
                let reason = err.to_string();
                let told = matches!(&*state.borrow(), State::Down(known) if *known == reason);
                if !told {
                    tracing::warn!(link = name, error = reason, "can't use Redis; trying again");
                }
                state.send_replace(State::Down(reason));
            }
        }
        sleep(backoff.next()).await;
    }
}

async fn prepared(
    opening: impl Future<Output = std::result::Result<MultiplexedConnection, RedisError>>,
    identity: &Identity,
) -> std::result::Result<MultiplexedConnection, RedisError> {
    let mut connection = opening.await?;
    identity.check(&mut connection).await?;
    let load = script::load_all();
    for value in connection.send_packed_commands(&load, 0, load.len()).await? {
        value.extract_error()?;
    }
    Ok(connection)
}

async fn watch_over(mut connection: MultiplexedConnection, identity: &Identity, suspect: &Notify) -> String {
    loop {
        tokio::select! {
            () = suspect.notified() => {}
            () = sleep(PING_EVERY) => {}
        }
        if let Err(err) = identity.check(&mut connection).await {
            return err.to_string();
        }
    }
}
