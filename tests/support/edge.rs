//! The real `keepstep` binary, serving.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::daemon::{Daemon, Ready, daemon};
use super::net::{free_port, http_ask, http_get};
use super::nsq::{Lookupd, Nsqd};
use super::process::{Process, START_LIMIT, temp_folder};
use super::redis::Redis;
use super::slow::SlowLink;
use super::wait::wait_until;

/// The secret of every edge in tests, unless one is set: tests sign their users' tokens with it.
pub const JWT_SECRET: &str = "a secret of tests alone, 32 bytes or more";

/// The guarantee is 10 s.
const ENDING: Duration = Duration::from_secs(15);

/// The settings of an edge: environment variables, as in production.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    env: BTreeMap<String, String>,
    terminal: bool,
}

impl EdgeConfig {
    /// Embedded mode, in memory.
    pub fn embedded() -> EdgeConfig {
        EdgeConfig { env: BTreeMap::new(), terminal: false }.set("KEEPSTEP_JWT_SECRET", JWT_SECRET)
    }

    /// On Redis, nsqd and nsqlookupd.
    pub fn on<'a>(
        redis: &Redis,
        nsqd: impl IntoIterator<Item = &'a Nsqd>,
        lookupd: Option<&Lookupd>,
    ) -> EdgeConfig {
        let nsqd: Vec<String> = nsqd.into_iter().map(Nsqd::http).collect();
        EdgeConfig::embedded()
            .set("KEEPSTEP_REDIS_URL", redis.url())
            .set("KEEPSTEP_NSQD", nsqd.join(","))
            .set("KEEPSTEP_NSQLOOKUPD", lookupd.map(Lookupd::http).unwrap_or_default())
    }

    /// Sets any variable; `KEEPSTEP_LISTEN` and `KEEPSTEP_OPS_LISTEN` are the edge's own.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> EdgeConfig {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Lets it write to a terminal.
    pub fn on_a_terminal(mut self) -> EdgeConfig {
        self.terminal = true;
        self
    }

    /// Removes a variable.
    pub fn unset(mut self, name: &str) -> EdgeConfig {
        self.env.remove(name);
        self
    }
}

/// One edge.
#[derive(Debug)]
pub struct Edge {
    daemon: Daemon,
    listen: u16,
    ops: u16,
}

daemon!(Edge);

impl Edge {
    /// Starts an edge and waits until it is alive (`/healthz`), not until it is ready: see `ready`.
    pub async fn start(config: EdgeConfig) -> Edge {
        Daemon::start(|| Edge::describe(&config)).await
    }

    /// The same with another program than this build's.
    pub async fn start_program(program: PathBuf, config: EdgeConfig) -> Edge {
        Daemon::start(|| Edge::describe_program(program.clone(), &config)).await
    }

    /// Starts an edge that reaches Redis over this link, and waits until it is ready.
    pub async fn start_behind(link: &SlowLink, config: EdgeConfig) -> Edge {
        let edge = Edge::start(config.set("KEEPSTEP_REDIS_URL", format!("redis://{}/", link.addr()))).await;
        edge.ready().await;
        edge
    }

    /// Starts an edge that must refuse its settings; returns its exit status and its output.
    pub async fn refused(config: EdgeConfig) -> (ExitStatus, String) {
        let mut edge = Edge::describe(&config);
        edge.process().spawn();
        let status = edge.process().wait(START_LIMIT).await;
        let Some(status) = status else { panic!("the edge runs; it should have refused to start") };
        (status, edge.process().log())
    }

    /// Starts an edge that may refuse to start: returns the edge when it is alive, otherwise its output.
    pub async fn attempt(config: EdgeConfig) -> Result<Edge, String> {
        let mut edge = Edge::describe(&config);
        edge.try_restart().await.map(|()| edge)
    }

    /// `127.0.0.1:port` of clients.
    pub fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.listen)
    }

    /// `127.0.0.1:port` of health and metrics.
    pub fn ops(&self) -> String {
        format!("127.0.0.1:{}", self.ops)
    }

    /// `http://127.0.0.1:port{path}` for clients.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listen())
    }

    /// `ws://127.0.0.1:port/v1/socket`
    pub fn socket_url(&self) -> String {
        format!("ws://{}/v1/socket", self.listen())
    }

    /// Waits until it is ready (`/readyz`).
    pub async fn ready(&self) {
        let ops = self.ops();
        wait_until("the edge's /readyz to answer 200", START_LIMIT, || async {
            matches!(http_get(&ops, "/readyz").await, Ok((200, _))).then_some(())
        })
        .await;
    }

    /// Returns one number of `/metrics`: the sample with exactly this name and labels; 0 if there is none yet.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (status, body) = http_ask(&self.ops(), "/metrics").await;
        assert_eq!(status, 200, "{body}");
        let value = body.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().expect("a metric is a number"))
    }

    fn describe(config: &EdgeConfig) -> Edge {
        // Cargo sets it for the integration tests of the server's own crate alone.
        let Some(program) = option_env!("CARGO_BIN_EXE_keepstep") else {
            panic!("an edge needs a test of the keepstep crate");
        };
        Edge::describe_program(PathBuf::from(program), config)
    }

    fn describe_program(program: PathBuf, config: &EdgeConfig) -> Edge {
        let (listen, ops, folder) = (free_port(), free_port(), temp_folder("edge"));
        let mut env = config.env.clone();
        env.insert("KEEPSTEP_LISTEN".to_owned(), format!("127.0.0.1:{listen}"));
        env.insert("KEEPSTEP_OPS_LISTEN".to_owned(), format!("127.0.0.1:{ops}"));
        let process = Process::new(format!("edge {listen}"), program, folder.path().join("edge.log"))
            .arg("serve")
            .env(env);
        let process = if config.terminal { process.on_a_terminal() } else { process };
        let ready = Ready::Ok(format!("127.0.0.1:{ops}"), "/healthz");
        Edge { daemon: Daemon::new(process, folder, ready, ENDING), listen, ops }
    }
}
