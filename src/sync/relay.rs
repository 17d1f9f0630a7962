//! From the log to NSQ. What was appended is published at once, on the lane of its node (`lane`), and taken out of the chat's
//! outbox when NSQ confirms. What wasn't confirmed stays in the outbox, and is published again: this edge's by `heal`, a
//! dead edge's by every other edge that notices that it has gone (`adopt`). A message may be published twice, never
//! forgotten. What no node will ever take, because it is too large, leaves the outbox: devices have it from the log.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Core, lock,
    outbox::{Outbox, Unconfirmed},
};
use crate::{
    broker::BrokerError,
    domain::{Seq, id::ChatId, message::FrameTemplate},
    protocol::{ErrorCode, Problem},
};

mod adopt;
mod heal;
mod lane;

pub(super) use adopt::{adopt, prune};
pub(super) use heal::heal;
pub(super) use lane::{Intake, run};

/// How often outboxes are checked, and dead edges looked for.
const HEAL: Duration = Duration::from_secs(1);
/// Behind a frame without its number the store puts the number, and the chat's membership epoch: at most so many bytes.
const PUT_BEHIND: usize = 20 + 22;

/// A message to be published.
#[derive(Debug)]
pub(super) struct Job {
    pub chat: ChatId,
    pub node: String,
    pub seq: Seq,
    pub frame: Bytes,
    /// When it was accepted.
    pub since: Instant,
}

/// Where senders leave their messages.
#[derive(Debug)]
pub(super) struct Relay {
    lanes: Box<[Arc<lane::Lane>]>,
    outbox: Outbox,
    // Nodes of which the log has that they refused a message for ever.
    refusing: Mutex<HashSet<String>>,
}

impl Relay {
    /// With a lane for each of these nodes, and the other ends of the lanes.
    pub(super) fn new(nodes: impl IntoIterator<Item = String>) -> (Self, Vec<Intake>) {
        let (lanes, intakes): (Vec<_>, Vec<_>) = nodes.into_iter().map(lane::Lane::new).unzip();
        let relay =
            Self { lanes: lanes.into_boxed_slice(), outbox: Outbox::default(), refusing: Mutex::default() };
        (relay, intakes)
    }

    /// Never waits: a send must not hang because NSQ does.
    pub(super) fn hand_over(&self, job: Job) {
        self.outbox.opened();
        // A node without a lane isn't configured: the chat waits for another.
        let taken = match self.lanes.iter().find(|lane| lane.node == job.node) {
            Some(lane) => lane.take(job),
            None => Err(job),
        };
        if let Err(job) = taken {
            self.leave(job);
            self.outbox.closed(1);
        }
    }

    /// Leaves it to the chat's outbox: there is no room for it, or somebody's queue isn't there yet.
    pub(super) fn leave(&self, Job { chat, node, since, .. }: Job) {
        self.outbox.leave(chat, node, 1, since);
    }

    /// Something in this chat's outbox isn't being published; its node isn't known.
    pub(super) fn behind(&self, chat: ChatId) {
        self.outbox.leave(chat, String::new(), 0, Instant::now());
    }

    /// True: this message will never be taken, so it needn't be tried again.
    fn gives_up(&self, core: &Core, chat: ChatId, seq: Seq, error: &BrokerError) -> bool {
        let BrokerError::Unpublishable { node, reason } = error else { return false };
        core.metrics.unpublishable.inc();
        if lock(&self.refusing).insert(node.clone()) {
            tracing::warn!(
                %chat, seq, node, reason,
                "a message is too large for nsqd and isn't in any queue; devices get it from the log. Raise nsqd's \
                 --max-msg-size above the largest frame (KEEPSTEP_FRAME_BYTES). More of these are counted \
                 (keepstep_unpublishable_total) and not logged"
            );
        } else {
            tracing::debug!(%chat, seq, node, reason, "a message is too large for nsqd");
        }
        true
    }
}

/// An append whose outcome isn't known yet. Dropped before it is (the sender hung up, say), it may be in the log and in the
/// outbox without anyone publishing it, or get there later: so the outbox is checked for a while.
#[derive(Debug)]
pub(super) struct AppendGuard<'a> {
    relay: &'a Relay,
    chat: Option<ChatId>,
}

impl<'a> AppendGuard<'a> {
    pub(super) fn arm(relay: &'a Relay, chat: ChatId) -> Self {
        Self { relay, chat: Some(chat) }
    }

    /// The outcome is known, and the message is taken care of.
    pub(super) fn disarm(mut self) {
        self.chat = None;
    }
}

impl Drop for AppendGuard<'_> {
    fn drop(&mut self) {
        if let Some(chat) = self.chat {
            self.relay.outbox.check_soon(chat, Instant::now());
        }
    }
}

/// Whether every node would take this message.
///
/// # Errors
/// `too_large`.
pub(super) fn check_size(core: &Core, frame: &FrameTemplate) -> Result<(), Problem> {
    let size = frame.size() + PUT_BEHIND;
    match core.broker.largest_message() {
        Some(largest) if size > largest => Err(Problem::new(
            ErrorCode::TooLarge,
            format!(
                "a message has at most {largest} bytes here, with what is put around it, and this has {size}"
            ),
        )),
        _ => Ok(()),
    }
}

impl Core {
    /// What NSQ hasn't confirmed, as this edge knows it.
    #[must_use]
    pub fn unconfirmed(&self) -> Unconfirmed {
        let oldest = self.relay.lanes.iter().filter_map(|lane| lane.slots.oldest()).min();
        self.relay.outbox.unconfirmed(oldest)
    }

    /// Waits until everything that was sent here is with NSQ, and noted so: before this edge ends, because what stays in
    /// an outbox waits until another edge has noticed that this one has gone.
    pub async fn flushed(&self) {
        while self.relay.outbox.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
