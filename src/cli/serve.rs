//! `keepstep serve`: the settings are good, so run.

use std::time::Duration;

use super::{Failure, print};
use crate::{config::Config, tokens::Tokens};

pub(super) const EXAMPLES: &str = "\
Examples:
  keepstep
      Embedded: nothing else to install, nothing kept after the end. Without KEEPSTEP_JWT_SECRET it makes a secret and
      prints a user token.
  KEEPSTEP_JWT_SECRET=$(openssl rand -hex 32) keepstep serve --listen 0.0.0.0:8080 \\
      --redis-url redis://127.0.0.1:6379 --nsqd 127.0.0.1:4151 --nsqlookupd 127.0.0.1:4161
      A deployment: every edge gets the same secret, Redis and list of nsqd.";

/// For whom the embedded mode prints a token when it has made the secret itself.
const READY_USER: &str = "demo";
const READY_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// When it can't start or breaks.
pub async fn run(config: Config) -> Result<(), Failure> {
    if config.tokens.generated {
        print(&ready_token(&config)?)?;
    }
    crate::app::run(config).await.map_err(Failure::run)
}

/// With a secret that nobody else knows, nobody could come in. So one token is printed: to the standard output, which is
/// not the log.
fn ready_token(config: &Config) -> Result<String, Failure> {
    let tokens = Tokens::new(&config.tokens).map_err(Failure::run)?;
    let user = READY_USER.parse().map_err(Failure::run)?;
    let issued = tokens.issue_user(&user, false, READY_TTL).map_err(Failure::run)?;
    Ok(format!(
        "No KEEPSTEP_JWT_SECRET is set, so one was made for this run. A token of the user `{READY_USER}`, good until this \
         process ends:\n{}",
        issued.token
    ))
}
