//! The record of ending a device: what was decided, how far it got, and the receipt.

use serde::{Deserialize, Serialize};

use super::{
    Millis,
    id::{DeviceId, TerminationId, UserId},
};

/// How far a termination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TerminationState {
    /// The fence is durable: the device is refused everywhere. Its channels are being removed.
    Accepted,
    /// Waits for an nsqd or nsqlookupd that doesn't answer.
    Pending,
    /// Nothing of the device is left, and the last look found nothing.
    Done,
}

/// One channel that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// The nsqd it stood on.
    pub node: String,
    /// NSQ topic.
    pub topic: String,
    /// NSQ channel.
    pub channel: String,
    /// Messages that were still queued or in flight on it.
    pub depth: u64,
}

/// What the removal did, for whoever asks later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Each channel that was deleted.
    pub channels: Vec<ReceiptLine>,
    /// When the last look found nothing left.
    pub verified_at: Option<Millis>,
    /// Channels that the last look still found (0 when done).
    pub remaining: u64,
}

/// One termination, durable from its first answer on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// Its id.
    pub id: TerminationId,
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Who asked: `user`, `main`, `self`, `admin`, `replaced` or `expired`.
    pub by: String,
    /// How far it is.
    pub state: TerminationState,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// Servers that didn't answer; it waits for them.
    pub unreachable: Vec<String>,
    /// What was done so far.
    pub receipt: Receipt,
}
