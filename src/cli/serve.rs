//! `keepstep serve`: the settings are good, so run.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, print};
use crate::{
    app::App,
    config::{Backend, Config},
    tokens::Tokens,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  keepstep
      Embedded: nothing else to install, nothing kept after the end. Without KEEPSTEP_JWT_SECRET it makes a secret and
      prints a user token.
  KEEPSTEP_JWT_SECRET=$(openssl rand -hex 32) keepstep serve --listen 0.0.0.0:8080 \\
      --redis-url redis://127.0.0.1:6379 --nsqd 127.0.0.1:4151 --nsqlookupd 127.0.0.1:4161
      A deployment: every edge gets the same secret, Redis and list of nsqd.";

const READY_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Runs an edge until SIGTERM or SIGINT, then drains it.
///
/// # Errors
///
/// When it can't start or breaks.
pub async fn run(config: Config) -> Result<(), Failure> {
    let embedded = matches!(config.backend, Backend::Embedded);
    let edge = config.edge.clone();
    let ready = if config.tokens.generated { Some(ready_tokens(&config)?) } else { None };
    if embedded {
        tracing::info!("embedded mode: store and queues are in this process's memory, and end with it");
    }
    let app = App::build(config).await.map_err(Failure::run)?;
    let (address, ops) = (app.address().map_err(Failure::run)?, app.ops_address().map_err(Failure::run)?);
    tracing::info!(%edge, "serving on http://{address}, health and metrics on http://{ops}");
    if let Some(ready) = ready {
        print(&ready)?;
    }
    if embedded {
        print(&try_next(&address.to_string()))?;
    }
    app.run(signalled()).await.map_err(Failure::run)
}

/// What somebody who has just started it may want to see.
fn try_next(address: &str) -> String {
    format!(
        "\nTry next: open http://{address}/ in a browser, and http://{address}/admin with the admin's token.\n\
         Or, in another terminal:\n  \
         cargo run --release -- demo          a day of two users, their phones and web sessions\n  \
         curl -s http://{address}/v1/chats -H \"Authorization: Bearer $TOKEN\"\n  \
         keepstep token --help                tokens for more users, with a KEEPSTEP_JWT_SECRET of your own\n\
         A deployment over Redis and NSQ: keepstep serve --help, docker-compose.yml, scripts/dev"
    )
}

async fn signalled() {
    // Without a handler the process would end at once at a signal, so go on without waiting for it only if it can't be
    // had.
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => {
            tracing::warn!("signals can't be heard: this process ends without a drain");
            std::future::pending().await
        }
    }
}

/// With a secret that nobody else knows, nobody could come in. So some tokens are printed: to the standard output, which
/// is not the log. Two users, because one alone has nobody to talk to.
fn ready_tokens(config: &Config) -> Result<String, Failure> {
    let tokens = Tokens::new(&config.tokens).map_err(Failure::run)?;
    let token = |user: &str, admin| {
        let user = user.parse().map_err(Failure::run)?;
        tokens.issue_user(&user, admin, READY_TTL).map(|issued| issued.token).map_err(Failure::run)
    };
    Ok(format!(
        "No KEEPSTEP_JWT_SECRET is set, so one was made for this run. User tokens, good until this process ends:\n\
         export TOKEN={}   # alice\nexport BOB={}   # bob\nexport KEEPSTEP_ADMIN_TOKEN={}   # an admin",
        token("alice", false)?,
        token("bob", false)?,
        token("admin", true)?
    ))
}
