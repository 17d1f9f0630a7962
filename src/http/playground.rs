//! The playground: test users for everyone who opens the demo page. Off (`404`) where users are real.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use warp::{http::StatusCode, reply::Response};

use super::{
    Request,
    body::Body,
    cors, host,
    respond::{json, ok},
};
use crate::{
    domain::{id::UserId, network::Network},
    protocol::{ErrorCode, Problem},
};

const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Pairs of users per minute, of all visitors. Nothing is stored until they register devices.
const PER_MINUTE: u64 = 120;
/// Pairs of users per minute and address.
const PER_ADDRESS: u32 = 60;
// Without letters and digits that look alike, so that a name can be read out.
const ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";

/// What the demo page is told about the deployment.
#[derive(Debug, Clone, Default)]
pub struct Playground {
    /// URLs of other edges for browsers.
    pub edges: Vec<String>,
    /// The second edge of this process.
    pub second: Option<SocketAddr>,
}

impl Playground {
    /// Returns the URLs of other edges, for a browser that reaches this one at `host`.
    pub(super) fn edges(&self, host: Option<&str>) -> Vec<String> {
        let second = self.second.map(|address| match host {
            // With the browser's name of this host: the browser may be on another machine.
            Some(host) if !address.ip().is_loopback() || is_loopback(host) => {
                let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
                format!("http://{}:{}", name.map_or(host, |(name, _)| name), address.port())
            }
            _ => format!("http://{address}"),
        });
        second.into_iter().chain(self.edges.iter().cloned()).collect()
    }
}

fn is_loopback(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize)]
struct Player {
    user: UserId,
    token: String,
}

/// `GET /v1/playground`: whether it is on. The demo page asks before it takes a token from its address.
pub(super) async fn look(request: Request) -> Result<Response, Problem> {
    there(&request).map(|_| ok(&serde_json::json!({ "playground": true })))
}

fn there(request: &Request) -> Result<&Playground, Problem> {
    let detail = "this server has no playground: start it embedded, or with KEEPSTEP_PLAYGROUND=true";
    request.context.playground.as_deref().ok_or_else(|| Problem::new(ErrorCode::NotFound, detail))
}

/// `POST /v1/playground`.
pub(super) async fn open(request: Request, body: Body) -> Result<Response, Problem> {
    let playground = there(&request)?;
    cors::may_ask(&request.context.server.allowed_origins, &request.headers)?;
    let Nothing {} = body.at_most(512).json_or_nothing(&request).await?;
    let core = &request.context.core;
    core.limit("playground", Network::from(request.address), PER_ADDRESS).await?;
    if core.store.count("playground", MINUTE).await? > PER_MINUTE {
        let detail = "too many people came to the playground in this minute: try again in the next";
        return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(60));
    }
    // Both names end with the same 40 random bits, so that nobody guesses or gets those of others.
    let ending: String =
        rand::random::<[u8; 8]>().iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect();
    let player = |name: &str| {
        let user: UserId = format!("{name}-{ending}").parse().ok()?;
        let token = request.context.tokens.issue_user(&user, false, GOOD_FOR).ok()?.token;
        Some(Player { user, token })
    };
    let (Some(alice), Some(bob)) = (player("alice"), player("bob")) else {
        tracing::error!("playground tokens not issued");
        return Err(Problem::new(ErrorCode::Unavailable, "no users can be made up now: try again"));
    };
    let mut answer = serde_json::json!({ "users": [alice, bob] });
    if let Some(edge) = playground.edges(host(&request.headers)).into_iter().next() {
        answer["second_edge"] = edge.into();
    }
    Ok(json(StatusCode::OK, &answer))
}

#[cfg(test)]
#[path = "../../tests/unit/http/playground.rs"]
mod tests;
