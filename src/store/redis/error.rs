//! What an error of Redis, or of the way to it, says about the outcome.

use redis::{ErrorKind, RedisError};

use crate::store::StoreError;

/// The error for one attempt's deadline, in the crate's own type.
pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// A call that was handed to a connection and failed.
///
/// Redis checks memory, role, loading, rights before it runs anything, so these answers mean that nothing happened.
/// No answer at all (a time-out, a connection that ended) means that it may have.
pub(super) fn failure(err: &RedisError) -> StoreError {
    match err.code() {
        Some(
            "LOADING" | "BUSY" | "OOM" | "MISCONF" | "READONLY" | "NOREPLICAS" | "CLUSTERDOWN" | "MASTERDOWN"
            | "TRYAGAIN" | "MOVED" | "ASK" | "NOAUTH" | "WRONGPASS" | "NOPERM" | "NOSCRIPT",
        ) => StoreError::Unavailable(err.to_string()),
        Some(_) => StoreError::Corrupt(err.to_string()),
        None if err.is_connection_refusal() => StoreError::Unavailable(err.to_string()),
        None if err.kind() == ErrorKind::UnexpectedReturnType => StoreError::Corrupt(err.to_string()),
        None => StoreError::Unknown(err.to_string()),
    }
}

/// The same failure behind an earlier step that changed something: then "surely nothing happened" is no longer true.
pub(super) fn later(err: StoreError) -> StoreError {
    match err {
        StoreError::Unavailable(reason) => StoreError::Unknown(reason),
        other => other,
    }
}

/// Something stored that can't be read.
pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
