//! The record of a device's termination: what was decided, its progress, and the receipt.

use serde::{Deserialize, Serialize};

use super::{
    Millis,
    id::{DeviceId, TerminationId, UserId},
};

/// The progress of a termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TerminationState {
    /// The fence is durable: every edge refuses the device. Its channels are being removed.
    Accepted,
    /// Waits for an nsqd or nsqlookupd that doesn't answer.
    Pending,
    /// Nothing of the device is left, and the last check found nothing.
    Done,
}

/// One channel that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLine {
    /// The nsqd it was on.
    pub node: String,
    /// Its NSQ topic.
    pub topic: String,
    /// Its NSQ channel.
    pub channel: String,
    /// Messages that were still queued or in flight on it.
    pub depth: u64,
}

/// What the removal did, for later readers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Each channel that was deleted.
    pub channels: Vec<ReceiptLine>,
    /// When the last check found nothing left.
    pub verified_at: Option<Millis>,
    /// Channels that the last check still found (0 when done).
    pub remaining: u64,
}

/// One termination, durable from its first response on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// The termination's id.
    pub id: TerminationId,
    /// The device's user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Who asked for it: `user`, `main`, `self`, `admin`, `replaced` or `expired`.
    pub by: String,
    /// The progress.
    pub state: TerminationState,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// Servers that didn't answer; the termination waits for them.
    pub unreachable: Vec<String>,
    /// What was done so far.
    pub receipt: Receipt,
}
