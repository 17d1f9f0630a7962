//! Publishes the log to NSQ. An appended message is published at once, on the lane of its node (`lane`), and removed from the
//! chat's outbox when NSQ confirms. An unconfirmed one stays in the outbox, and is published again: this edge's by `heal`, a dead
//! edge's by every other edge that notices its death (`adopt`). A message may be published twice, never forgotten. One that is
//! too large for every node leaves the outbox: devices get it from the log.

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

/// How often outboxes are checked, and dead edges searched.
const HEAL: Duration = Duration::from_secs(1);
/// Most bytes that the store appends to a frame without its number: that, and the chat's membership epoch.
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

/// The relay's entrance for senders.
#[derive(Debug)]
pub(super) struct Relay {
    lanes: Box<[Arc<lane::Lane>]>,
    outbox: Outbox,
    // Nodes whose permanent refusal of a message was logged.
    refusing: Mutex<HashSet<String>>,
}

impl Relay {
    /// Makes a lane for each of these nodes; returns the other ends, too.
    pub(super) fn new(nodes: impl IntoIterator<Item = String>) -> (Self, Vec<Intake>) {
        let (lanes, intakes): (Vec<_>, Vec<_>) = nodes.into_iter().map(lane::Lane::new).unzip();
        let relay =
            Self { lanes: lanes.into_boxed_slice(), outbox: Outbox::default(), refusing: Mutex::default() };
        (relay, intakes)
    }

    /// Never waits: a send must not hang because NSQ does.
    pub(super) fn hand_over(&self, job: Job) {
        self.outbox.opened();
        // A node without a lane isn't configured: the chat waits for a relocation.
        let taken = match self.lanes.iter().find(|lane| lane.node == job.node) {
            Some(lane) => lane.take(job),
            None => Err(job),
        };
        if let Err(job) = taken {
            self.leave(job);
            self.outbox.closed(1);
        }
    }

    /// Leaves it to the chat's outbox: there is no room for it, or a member's queue doesn't exist yet.
    pub(super) fn leave(&self, Job { chat, node, since, .. }: Job) {
        self.outbox.leave(chat, node, 1, since);
    }

    /// Something in this chat's outbox isn't being published; its node is unknown.
    pub(super) fn behind(&self, chat: ChatId) {
        self.outbox.leave(chat, String::new(), 0, Instant::now());
    }

    /// Returns whether this message will never be taken, so that retries are useless.
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

/// An append whose outcome is unknown. If it is dropped before that (the sender hung up, for example), the message may be in the
/// log and the outbox, now or later, without a publisher: so the outbox is checked for a while.
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

/// Checks whether every node would take this message.
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
    /// Returns what NSQ hasn't confirmed, as this edge knows it.
    #[must_use]
    pub fn unconfirmed(&self) -> Unconfirmed {
        let oldest = self.sending.relay.lanes.iter().filter_map(|lane| lane.slots.oldest()).min();
        self.sending.relay.outbox.unconfirmed(oldest)
    }

    /// Waits until NSQ has confirmed everything that was sent here, and the store has recorded it. Before the edge exits, because
    /// otherwise the outbox waits until another edge has noticed that.
    pub async fn flushed(&self) {
        while self.sending.relay.outbox.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
