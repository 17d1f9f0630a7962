//! What the log no longer has may still be in a queue: behind others, in flight at an edge that died, at an nsqd that is
//! away, at one that carried the chat before. It is told as a gap only when no queue has it (decision 0019).
//!
//! - A queue that is empty, and of which nothing is in flight but what this session holds, has it not. nsqd counts what is
//!   in flight before what waits, so a message that moves from one to the other may be counted in neither: hence two looks
//!   at the queues, the second of which would count it, and the log is read once more.
//! - A queue that is deeper than what may be in flight never gets empty while the session holds what came too early. So that
//!   gives way: all but the lowest goes back to the end of the queue, and what is behind it comes. Having seen as many
//!   messages as waited, and as many again, the session has seen all of them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Boxed, Session, chats::ChatState, pending::Done};
use crate::{
    broker::Backlog,
    domain::{Seq, id::ChatId},
    protocol::ServerFrame,
    sync::Core,
};

/// So many of what came too early are kept while others give way.
const KEPT: usize = 64;
/// Between the two looks after which a gap is told.
const BETWEEN: Duration = Duration::from_millis(300);
/// Between two looks at first, and at most: while something can be done; while only the queue can do something.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Between the first looks of two chats: a device may be in a thousand.
const APART: Duration = Duration::from_millis(5);
/// A queue counts as seen when twice as many messages came as waited in it (one that is partly in memory isn't in order),
/// and some more.
const SEEN_BESIDE: u64 = 128;

/// What is missing of a chat, and what is known of its whereabouts.
#[derive(Debug)]
pub(super) struct Missing {
    /// The next message, which the log hasn't got.
    pub seq: Seq,
    // The log begins here.
    floor: Seq,
    // The lowest that is known to be there behind it: held, or brought by a queue and given back.
    there: Seq,
    asking: bool,
    ask_at: Instant,
    pause: Duration,
    // Every node was asked once.
    everywhere: bool,
    // So many messages may give way until the next look.
    may_give_way: u64,
    // How many had arrived when messages gave way last.
    gave_way_at: u64,
    // So many messages must come until the queue has shown all that it had; none: it isn't watched.
    unseen: Option<u64>,
    // When no queue had it, and how many messages had arrived then.
    nowhere: Option<(Instant, u64)>,
    // The log was read after that.
    log_again: bool,
}

/// Whom a look asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The chat's own node, and those from which it is taken besides.
    Own,
    /// All nodes.
    Everywhere,
}

/// What a look at the queues of one chat found.
#[derive(Debug)]
pub(super) struct Found {
    // What was missing when the look began, and how many messages had arrived; and when all answers were there.
    seq: Seq,
    arrivals: u64,
    answered: Instant,
    asked: Asked,
    // A node that may have it, and doesn't answer.
    silent: Option<Arc<str>>,
    // The chat's own node is away for good.
    lost: bool,
    // All that waits, and all that is in flight.
    depth: u64,
    in_flight: u64,
    // Who is attached to the chat's own queue.
    consumers: u64,
    // Other nodes that hold something.
    others: Vec<Arc<str>>,
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
            may_give_way: 0,
            gave_way_at: 0,
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

    /// Nothing of what was seen counts any more: the queue was lost, or is another one.
    pub fn start_over(&mut self) {
        (self.unseen, self.nowhere, self.may_give_way, self.everywhere) = (None, None, 0, false);
    }

    /// The queue is there again: it doesn't take long now.
    pub fn hurry(&mut self, now: Instant) {
        self.pause = FIRST_PAUSE;
        self.ask_at = self.ask_at.min(now + FIRST_PAUSE);
    }

    /// The next look is after a pause, which gets longer.
    fn later(&mut self, now: Instant, longest: Duration) -> Instant {
        self.ask_at = now + self.pause;
        self.pause = (self.pause * 2).min(longest.max(self.pause));
        self.ask_at
    }
}

impl Session {
    /// The log begins behind what is missing.
    pub(super) fn beyond_the_log(&mut self, chat: ChatId, floor: Seq, now: Instant) {
        let first = self.ask_next.max(now);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let next = state.feed.next();
        match &mut state.missing {
            Some(missing) if missing.seq == next => (missing.floor, missing.log_again) = (floor, true),
            missing => {
                // (Without anything held that is a number that no message has.)
                let there = state.feed.missing(Seq::MAX).map_or(next, |last| last + 1);
                *missing = Some(Box::new(Missing::new(next, floor, there, first)));
                self.ask_next = first + APART;
            }
        }
        self.seek(chat, now);
    }

    /// Schedule for it in the queues, if it is time.
    pub(super) fn seek(&mut self, chat: ChatId, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = &mut state.missing else { return };
        if missing.asking {
            return;
        }
        if missing.ask_at > now {
            let at = missing.ask_at;
            return self.schedule_check(chat, at);
        }
        missing.asking = true;
        // Others than the chat's own are asked once, and before the gap is told.
        let asked = match missing.everywhere && missing.nowhere.is_none() {
            true => Asked::Own,
            false => Asked::Everywhere,
        };
        let (seq, arrivals, own) = (missing.seq, state.arrivals, state.node.clone());
        let former = state.former.iter().map(|former| former.node.clone()).collect();
        let (core, device) = (self.core.clone(), self.handle.device);
        self.pending.push(Boxed::new(async move {
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

    /// What the queues hold.
    pub(super) fn on_found(&mut self, chat: ChatId, found: Found) {
        let now = Instant::now();
        for node in &found.others {
            self.subscribe_former(chat, node);
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = state.missing.as_mut().filter(|missing| missing.seq == found.seq) else { return };
        missing.asking = false;
        if state.feed.next() != found.seq || state.feed.missing(missing.floor).is_none() {
            state.missing = None;
            return self.schedule_check(chat, now);
        }
        missing.everywhere |= found.asked == Asked::Everywhere && found.silent.is_none();
        let there =
            found.lost || (state.consumer.is_some() && state.attached.is_set() && found.consumers > 0);
        if !there || found.silent.is_some() {
            // Whether it has it isn't known.
            (missing.unseen, missing.nowhere) = (None, None);
            let at = missing.later(now, LONGEST_PAUSE);
            return self.schedule_check(chat, at);
        }
        // Nothing has come since the look began, also nothing that waits for room here, and nobody else has anything. (What is
        // known to be in flight may be void: that its connection was lost waits behind what other chats have brought.)
        let still = found.arrivals == state.arrivals && self.nothing_came_at >= found.answered;
        let settled = still && found.in_flight <= state.feed.in_flight();
        let seen = found.depth == 0 || (missing.unseen == Some(0) && found.consumers <= 1);
        if settled && seen {
            return self.on_nowhere(chat, &found, now);
        }
        if !still && missing.nowhere.is_some() {
            // Something new came just then, and the look says nothing.
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
        // When all was seen, it only has to come to rest.
        missing.may_give_way =
            if missing.unseen == Some(0) { 0 } else { found.depth + state.feed.in_flight() };
        // Those that gave way before brought nothing: perhaps nsqd waits for the last of them. Or other chats wait for room,
        // perhaps as this one does, with what came too early: then there may never be KEPT of one.
        let brought_nothing = missing.gave_way_at == state.arrivals + 1;
        let kept = if brought_nothing || self.prefetch.is_wanted() { 0 } else { KEPT };
        missing.gave_way_at = state.arrivals + 1;
        let longest = if give_way(state, kept) > 0 { LONGEST_PAUSE } else { LONGEST_WAIT };
        let at = state.missing.as_mut().map_or(now, |missing| missing.later(now, longest));
        self.count_early(chat);
        self.schedule_check(chat, at);
    }

    /// No queue has it, by this look.
    fn on_nowhere(&mut self, chat: ChatId, found: &Found, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = &mut state.missing else { return };
        // Where nobody else takes from a queue, what was counted nowhere was on its way here, and is counted now if it isn't here
        // yet: what came since is new. (In a chat that goes on there is always something new.)
        let alone = found.consumers <= 1 && found.others.is_empty();
        let since = missing.nowhere.filter(|(_, arrivals)| alone || *arrivals == state.arrivals);
        missing.may_give_way = 0;
        if let Some((since, _)) = since
            && now >= since + BETWEEN
            && missing.log_again
            && found.asked == Asked::Everywhere
        {
            return self.tell_gap(chat, now);
        }
        if since.is_none() {
            missing.nowhere = Some((now, state.arrivals));
            missing.log_again = false;
        }
        missing.ask_at = now + BETWEEN;
        let (at, read) = (missing.ask_at, !missing.log_again);
        if read {
            self.fill_from_log(chat);
        }
        self.schedule_check(chat, at);
    }

    /// While the queue is being looked through: what comes too early gives way.
    pub(super) fn give_way(&mut self, chat: ChatId) {
        // Others wait for room: each of them, perhaps, for what is behind what this one holds.
        let (kept, enough) = if self.prefetch.is_wanted() { (0, 1) } else { (KEPT, KEPT * 2) };
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.feed.returnable() >= enough {
            give_way(state, kept);
        }
    }

    fn tell_gap(&mut self, chat: ChatId, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let Some(missing) = state.missing.take() else { return };
        // Not further than to what is there, in the session or in a queue.
        let missing = state.feed.missing(missing.floor.min(missing.there));
        if let Some((from, to)) = missing.and_then(|to| state.feed.give_up(to)) {
            tracing::warn!(%chat, device = %self.handle.device, from, to, "gap sent: messages are in neither log nor queue");
            self.core.metrics.gaps.inc_by(to - from + 1);
            self.connection.send(ServerFrame::Gap { chat, from, to }.text().into());
        }
        self.count_early(chat);
        self.send_early(chat);
        self.schedule_check(chat, now);
    }
}

/// Gives back what came too early, as far as that may be now. Answers how many messages.
fn give_way(state: &mut ChatState, kept: usize) -> usize {
    let next = state.feed.next();
    let Some(missing) = state.missing.as_mut().filter(|missing| missing.seq == next) else { return 0 };
    let most = usize::try_from(missing.may_give_way).unwrap_or(usize::MAX);
    let count = state.feed.give_way(kept, most);
    missing.may_give_way -= count as u64;
    count
}

/// The same of the highest alone, for which there is no room. False: it may not go back now.
pub(super) fn give_back_highest(state: &mut ChatState) -> bool {
    let others = state.feed.returnable().checked_sub(1);
    others.is_some_and(|others| give_way(state, others) > 0)
}

/// Whom to ask.
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
