//! What an error of Redis, or of the connection to it, means for the outcome.

use redis::{ErrorKind, RedisError};

use crate::store::StoreError;

/// Returns the error for one attempt's deadline, in the crate's own type.
pub(super) fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Returns the store error for a call that was passed to a connection and failed.
///
/// Redis checks memory, role, loading and rights before it runs anything, so these answers mean that nothing happened.
/// No answer at all (a time-out, a connection that ended) means that the call may have happened.
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

/// Returns whether this answer shows that the connection leads to a server that doesn't act as the primary (now): it
/// was demoted, it loads its data, it has lost its own primary. The address may lead elsewhere by now, so it is dialled
/// again.
pub(super) fn is_misled(code: Option<&str>) -> bool {
    matches!(code, Some("READONLY" | "LOADING" | "MASTERDOWN"))
}

/// Returns whether this answer shows that the server accepts no writes now, though it is the right one and can be read.
pub(super) fn is_refusal(code: Option<&str>) -> bool {
    matches!(code, Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// Returns a text for people: the meaning, and the remedy.
pub(super) fn in_words(err: &RedisError) -> String {
    let meaning = match err.code() {
        Some("READONLY") => {
            "it is a read-only replica: its address is dialled again until it leads to the primary"
        }
        Some("LOADING") => "it is loading its data: it is used as soon as it has",
        Some("MASTERDOWN") => {
            "it is a replica that has lost its primary: its address is dialled again until it leads to the primary"
        }
        Some("OOM") => {
            "it is out of memory and refuses writes: give it more (maxmemory). Sockets and what is read go on"
        }
        Some("MISCONF") => "it can't write to its disk and refuses writes: look at its disk and its log",
        Some("NOREPLICAS") => {
            "it has too few replicas and refuses writes: bring them back, or lower min-replicas-to-write"
        }
        // Redis reads flags of a script from version 7 on.
        _ if err.to_string().contains("Error compiling script") => {
            "it is older than Redis 7, which is needed"
        }
        _ => return err.to_string(),
    };
    format!("{meaning} ({err})")
}

/// Returns the same failure after an earlier step that changed something: "certainly nothing happened" is no longer
/// true.
pub(super) fn later(err: StoreError) -> StoreError {
    match err {
        StoreError::Unavailable(reason) => StoreError::Unknown(reason),
        other => other,
    }
}

/// Returns the error for stored data that can't be read.
pub(super) fn corrupt(what: impl Into<String>) -> StoreError {
    StoreError::Corrupt(what.into())
}
