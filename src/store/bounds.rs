//! Numbers that both stores keep to. Scripts are given theirs with each call.

use std::time::Duration;

use crate::domain::Millis;

/// For so long an id of a chat may be in an index before the chat is there; and once it is taken off, for so long no chat comes
/// to be with it. Longer than any call may be late.
pub const UNBORN: Duration = Duration::from_secs(60);

/// A lease that begins so far in the future counts for none: the store's clock was set back since, and nobody can say when it
/// runs out. Whoever holds it renews it within seconds.
pub(super) const SET_BACK: Millis = 60_000;

/// Of two sessions that were begun so close to each other it can't be said which is newer.
pub(super) const AT_ONCE: Millis = 250;

/// How long an idempotency key is kept at least.
pub(super) const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How many of those who left a chat are remembered.
pub(super) const LEFT: usize = 1000;
