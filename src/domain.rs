//! The nouns of Keepstep: pure values, no I/O, no serde of the wire. Everything else stands on these.

pub mod chat;
pub mod device;
pub mod fair;
pub mod id;
pub mod label;
pub mod link;
pub mod message;
pub mod names;
pub mod network;
pub mod rate;
pub mod shares;
pub mod termination;

/// The number of a message in its chat: 1, 2, 3, … without holes. 0 means "before the first message".
pub type Seq = u64;

/// The highest integer that every JSON reader keeps exactly (2^53 - 1). A larger `seq` is refused as out of range.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

pub use crate::clock::{Millis, now_millis};
