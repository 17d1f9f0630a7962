//! The spans of the log: what a line was logged for. One for each request, each session and each piece of background work, never
//! for a message or a frame. They are made here only, so that they have one target, which [`crate::cli::log`] lets through
//! whatever the filter says: an id is on each line that is written. No token and no content is ever a field.
//!
//! Their level is the highest for the same reason. A span writes no line of its own.

use tracing::{
    Span, error_span,
    field::{Empty, display},
};

use crate::domain::id::{DeviceId, TerminationId, UserId};

/// The target of all spans.
pub const TARGET: &str = module_path!();

/// One request of HTTP. `path` is the template of its path: ids are left out.
#[must_use]
pub fn request(method: &'static str, path: &'static str, request_id: &str, trace_id: Option<&str>) -> Span {
    error_span!(parent: None, "request", %method, %path, %request_id, trace_id = trace_id.map(display), user = Empty)
}

/// Who asks, as soon as it is known: a field of the request's span.
pub fn user_is_known(user: &UserId) {
    Span::current().record("user", display(user));
}

/// One connection of a device; `request_id` is that of its upgrade. It belongs to no request: those are over soon.
#[must_use]
pub fn session(user: &UserId, device: DeviceId, request_id: Option<&str>) -> Span {
    error_span!(parent: None, "session", %user, %device, request_id = request_id.map(display), session = Empty)
}

/// The number of the device's connection, as soon as it has one: a field of the session's span.
pub fn session_is_open(session: u64) {
    Span::current().record("session", session);
}

/// The end of a device; within the request that asked for it, if one did.
#[must_use]
pub fn termination(id: TerminationId) -> Span {
    error_span!("termination", termination = %id, device = Empty)
}

/// Whose end it is, as soon as it is known: a field of the termination's span.
pub fn terminated_device_is(device: DeviceId) {
    Span::current().record("device", display(device));
}

/// A round of background work.
#[must_use]
pub fn round(work: &'static str) -> Span {
    error_span!(parent: None, "round", %work)
}

/// Taking over what a dead edge left.
#[must_use]
pub fn adoption(dead_edge: &str) -> Span {
    error_span!(parent: None, "adoption", %dead_edge)
}
