//! `keepstep token`: makes a user token from the shared secret, for tests and scripts.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Failure, print};
use crate::{
    config::{TokenConfig, numbers},
    domain::id::UserId,
    tokens::{IssuedToken, Tokens},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  export KEEPSTEP_JWT_SECRET=$(openssl rand -hex 32)
  keepstep token --user alice
  keepstep token --user root --admin --ttl 1h --json";

/// The arguments of `keepstep token`.
#[derive(Args)]
pub struct TokenArgs {
    /// User of the token: 1-64 characters of A-Z a-z 0-9 _ . @ -, not . or ..
    #[arg(long, value_name = "USER")]
    user: UserId,
    /// Make an admin's token, for /admin and `keepstep admin`
    #[arg(long)]
    admin: bool,
    /// Lifetime of the token
    #[arg(long, default_value = "30d", value_parser = numbers::period, value_name = "TIME")]
    ttl: Duration,
    /// Print `{token, user, admin, expires}` instead of the token alone; expires is in Unix milliseconds
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signing: Signing,
}

/// What user tokens are signed with.
#[derive(Args)]
pub(super) struct Signing {
    /// Secret that signs the token: the server's, at least 32 bytes. Set it by the variable: every process of the machine can
    /// read flags
    #[arg(
        long = "secret",
        global = true,
        env = "KEEPSTEP_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    secret: Option<String>,
    /// `iss` of the token, as the server requires it
    #[arg(long, global = true, env = "KEEPSTEP_JWT_ISSUER", value_name = "TEXT")]
    issuer: Option<String>,
    /// `aud` of the token, as the server requires it
    #[arg(long, global = true, env = "KEEPSTEP_JWT_AUDIENCE", value_name = "TEXT")]
    audience: Option<String>,
}

impl Signing {
    /// Makes a user token. None: there is no secret.
    pub(super) fn issue(
        &self,
        user: &UserId,
        admin: bool,
        ttl: Duration,
    ) -> Result<Option<IssuedToken>, Failure> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let Some(secret) = given(&self.secret) else { return Ok(None) };
        let config = TokenConfig {
            issuer: given(&self.issuer),
            audience: given(&self.audience),
            ..TokenConfig::from_secret(&secret)?
        };
        let tokens = Tokens::new(&config).map_err(Failure::run)?;
        tokens.issue_user(user, admin, ttl).map(Some).map_err(Failure::run)
    }
}

/// Prints a token.
///
/// # Errors
/// There is no secret, or a bad one.
pub fn run(args: &TokenArgs) -> Result<(), Failure> {
    let issued = args.signing.issue(&args.user, args.admin, args.ttl)?.ok_or_else(|| {
        Failure::usage(
            "there is no secret to sign with: set KEEPSTEP_JWT_SECRET to the one that the server has",
        )
    })?;
    if args.json {
        let json =
            json!({"token": issued.token, "user": args.user, "admin": args.admin, "expires": issued.expires});
        print(&json.to_string())
    } else {
        print(&issued.token)
    }
}
