//! Where the day is played: one server in this process, two edges on the real stack, or one that runs elsewhere.

use std::time::{Duration, Instant};

use keepstep_client::{Api, ApiError};
use reqwest::Url;
use tokio::{sync::oneshot, task::JoinHandle};

use super::{DemoArgs, PATIENCE, cast::Role};
use crate::{
    app::App,
    cli::Failure,
    config::{Backend, Config, NsqConfig, RedisConfig, RedisUrl},
    outbound,
    tokens::Tokens,
};

const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// What the demo runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// In memory, in this process.
    Embedded,
    /// Two edges in this process on Redis and nsqd that run elsewhere.
    Stack,
    /// A server that somebody else runs.
    Remote,
}

/// Where an edge is.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Of its API.
    pub base: Url,
    ops: Option<Url>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unreachable(_) => Self::unreachable(error),
            _ => Self::run(error),
        }
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), crate::app::AppError>>,
}

/// The servers, and who may talk to them.
pub struct Stage {
    /// What it is.
    pub ground: Ground,
    /// The phones' edge first, then that of the web sessions (the same, if there is one).
    edges: Vec<Edge>,
    running: Vec<Running>,
    http: reqwest::Client,
    signing: Issuer,
}

enum Issuer {
    Own(Tokens),
    Given(super::Signing),
}

impl Stage {
    /// Starts what is to be started.
    ///
    /// # Errors
    /// A setting that can't be used, or a server that isn't there.
    pub async fn set(args: DemoArgs) -> Result<Self, Failure> {
        let http = outbound::client(PATIENCE).map_err(Failure::run)?;
        if let Some(url) = &args.url {
            let base =
                Url::parse(url.trim()).ok().filter(|url| url.scheme() == "http" && url.host_str().is_some());
            let base =
                base.ok_or_else(|| Failure::usage("--url: write the server's address as http://host:port"))?;
            let edges = vec![Edge { base, ops: None }];
            let signing = Issuer::Given(args.signing);
            return Ok(Self { ground: Ground::Remote, edges, running: Vec::new(), http, signing });
        }
        let first = Config::embedded();
        let signing = Issuer::Own(Tokens::new(&first.tokens).map_err(Failure::run)?);
        let configs = match real(&args)? {
            None => vec![first],
            Some(backend) => {
                // The same secret, another name.
                let second =
                    Config { tokens: first.tokens.clone(), backend: backend.clone(), ..Config::embedded() };
                vec![Config { backend, ..first }, second]
            }
        };
        let ground = if configs.len() == 1 { Ground::Embedded } else { Ground::Stack };
        let mut stage = Self { ground, edges: Vec::new(), running: Vec::new(), http, signing };
        for config in configs {
            let app = App::build(config).await.map_err(Failure::run)?;
            let (api, ops) = (app.address().map_err(Failure::run)?, app.ops_address().map_err(Failure::run)?);
            let at = |address| Url::parse(&format!("http://{address}")).map_err(Failure::run);
            stage.edges.push(Edge { base: at(api)?, ops: Some(at(ops)?) });
            let (stop, stopped) = oneshot::channel();
            // A sender that is dropped stops it too.
            let task = tokio::spawn(app.run(async move { drop(stopped.await) }));
            stage.running.push(Running { stop, task });
        }
        for edge in &stage.edges {
            stage.ready(edge).await?;
        }
        Ok(stage)
    }

    /// Whose edge it is: phones on the first, web sessions on the last.
    #[must_use]
    pub fn edge(&self, role: Role) -> &Edge {
        let at = if role.is_main() { 0 } else { self.edges.len().saturating_sub(1) };
        // There is always one: `set` puts it there.
        &self.edges[at]
    }

    /// All edges.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// A user token.
    ///
    /// # Errors
    /// When there is nothing to sign it with.
    pub fn token(&self, user: &str, admin: bool) -> Result<String, Failure> {
        let user = user.parse().map_err(Failure::run)?;
        match &self.signing {
            Issuer::Own(tokens) => {
                tokens.issue_user(&user, admin, TOKEN_TTL).map(|it| it.token).map_err(Failure::run)
            }
            Issuer::Given(signing) => {
                signing.issue(&user, admin, TOKEN_TTL)?.map(|it| it.token).ok_or_else(|| {
                    Failure::usage(
                        "--url needs the server's secret to make users with: set KEEPSTEP_JWT_SECRET to it",
                    )
                })
            }
        }
    }

    /// The HTTP API of a device's edge, with a token.
    ///
    /// # Errors
    /// When its address can't be used.
    pub fn api(&self, role: Role, token: &str) -> Result<Api, Failure> {
        Ok(Api::new(self.edge(role).base.as_str())?.with_token(token))
    }

    /// The sum of one sample over all edges of this process; none when their metrics aren't to be had.
    pub async fn metric(&self, sample: &str) -> Option<u64> {
        let mut sum = 0;
        for edge in &self.edges {
            let url = edge.ops.as_ref()?.join("metrics").ok()?;
            let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
            let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
            sum += value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0);
        }
        Some(sum)
    }

    async fn ready(&self, edge: &Edge) -> Result<(), Failure> {
        let Some(url) = edge.ops.as_ref().and_then(|ops| ops.join("readyz").ok()) else { return Ok(()) };
        let until = Instant::now() + PATIENCE;
        loop {
            let reason = match self.http.get(url.clone()).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => outbound::chain(&error.without_url()),
            };
            if Instant::now() >= until {
                let waited = PATIENCE.as_secs();
                return Err(Failure::unreachable(format!(
                    "waited {waited} s in vain for the edge to be ready: {reason}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops and drains the servers of this process; how long that took.
    ///
    /// # Errors
    /// When one of them doesn't end.
    pub async fn strike(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let running: Vec<Running> = self.running.drain(..).collect();
        let tasks: Vec<_> = running
            .into_iter()
            .map(|running| {
                let _ = running.stop.send(());
                running.task
            })
            .collect();
        for task in tasks {
            // The server's own deadline for a drain is 10 s.
            match tokio::time::timeout(PATIENCE * 2, task).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Err(Failure::run(error)),
                Ok(Err(error)) => return Err(Failure::run(format!("a server of the demo broke: {error}"))),
                Err(_) => {
                    return Err(Failure::run(
                        "waited 20 s in vain for a server of the demo to drain and end",
                    ));
                }
            }
        }
        Ok(begun.elapsed())
    }
}

/// Redis and nsqd, when both are named.
fn real(args: &DemoArgs) -> Result<Option<Backend>, Failure> {
    let given = |text: &Option<String>| {
        text.as_ref().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let list = |text: &Option<String>| -> Vec<String> {
        let items = text.as_deref().unwrap_or_default().split(',').map(str::trim);
        items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let (redis, nsqd) = match (given(&args.redis), given(&args.nsqd)) {
        (None, None) => return Ok(None),
        (Some(redis), Some(nsqd)) => (redis, nsqd),
        (Some(_), None) => {
            return Err(Failure::usage("--redis needs --nsqd beside it: the HTTP addresses of every nsqd"));
        }
        (None, Some(_)) => {
            return Err(Failure::usage("--nsqd needs --redis beside it, such as redis://127.0.0.1:6379"));
        }
    };
    Ok(Some(Backend::Real {
        // Nothing of the demo has to outlive it, so a Redis that may forget is good enough.
        redis: RedisConfig {
            url: RedisUrl::new(&redis)?,
            allow_volatile: true,
            trusted: false,
            prefix: args.redis_prefix.clone(),
        },
        nsq: NsqConfig { nsqd: list(&Some(nsqd)), nsqlookupd: list(&args.nsqlookupd) },
    }))
}
