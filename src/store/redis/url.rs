//! The address of a Redis, validated before the first connection.

/// The error for an invalid address.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the Redis URL is malformed ({0}); it looks like redis://user:password@host:6379/0, or rediss://… for TLS"
)]
pub struct BadUrl(String);

impl BadUrl {
    pub(super) fn new(reason: &dyn std::fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

/// Rejects more than the crate: the crate also accepts Unix sockets and options that would change what this store
/// relies on.
pub(super) fn parse(text: &str) -> Result<&str, BadUrl> {
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    let rest = rest.ok_or_else(|| BadUrl::new(&"it begins with neither redis:// nor rediss://"))?;
    let host = rest.rsplit('@').next().unwrap_or(rest);
    if host.is_empty() || host.starts_with(['/', ':', '?']) {
        return Err(BadUrl::new(&"it names no host"));
    }
    Ok(text)
}
