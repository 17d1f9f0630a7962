//! `keepstep serve`.

use std::{
    io::IsTerminal,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

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

/// Where the examples and `keepstep admin` look for a server by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
const READY_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Runs an edge until SIGTERM or SIGINT, then drains it.
///
/// # Errors
/// It can't start, or fails.
pub async fn run(config: Config) -> Result<(), Failure> {
    let embedded = matches!(config.backend, Backend::Embedded);
    let edge = config.edge.clone();
    let given = Given::of(&config);
    let ready = if config.tokens.generated { Some(ready_tokens(&config)?) } else { None };
    if embedded {
        tracing::info!("embedded mode: store and queues are in this process's memory, and end with it");
    }
    let app = App::build(config).await.map_err(Failure::run)?;
    let (address, ops) = (app.address().map_err(Failure::run)?, app.ops_address().map_err(Failure::run)?);
    tracing::info!(%edge, "serving on http://{address}, health and metrics on http://{ops}");
    if let Some(ready) = &ready {
        print(&ready.text(address))?;
    }
    if embedded {
        print(&try_next(address, given, &own_name()))?;
    }
    app.run(signalled()).await.map_err(Failure::run)
}

/// What somebody who tries the server has for access.
#[derive(Debug, Clone, Copy)]
enum Given {
    /// Printed tokens.
    Tokens,
    /// The secret, for `keepstep token`.
    Secret,
    /// Tokens of another issuer.
    Keys,
}

impl Given {
    fn of(config: &Config) -> Self {
        match &config.tokens {
            tokens if tokens.generated => Self::Tokens,
            tokens if tokens.jwt_secret.is_some() => Self::Secret,
            _ => Self::Keys,
        }
    }
}

/// Returns the name of this command, quoted for a shell.
fn own_name() -> String {
    let name = std::env::args().next().filter(|name| !name.is_empty());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    match name {
        Some(name) if name.chars().all(plain) => name,
        Some(name) => format!("'{}'", name.replace('\'', r"'\''")),
        None => "keepstep".to_owned(),
    }
}

/// Returns what to try next. `me` is the name of this command.
fn try_next(mut address: SocketAddr, given: Given, me: &str) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let (admin, terminal, token) = match given {
        Given::Tokens => ("the admin's token", "in another terminal, with the lines above", String::new()),
        Given::Secret => (
            "an admin's token (below)",
            "in another terminal, where the server's KEEPSTEP_JWT_… variables are set",
            format!(
                "  {me} token --user admin --admin\n      a token for /admin\n  TOKEN=$({me} token --user alice)\n"
            ),
        ),
        Given::Keys => (
            "an admin's token of your issuer",
            "in another terminal, with a token of your issuer in TOKEN",
            String::new(),
        ),
    };
    format!(
        "\nTry next: open http://{address}/ in a browser, and http://{address}/admin with {admin}.\n\
         Or, {terminal}:\n{token}  \
         curl -s http://{address}/v1/chats -H \"Authorization: Bearer $TOKEN\"\n  \
         {me} demo\n      a day of two users, their phones and web sessions, on a server of its own\n\
         A deployment over Redis and NSQ: {me} serve --help, docker-compose.yml, scripts/dev"
    )
}

async fn signalled() {
    // Without a handler a signal ends the process at once.
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => {
            tracing::warn!("listening for signals failed: this process will end without a drain");
            std::future::pending().await
        }
    }
}

/// Tokens for a generated secret, which nobody else has. They are printed to standard output, which is not the log.
struct Ready {
    alice: String,
    bob: String,
    /// None unless standard output is a terminal: a file or a container's log would keep it.
    admin: Option<String>,
}

fn ready_tokens(config: &Config) -> Result<Ready, Failure> {
    let tokens = Tokens::new(&config.tokens).map_err(Failure::run)?;
    let token = |user: &str, admin| {
        let user = user.parse().map_err(Failure::run)?;
        tokens.issue_user(&user, admin, READY_TTL).map(|issued| issued.token).map_err(Failure::run)
    };
    let admin = std::io::stdout().is_terminal().then(|| token("admin", true)).transpose()?;
    Ok(Ready { alice: token("alice", false)?, bob: token("bob", false)?, admin })
}

impl Ready {
    fn text(&self, address: SocketAddr) -> String {
        let Self { alice, bob, admin } = self;
        let mut text = format!(
            "No KEEPSTEP_JWT_SECRET is set, so one was made for this run. User tokens, good until this process ends:\n\
             export TOKEN={alice}   # alice\nexport BOB={bob}   # bob\n"
        );
        text += &match admin {
            Some(admin) => format!("export KEEPSTEP_ADMIN_TOKEN={admin}   # an admin"),
            None => {
                "# An admin's token is printed to a terminal only. To make one, set a KEEPSTEP_JWT_SECRET of your own, and then:\n\
             #   keepstep token --user admin --admin"
                .to_owned()
            }
        };
        if address.to_string() != DEFAULT_ADDRESS {
            text += &format!(
                "\nexport KEEPSTEP_URL=http://{address}   # where the examples and `keepstep admin` go"
            );
        }
        text
    }
}

#[cfg(test)]
#[path = "../../tests/unit/cli/serve.rs"]
mod tests;
