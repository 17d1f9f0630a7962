//! The HTTP client of the commands.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::{Failure, table::plain, token::Signing};
use crate::outbound;

/// For one call. The first list of everything takes a server seconds, and a sweep half a minute.
const DEADLINE: Duration = Duration::from_secs(60);
/// Rows of one page.
const PAGE: usize = 1_000;
/// Lifetime of an admin token that is made for one command.
const TOKEN_TTL: Duration = Duration::from_secs(15 * 60);
/// User of such a token, for the audit log.
const OPERATOR: &str = "keepstep-cli";

/// The server's address and the admin's token.
#[derive(Args)]
pub(super) struct ServerArgs {
    /// URL of the server
    #[arg(
        long,
        global = true,
        env = "KEEPSTEP_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    url: String,
    /// User token of an admin [default: made from the secret]
    #[arg(long, global = true, env = "KEEPSTEP_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    #[command(flatten)]
    signing: Signing,
}

/// A client of one server.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Client {
    pub(super) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let base = Url::parse(args.url.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base = base.filter(|url| !url.cannot_be_a_base());
        let base =
            base.ok_or_else(|| Failure::usage("--url: write the server's address as http://host:port"))?;
        let given = args.token.clone().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let token = match given {
            Some(token) => token,
            None => {
                let operator = OPERATOR.parse().map_err(Failure::run)?;
                let issued = args.signing.issue(&operator, true, TOKEN_TTL)?.ok_or_else(|| {
                    Failure::usage(
                        "no admin token: give --token (KEEPSTEP_ADMIN_TOKEN), or KEEPSTEP_JWT_SECRET to make one",
                    )
                })?;
                issued.token
            }
        };
        Ok(Self { http: outbound::client(DEADLINE).map_err(Failure::run)?, base, token })
    }

    /// Makes one call and returns the answer's JSON.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let away = |error: reqwest::Error| {
            let reason = outbound::chain(&error.without_url());
            Failure::unreachable(format!(
                "{} can't be reached ({reason}): is the server running there?",
                self.place()
            ))
        };
        let answer = self.http.request(method, url).bearer_auth(&self.token).send().await.map_err(away)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(away)?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        match json {
            Some(json) if status.is_success() => Ok(json),
            json => Err(self.refusal(status, json.as_ref())),
        }
    }

    /// So many rows of a list (none: all), as one array, page by page; and the last page, for what stands beside the items.
    pub(super) async fn rows(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        most: Option<usize>,
    ) -> Result<(Vec<Value>, Value), Failure> {
        let mut items = Vec::new();
        let mut after = None::<String>;
        loop {
            let limit = most.map(|most| (most - items.len()).min(PAGE).to_string());
            let mut query = query.to_vec();
            query.extend(limit.as_deref().map(|limit| ("limit", limit)));
            query.extend(after.as_deref().map(|after| ("after", after)));
            let mut page = self.call(Method::GET, path, &query).await?;
            let Some(Value::Array(part)) = page.get_mut("items").map(Value::take) else {
                return Err(Failure::run(format!(
                    "{} answered without `items`: is it Keepstep?",
                    self.place()
                )));
            };
            let empty = part.is_empty();
            items.extend(part);
            let enough = most.is_some_and(|most| items.len() >= most);
            match page.get("next").and_then(Value::as_str) {
                // A server that returns the same `next` again would be asked for ever.
                Some(next) if !empty && !enough && after.as_deref() != Some(next) => {
                    after = Some(next.to_owned());
                }
                _ => return Ok((items, page)),
            }
        }
    }

    fn place(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn refusal(&self, status: StatusCode, problem: Option<&Value>) -> Failure {
        let field = |name: &str| problem.and_then(|p| p.get(name)).filter(|v| v.is_string()).map(plain);
        let said = field("detail").or_else(|| field("title"));
        let request = field("request_id").map(|id| format!(", request {id}")).unwrap_or_default();
        let text = match (said, field("code")) {
            (Some(said), Some(code)) => format!("{said} ({status}, {code}{request})"),
            (Some(said), None) => format!("{said} ({status})"),
            (None, _) => format!("{} answered {status} and no JSON: is it Keepstep?", self.place()),
        };
        match status {
            // Of a load balancer without a server behind it.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Failure::unreachable(text),
            _ => Failure::run(text),
        }
    }
}
