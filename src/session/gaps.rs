//! A message that the log no longer has may still be in a queue: behind others, in flight at a dead edge, at an nsqd that is
//! away, or at a former node of the chat. It is reported as a gap only when no queue has it (decision 0019).
//!
//! - An empty queue with nothing in flight but what this session holds doesn't have it. nsqd counts messages in flight before
//!   waiting ones, so a moving message may be counted in neither: hence two checks of the queues, the second of which would
//!   count it, and another read of the log.
//! - A queue deeper than the number in flight never gets empty while the session holds early messages. So all but the lowest
//!   are requeued, and the messages behind them come. Having seen as many messages as waited, and as many again, the session
//!   has seen all of them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Boxed, Session, chats::ChatState, pending::Done};
use crate::{
    broker::Backlog,
    domain::{Seq, id::ChatId},
    protocol::ServerFrame,
    sync::{Core, session_check},
};

/// Early messages that are kept while others are requeued.
const KEPT: usize = 64;
/// Time between the two checks before a gap is reported.
const BETWEEN: Duration = Duration::from_millis(300);
/// Pauses between two checks: the first; the longest while requeueing helps; the longest while only the queue can act.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Time between the first checks of two chats: a device may be in a thousand.
const APART: Duration = Duration::from_millis(5);
/// A queue counts as seen when twice as many messages came as waited (one that is partly in memory isn't in order), and
/// some more.
const SEEN_BESIDE: u64 = 128;

/// What is missing of a chat, and where it may be. The search has four phases (decision 0019):
///
/// | phase | fields | next |
/// |---|---|---|
/// | asking nodes for their backlog | `asking`, `ask_at`, `pause` | an answer: one of those below; none: asked again |
/// | the queue holds something | `unseen` counts what must still come; `may_requeue` early messages make room for it | it comes, or all has been seen |
/// | no queue holds it | `nowhere` since then; the log is read again: `log_again` | checked again after 300 ms, at every node (`everywhere`) |
/// | still nowhere | | a gap |
#[derive(Debug)]
pub(super) struct Missing {
    /// The next message, which the log lacks.
    pub seq: Seq,
    // The log begins here.
    floor: Seq,
    // The lowest one above it that is known to exist: held, or requeued.
    there: Seq,
    asking: bool,
    ask_at: Instant,
    pause: Duration,
    // Every node was asked once.
    everywhere: bool,
    // Messages that may be requeued until the next check.
    may_requeue: u64,
    // The number of arrivals at the last requeue.
    requeued_at: u64,
    // Messages that must come until the queue has shown all of its own; none: it isn't watched.
    unseen: Option<u64>,
    // When no queue had it, and the number of arrivals then.
    nowhere: Option<(Instant, u64)>,
    // The log was read after that.
    log_again: bool,
}

/// The nodes that a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The chat's own node, and former ones with a subscription.
    Own,
    /// All nodes.
    Everywhere,
}

/// The result of a check of one chat's queues.
#[derive(Debug)]
pub(super) struct Found {
    // The missing seq and the arrivals when the check began; and when all answers were there.
    seq: Seq,
    arrivals: u64,
    answered: Instant,
    asked: Asked,
    // A node that may have it, and doesn't answer.
    silent: Option<Arc<str>>,
    // The chat's own node is away for good.
    lost: bool,
    // All waiting messages, and all in flight.
    depth: u64,
    in_flight: u64,
    // Consumers of the chat's own queue.
    consumers: u64,
    // Other nodes that hold something.
    others: Vec<Arc<str>>,
    // Whether this session still has the device, if that was asked. A newer one may have received and finished what is missing
    // here: that is no gap.
    ours: bool,
}

impl Missing {
    fn new(seq: Seq, floor: Seq, there: Seq, ask_at: Instant) -> Self {
        Self {
            seq,
            floor,
            there,
            asking: false,
            ask_at,
            pause: FIRST_PAUSE,
            everywhere: false,
            may_requeue: 0,
            requeued_at: 0,
            unseen: None,
            nowhere: None,
            log_again: false,
        }
    }

    /// The queue has brought something.
    pub fn came(&mut self, seq: Seq) {
        if seq > self.seq {
            self.there = self.there.min(seq);
        }
        self.unseen = self.unseen.map(|unseen| unseen.saturating_sub(1));
    }

    /// Discards all observations: the queue was lost, or is another one.
    pub fn start_over(&mut self) {
        (self.unseen, self.nowhere, self.may_requeue, self.everywhere) = (None, None, 0, false);
    }

    /// The queue is back: check soon.
    pub fn hurry(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.ask_at = self.ask_at.min(now + FIRST_PAUSE);
    }

    /// Returns the time of the next check; the pause grows.
    fn later(&mut self, now: Instant, longest: Duration) -> Instant {
        self.ask_at = now + self.pause;
        self.pause = (self.pause * 2).min(longest.max(self.pause));
        self.ask_at
    }
}

impl Session {
    /// The log begins above the missing message.
    pub(super) fn start_gap_search(&mut self, chat: ChatId, floor: Seq, now: Instant) {
        let first = self.work.ask_next.max(now);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let next = state.feed.next();
        match &mut state.fill.missing {
            Some(missing) if missing.seq == next => (missing.floor, missing.log_again) = (floor, true),
            missing => {
                // (If nothing is held, this is a number that no message has.)
                let there = state.feed.missing(Seq::MAX).map_or(next, |last| last + 1);
                *missing = Some(Box::new(Missing::new(next, floor, there, first)));
                self.work.ask_next = first + APART;
            }
        }
        self.query_queues(chat, now);
    }

    /// Asks the queues for it, if it is time.
    pub(super) fn query_queues(&mut self, chat: ChatId, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = &mut state.fill.missing else { return };
        if missing.asking {
            return;
        }
        if missing.ask_at > now {
            let at = missing.ask_at;
            return self.schedule_check(chat, at);
        }
        missing.asking = true;
        // Nodes other than the chat's own are asked once, and before a gap is reported.
        let asked = match missing.everywhere && missing.nowhere.is_none() {
            true => Asked::Own,
            false => Asked::Everywhere,
        };
        let (seq, arrivals, own) = (missing.seq, state.seen.arrivals, state.place.node.clone());
        let last_look = missing.nowhere.is_some();
        let former = state.place.former.iter().map(|former| former.node.clone()).collect();
        let (core, handle) = (self.core.clone(), self.handle.clone());
        let device = handle.device;
        self.work.pending.push(Boxed::new(async move {
            let nodes = nodes(&core, own.clone(), former, asked);
            let looks = join_all(nodes.iter().map(|node| core.broker.backlog(node, chat, device))).await;
            let mut found = Found {
                seq,
                arrivals,
                answered: Instant::now(),
                asked,
                silent: None,
                lost: false,
                depth: 0,
                in_flight: 0,
                consumers: 0,
                others: Vec::new(),
                // After the queues: what a newer session has finished by now was counted there.
                ours: !last_look || session_check::holds(&core, &handle).await.unwrap_or(false),
            };
            for (node, look) in nodes.into_iter().zip(looks) {
                found.add(
                    &core,
                    &own,
                    node,
                    look.map_err(|error| tracing::debug!(%chat, %error, "not asked")),
                );
            }
            Done::Found(chat, Box::new(found))
        }));
    }

    /// Takes the result of a check.
    pub(super) fn on_found(&mut self, chat: ChatId, found: Found) {
        let now = Instant::now();
        for node in &found.others {
            self.subscribe_former(chat, node);
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = state.fill.missing.as_mut().filter(|missing| missing.seq == found.seq) else {
            return;
        };
        missing.asking = false;
        if state.feed.next() != found.seq || state.feed.missing(missing.floor).is_none() {
            state.fill.missing = None;
            return self.schedule_check(chat, now);
        }
        missing.everywhere |= found.asked == Asked::Everywhere && found.silent.is_none();
        let there = found.lost || (state.place.attached.is_set() && found.consumers > 0);
        if !there || found.silent.is_some() {
            // It is unknown whether that node has it.
            (missing.unseen, missing.nowhere) = (None, None);
            let at = missing.later(now, LONGEST_PAUSE);
            return self.schedule_check(chat, at);
        }
        // Nothing has come since the check began, not even messages that wait for room here, and no other node has anything. (Known
        // receipts may be void: the loss of their connection waits behind other chats' messages.)
        let still = found.arrivals == state.seen.arrivals && self.delivery.nothing_came_at >= found.answered;
        let settled = still && found.in_flight <= state.feed.in_flight();
        let seen = found.depth == 0 || (missing.unseen == Some(0) && found.consumers <= 1);
        if settled && seen {
            return self.on_nowhere(chat, &found, now);
        }
        if !still && missing.nowhere.is_some() {
            // Something arrived meanwhile, so the check proves nothing.
            missing.ask_at = now + BETWEEN;
            let at = missing.ask_at;
            return self.schedule_check(chat, at);
        }
        missing.nowhere = None;
        if found.depth == 0 {
            // In flight elsewhere, or on its way here.
            missing.unseen = None;
            let at = missing.later(now, LONGEST_WAIT);
            return self.schedule_check(chat, at);
        }
        if found.consumers > 1 {
            missing.unseen = None;
        } else if settled && missing.unseen.is_none() {
            missing.unseen = Some(found.depth * 2 + SEEN_BESIDE);
        }
        // When all was seen, the queue only has to come to rest.
        missing.may_requeue =
            if missing.unseen == Some(0) { 0 } else { found.depth + state.feed.in_flight() };
        // The last requeue brought nothing: perhaps nsqd waits for the last of them. Or other chats wait for room with early
        // messages, as this one does: then there may never be KEPT of one.
        let brought_nothing = missing.requeued_at == state.seen.arrivals + 1;
        let kept = if brought_nothing || self.delivery.prefetch.is_wanted() { 0 } else { KEPT };
        missing.requeued_at = state.seen.arrivals + 1;
        let longest = if requeue_early(state, kept) > 0 { LONGEST_PAUSE } else { LONGEST_WAIT };
        let at = state.fill.missing.as_mut().map_or(now, |missing| missing.later(now, longest));
        self.count_early(chat);
        self.schedule_check(chat, at);
    }

    /// No queue has it, by this check.
    fn on_nowhere(&mut self, chat: ChatId, found: &Found, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = &mut state.fill.missing else { return };
        // Without other consumers, a message counted nowhere was on its way here, and is counted now unless it has arrived: later
        // ones are new. (An active chat always has new ones.)
        let alone = found.consumers <= 1 && found.others.is_empty();
        let since = missing.nowhere.filter(|(_, arrivals)| alone || *arrivals == state.seen.arrivals);
        missing.may_requeue = 0;
        if let Some((since, _)) = since
            && now >= since + BETWEEN
            && missing.log_again
            && found.asked == Asked::Everywhere
            && found.ours
        {
            return self.notify_gap(chat, now);
        }
        if since.is_none() {
            missing.nowhere = Some((now, state.seen.arrivals));
            missing.log_again = false;
        }
        missing.ask_at = now + BETWEEN;
        let (at, read) = (missing.ask_at, !missing.log_again);
        if read {
            self.fill_from_log(chat);
        }
        self.schedule_check(chat, at);
    }

    /// Requeues early messages while the queue is being looked through.
    pub(super) fn requeue_early(&mut self, chat: ChatId) {
        // Others wait for room, each perhaps for messages behind those that this one holds.
        let (kept, enough) = if self.delivery.prefetch.is_wanted() { (0, 1) } else { (KEPT, KEPT * 2) };
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.feed.returnable() >= enough {
            requeue_early(state, kept);
        }
    }

    fn notify_gap(&mut self, chat: ChatId, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = state.fill.missing.take() else { return };
        // Not above the lowest one that exists, in the session or in a queue.
        let missing = state.feed.missing(missing.floor.min(missing.there));
        if let Some((from, to)) = missing.and_then(|to| state.feed.skip_gap(to)) {
            tracing::warn!(%chat, device = %self.handle.device, from, to, "gap sent: messages are in neither log nor queue");
            self.core.metrics.gaps.inc_by(to - from + 1);
            self.connection.send(ServerFrame::Gap { chat, from, to }.text().into());
        }
        self.count_early(chat);
        self.send_early(chat);
        self.schedule_check(chat, now);
    }
}

/// Requeues early messages, as far as allowed now. Returns how many.
fn requeue_early(state: &mut ChatState, kept: usize) -> usize {
    let next = state.feed.next();
    let Some(missing) = state.fill.missing.as_mut().filter(|missing| missing.seq == next) else { return 0 };
    let most = usize::try_from(missing.may_requeue).unwrap_or(usize::MAX);
    let count = state.feed.requeue_early(kept, most);
    missing.may_requeue -= count as u64;
    count
}

/// Requeues only the highest, for which there is no room. False: not allowed now.
pub(super) fn requeue_highest(state: &mut ChatState) -> bool {
    let others = state.feed.returnable().checked_sub(1);
    others.is_some_and(|others| requeue_early(state, others) > 0)
}

/// The nodes to ask.
fn nodes(core: &Core, own: Arc<str>, former: Vec<Arc<str>>, asked: Asked) -> Vec<Arc<str>> {
    let mut nodes = vec![own];
    nodes.extend(former);
    if asked == Asked::Everywhere {
        nodes.extend(core.broker.nodes().into_iter().map(|(node, _)| node.into()));
    }
    let mut seen = std::collections::HashSet::new();
    nodes.retain(|node| seen.insert(node.clone()));
    nodes
}

impl Found {
    fn add(&mut self, core: &Core, own: &Arc<str>, node: Arc<str>, look: Result<Option<Backlog>, ()>) {
        let is_own = node == *own;
        match look {
            Ok(Some(backlog)) => {
                self.depth += backlog.depth;
                self.in_flight += backlog.in_flight;
                if is_own {
                    self.consumers = backlog.consumers;
                } else if backlog.depth + backlog.in_flight > 0 {
                    self.others.push(node);
                }
            }
            Ok(None) => {}
            Err(()) => {
                let patience = core.timing.nsqd_give_up;
                let is_lost =
                    !patience.is_zero() && core.broker.down_for(&node).is_some_and(|time| time >= patience);
                if is_lost {
                    self.lost |= is_own;
                } else {
                    self.silent = Some(node);
                }
            }
        }
    }
}
