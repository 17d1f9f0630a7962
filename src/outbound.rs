//! The HTTP client for Keepstep's own calls: to a JWKS address, and from the command line to a server.

use std::time::Duration;

/// Returns a client for such calls. It follows no redirect (a key set or an admin call that moves elsewhere is a mistake to be
/// seen), and limits each call, with its body, to `deadline`.
///
/// # Errors
///
/// A sentence, when TLS can't be set up on this machine (usually: no root certificates).
pub fn client(deadline: Duration) -> Result<reqwest::Client, String> {
    // reqwest is built without a crypto provider. The first call in a process sets it; a later call finds it set, which is no
    // error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("keepstep/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("no HTTP client can be made ({}): install ca-certificates", chain(&error)))
}

/// Returns an error with its causes. reqwest's own text is "error sending request", with the reason in the causes.
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
