//! When a session consumes the queue of a chat. A chat of which the device has everything costs no connection to the
//! broker: it is *idle*, and a doorbell, or a head above the cursor at the connect, attaches its queue. When the queue has
//! been quiet for `KEEPSTEP_NSQ_IDLE` and nothing of it is under way, the chat is idle again.
//!
//! - The doorbell is a hint. A message that comes while the session detaches waits in the queue, and either its doorbell
//!   is already known here, or it wakes the session ([`crate::hub::Hub::rest`] decides under the hub's lock).
//! - A node that hangs delays no other: each has its own line. A bounded number of one session's queues are attached at a
//!   node, so a device that comes back to thousands of chats drains them in turn. (That sessions take turns at the node is
//!   the broker's: [`crate::broker::Prefetch`].)

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::time::Instant;

use super::{Session, chats::ChatState, placement::Consumer};
use crate::{
    domain::{Seq, id::ChatId},
    hub::Intake,
};

/// Queues that one session has attached at one node at most.
const ATTACHED: usize = 256;

/// Where a chat's messages come from.
#[derive(Debug)]
pub(super) enum Stage {
    /// From nowhere: the device has everything, as far as is known.
    Idle,
    /// It waits for its turn to be attached.
    Waiting,
    /// From its queue. Dropping the consumer requeues what it holds.
    Consumed(Consumer),
    /// Its queue was removed, and is created again, if the device is subscribed.
    Gone,
}

impl Stage {
    /// Takes the consumer, if there is one.
    pub fn take_consumer(&mut self) -> Option<Consumer> {
        match std::mem::replace(self, Self::Idle) {
            Self::Consumed(consumer) => Some(consumer),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// The queues of one session at one node.
#[derive(Debug)]
struct Line {
    node: Arc<str>,
    // Those that have a consumer.
    consumed: usize,
    waiting: VecDeque<ChatId>,
}

/// The queues of one session.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    // Few: as many as there are nodes.
    lines: Vec<Line>,
    // Attached chats, by when they may be idle.
    quiet: BTreeSet<(Instant, ChatId)>,
}

impl Attachments {
    fn line(&mut self, node: &Arc<str>) -> &mut Line {
        let at = self.lines.iter().position(|line| line.node == *node).unwrap_or_else(|| {
            let node = node.clone();
            self.lines.push(Line { node, consumed: 0, waiting: VecDeque::new() });
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    /// The chat has a consumer, or hasn't one any more.
    fn leaves(&mut self, chat: ChatId, state: &ChatState) {
        let line = self.line(&state.place.node);
        match &state.place.stage {
            Stage::Idle | Stage::Gone => {}
            Stage::Waiting => line.waiting.retain(|waits| *waits != chat),
            Stage::Consumed(_) => line.consumed -= 1,
        }
        if let Some(at) = state.place.idle_at {
            self.quiet.remove(&(at, chat));
        }
    }

    /// Returns when a chat may be idle.
    pub fn next(&self) -> Option<Instant> {
        self.quiet.first().map(|(at, _)| *at)
    }
}

impl ChatState {
    /// Returns whether the device has everything that is known of the chat, durably, and nothing of it is under way.
    fn is_quiet(&self) -> bool {
        let feed = &self.feed;
        self.seen.tail < feed.next()
            && feed.cursor() + 1 == feed.next()
            && feed.held().0 == 0
            && feed.in_flight() == 0
            && !self.fill.filling
            && self.fill.missing.is_none()
            && !self.checking
    }
}

impl Session {
    /// The chat has messages up to `seq`, and its queue isn't consumed.
    pub(super) fn on_doorbell(&mut self, chat: ChatId, seq: Seq) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.seen.tail = state.seen.tail.max(seq);
        self.attach(chat);
    }

    /// Consumes the chat's queue, or waits for its turn. No-op if it is consumed, or gone.
    pub(super) fn attach(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if self.leave_at.is_some() || !matches!(state.place.stage, Stage::Idle) {
            return;
        }
        self.core.hub.awake(&self.handle, chat);
        state.place.stage = Stage::Waiting;
        state.place.awaited.set(1);
        let line = self.delivery.attachments.line(&state.place.node);
        line.waiting.push_back(chat);
        let node = line.node.clone();
        self.attach_waiting(&node);
    }

    /// Attaches waiting chats of this node, as far as there is room.
    fn attach_waiting(&mut self, node: &Arc<str>) {
        loop {
            let line = self.delivery.attachments.line(node);
            if line.consumed >= ATTACHED {
                return;
            }
            let Some(chat) = line.waiting.pop_front() else { return };
            let consumer = self.subscribe(node, chat);
            self.consumes(chat, consumer);
        }
    }

    /// The chat has this consumer from now on.
    pub(super) fn consumes(&mut self, chat: ChatId, consumer: Consumer) {
        let now = Instant::now();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let line = self.delivery.attachments.line(&state.place.node);
        line.consumed += 1;
        state.place.stage = Stage::Consumed(consumer);
        // The queue has its time before the log is read.
        state.seen.arrived = now;
        self.schedule_check(chat, now + self.core.timing.tail_check);
    }

    /// The chat's consumer ends, or it waits for none any more; what comes next is at the caller.
    pub(super) fn detaches(&mut self, chat: ChatId, stage: Stage) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let node = state.place.node.clone();
        self.delivery.attachments.leaves(chat, state);
        state.place.idle_at = None;
        state.place.stage = stage;
        state.loses_its_queue();
        self.attach_waiting(&node);
    }

    /// A chat that is dropped waits for nothing, and lets others attach.
    pub(super) fn leaves_line(&mut self, chat: ChatId, state: &ChatState) {
        self.delivery.attachments.leaves(chat, state);
        self.attach_waiting(&state.place.node);
    }

    /// Looks again later whether the chat may be idle.
    pub(super) fn watch_quiet(&mut self, chat: ChatId) {
        let (idle, now) = (self.core.timing.nsq_idle, Instant::now());
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.place.idle_at.is_none() {
            let at = if state.seen.arrived + idle > now { state.seen.arrived + idle } else { now + idle };
            state.place.idle_at = Some(at);
            self.delivery.attachments.quiet.insert((at, chat));
        }
    }

    /// Detaches the queues that have been quiet for long enough.
    pub(super) fn detach_quiet(&mut self, now: Instant) {
        while let Some((at, chat)) =
            self.delivery.attachments.quiet.first().copied().filter(|(at, _)| *at <= now)
        {
            self.delivery.attachments.quiet.remove(&(at, chat));
            let Some(state) = self.chats.get_mut(&chat) else { continue };
            state.place.idle_at = None;
            let quiet =
                state.place.attached.is_set() && state.seen.arrived + self.core.timing.nsq_idle <= now;
            if !quiet || self.rest(chat) == Intake::Awake {
                self.watch_quiet(chat);
            }
        }
    }

    /// Others wait for a place: a chat of which the device has everything gives up its own.
    pub(super) fn make_room(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get(&chat) else { return };
        if state.place.attached.is_set()
            && !self.delivery.attachments.line(&state.place.node).waiting.is_empty()
        {
            self.rest(chat);
        }
    }

    /// The chat becomes idle, unless something of it is under way, or announced.
    fn rest(&mut self, chat: ChatId) -> Intake {
        let Some(state) = self.chats.get_mut(&chat).filter(|state| state.is_quiet()) else {
            return Intake::Awake;
        };
        if self.core.hub.rest(&self.handle, chat, state.feed.cursor()) == Intake::Awake {
            return Intake::Awake;
        }
        state.place.former.clear();
        self.detaches(chat, Stage::Idle);
        Intake::Idle
    }
}
