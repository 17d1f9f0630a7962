//! The HTTP calls that Keepstep itself makes: to a JWKS address, and from the command line to a server.

use std::time::Duration;

/// A client for such calls. It follows no redirect (a key set or an admin call that moves elsewhere is a mistake to be
/// seen, not followed), and gives up on each call after `deadline`, the body included.
///
/// # Errors
///
/// A sentence, when the TLS of this machine can't be set up (no root certificates, as a rule).
pub fn client(deadline: Duration) -> Result<reqwest::Client, String> {
    // reqwest is built without a crypto provider of its own. Only the first call in a process sets it; that a later
    // one finds it set already is no fault.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("keepstep/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client can be made ({}): install ca-certificates", chain(&error)))
}

/// An error with its causes. reqwest's own text says "error sending request" and keeps the reason in the causes.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Several layers repeat the text of the one below.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
