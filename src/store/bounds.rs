//! Bounds that both stores use. Scripts receive theirs with each call.

use std::time::Duration;

use crate::domain::Millis;

/// How long a chat's id may be in an index before the chat exists. After the id is removed from the index, no chat can
/// be created with it for as long again. Longer than any call may be late.
pub const UNBORN: Duration = Duration::from_secs(60);

/// How long the tombstone of a chat without any message is kept: nobody has anything of the chat for which another chat
/// with the same id could be mistaken.
pub(super) const UNSAID: Duration = Duration::from_secs(24 * 3600);

/// A lease that begins this far in the future counts as none, in milliseconds: the store's clock was set back since,
/// and the lease's expiry is unknown. Its holder renews it within seconds.
pub(super) const SET_BACK: Millis = 60_000;

/// Two sessions that began this close together, in milliseconds, have no order: neither is newer.
pub(super) const AT_ONCE: Millis = 250;

/// The minimum time an idempotency key is kept.
pub(super) const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How many former members of a chat are remembered.
pub(super) const LEFT: usize = 1000;

/// How many bytes a message counts for its idempotency key, as long as the key is kept.
pub const KEY_BYTES: u64 = 128;

/// How many bytes of messages an untrimmed log may hold beyond four times its limit; more is refused.
pub(super) const UNTRIMMED: u64 = 8 << 20;

/// How many bytes the queue of a device in a chat may always hold, for any number of devices.
pub(super) const QUEUE_FLOOR: u64 = 1 << 20;

/// How many groups are found by one name.
pub(super) const NAMED: usize = 16;
