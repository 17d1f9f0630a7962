//! One chat of a session: its subscription, its feed, and when to look into the log.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Boxed, Session,
    feed::{Feed, Offered},
    window::Sent,
    work::Done,
};
use crate::{
    broker::{Delivery, Event, Receipt, Subscription},
    domain::{
        Seq,
        id::ChatId,
        message::{accepted_at, chat_and_seq, split_epoch},
        now_millis,
    },
    hub::{Followed, Progress},
    metrics::Share,
    protocol::ServerFrame,
    store::{Attached, CursorMove, CursorMoved, LogPage, Reader, Result as Stored},
    sync::leases,
};

/// A hole is left to the queue while it still brings messages; this long after its last one, the log fills it.
const HOLE_PATIENCE: Duration = Duration::from_millis(50);
/// So many held messages, and the log fills the hole at once: the queue can't bring it, because it holds back at 256.
const HELD: usize = 128;
/// What the log no longer has may still come from the queue; after this it is told as a gap.
const GAP_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes per log page.
const PAGE_BYTES: usize = 256 << 10;
/// A cursor write that failed is tried again after this.
const CURSOR_RETRY: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(super) struct ChatState {
    pub feed: Feed<Receipt>,
    // Dropped or closed with the session; what it holds goes back to the queue.
    pub subscription: Option<Subscription>,
    pub progress: Progress,
    pub from: Seq,
    // The highest read offset that the client was told.
    pub read: Seq,
    // Where it is subscribed to.
    pub node: Arc<str>,
    // Queues at nodes that carried it before, while they bring what nobody else has any more.
    pub former: Vec<Subscription>,
    // A cursor write is under way; what is acknowledged meanwhile waits for the next.
    moving: bool,
    // The chat's epoch when it was last seen that the user is in it; it is just looked again; and what waits for that. (Not
    // more than the queue gives before something is finished.)
    pub epoch: u64,
    pub looking: bool,
    pub unsure: Vec<Delivery>,
    // It will be looked again whether the user is in it.
    pub looks_again: bool,
    // The chat is known to have messages up to here.
    tail: Seq,
    arrived: Instant,
    filling: bool,
    // What the log no longer has is waited for since then, at this seq.
    pub gap_since: Option<(Instant, Seq)>,
    pub held: usize,
    // What is above came while this session was there: only of that it means something how long it took.
    live_above: Seq,
    // Counted as a chat of a connected device, and as one whose queue is attached.
    _followed: Share,
    pub attached: Share,
}

/// Where a message came from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Queue,
    Log,
}

/// Chats to be looked at, by time.
pub(super) type Looks = BinaryHeap<Reverse<(Instant, ChatId)>>;

impl Session {
    /// Begins with a chat: subscribes, and looks once whether the queue brought everything.
    pub(super) fn add_chat(&mut self, attached: &Attached, read: Seq) -> Followed {
        let (chat, owed, node) =
            (attached.chat.id, attached.owed, Arc::<str>::from(attached.chat.node.as_str()));
        let progress = Progress::new(owed.cursor.into());
        let now = Instant::now();
        let subscription = self.core.broker.subscribe(&node, chat, self.handle.device, self.sink.clone());
        let (mut followed, attached_now) =
            (Share::of(&self.core.metrics.chats_followed), Share::of(&self.core.metrics.nsq_attachments));
        followed.set(1);
        let state = ChatState {
            feed: Feed::new(owed.cursor),
            subscription: Some(subscription),
            progress: Arc::clone(&progress),
            from: owed.from,
            read,
            node: Arc::clone(&node),
            former: Vec::new(),
            moving: false,
            epoch: attached.epoch,
            looking: false,
            unsure: Vec::new(),
            looks_again: false,
            tail: attached.chat.head,
            arrived: now,
            filling: false,
            gap_since: None,
            held: 0,
            live_above: attached.chat.head,
            _followed: followed,
            attached: attached_now,
        };
        // A chat that was left and joined again: the old subscription ends here.
        self.chats.insert(chat, Box::new(state));
        if attached.chat.head > owed.cursor {
            self.look_at(chat, now + self.core.timing.tail_check);
        }
        Followed { progress, node }
    }

    pub(super) fn look_at(&mut self, chat: ChatId, at: Instant) {
        self.looks.push(Reverse((at, chat)));
    }

    /// Whether more may be taken from the queues.
    pub(super) fn has_room(&self) -> bool {
        !self.draining && self.window.has_room() && !self.connection.crowded()
    }

    /// Something from a subscription.
    pub(super) fn on_event(&mut self, chat: ChatId, event: Event) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        match event {
            Event::Delivery(delivery) => self.on_delivery(chat, delivery),
            Event::Attached => {
                // What was missed while it was away shows in the head.
                state.arrived = Instant::now();
                state.attached.set(1);
                self.look_at(chat, Instant::now() + self.core.timing.tail_check);
            }
            Event::Detached => {
                // Everything held came on the connection that is gone, and is delivered again.
                state.feed.drop_early();
                state.unsure.clear();
                state.held = 0;
                state.attached.set(0);
            }
            Event::Gone => {
                // Removed while this session was away, or by mistake. Whether the device still is owed this chat, only
                // the store knows. (Perhaps it was one of the former: then the other is made anew for nothing.)
                state.subscription = None;
                state.former.clear();
                state.attached.set(0);
                self.rejoin(chat);
            }
        }
    }

    pub(super) fn on_delivery(&mut self, chat: ChatId, delivery: Delivery) {
        let Delivery { body, receipt } = delivery;
        let Some((named, seq)) = chat_and_seq(&body) else {
            tracing::warn!(%chat, "the queue holds something that isn't a message of this server: removed");
            return receipt.finish();
        };
        if named != chat {
            tracing::warn!(%chat, %named, "the queue holds a message of another chat: removed");
            return receipt.finish();
        }
        let now = Instant::now();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let (frame, epoch) = split_epoch(body.clone());
        if epoch > state.epoch {
            // Somebody has left before it was sent: perhaps this user. It is kept until that is known.
            state.unsure.push(Delivery { body, receipt });
            if !std::mem::replace(&mut state.looking, true) {
                self.look_at_membership(chat);
            }
            return;
        }
        state.arrived = now;
        state.tail = state.tail.max(seq);
        match state.feed.offer(seq, frame, receipt) {
            Offered::Send(body) => {
                self.deliver(chat, seq, body, Source::Queue);
                self.deliver_early(chat);
            }
            Offered::Finish(receipt) => receipt.finish(),
            Offered::Kept => {}
            Offered::Early => {
                state.held += 1;
                let at = if state.held >= HELD { now } else { now + HOLE_PATIENCE };
                self.look_at(chat, at);
            }
        }
    }

    fn deliver_early(&mut self, chat: ChatId) {
        while let Some(state) = self.chats.get_mut(&chat) {
            let Some(body) = state.feed.next_early() else { break };
            state.held = state.held.saturating_sub(1);
            let seq = state.feed.next() - 1;
            self.deliver(chat, seq, body, Source::Queue);
        }
    }

    fn deliver(&mut self, chat: ChatId, seq: Seq, body: Bytes, source: Source) {
        let mut age = Sent::NO_AGE;
        if let Some(state) = self.chats.get(&chat) {
            state.progress.store(seq, Ordering::Relaxed);
            if seq > state.live_above
                && let Some(at) = accepted_at(&body)
            {
                age = u32::try_from(now_millis().saturating_sub(at)).unwrap_or(Sent::NO_AGE);
            }
        }
        match Utf8Bytes::try_from(body) {
            Ok(text) => self.connection.send(text),
            // Only a foreign writer could do that; a text frame can't carry it.
            Err(_) => return tracing::warn!(%chat, seq, "a message isn't UTF-8: not sent"),
        }
        self.window.sent(chat, seq, Instant::now(), age);
        let metrics = &self.core.metrics;
        if age != Sent::NO_AGE {
            metrics.send_to_receive.observe(self.handle.kind, Duration::from_millis(age.into()));
        }
        match source {
            Source::Queue => metrics.deliveries_nsq.inc(),
            Source::Log => metrics.deliveries_log.inc(),
        }
    }

    /// The chat has messages up to `seq`; the queue has had its time.
    pub(super) fn on_tail(&mut self, chat: ChatId, seq: Seq) {
        if let Some(state) = self.chats.get_mut(&chat) {
            state.tail = state.tail.max(seq);
            self.look(chat);
        }
    }

    /// Is something missing that the queue won't bring? Then read it from the log, as much as the window takes.
    pub(super) fn look(&mut self, chat: ChatId) {
        let room = if self.has_room() { self.window.room() } else { 0 };
        let now = Instant::now();
        let patience = self.core.timing.tail_check;
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.filling || self.draining {
            return;
        }
        let quiet = now.saturating_duration_since(state.arrived);
        let hole = state.feed.hole();
        let wait = if hole.is_some() && (state.held >= HELD || quiet >= HOLE_PATIENCE) {
            None
        } else if hole.is_some() {
            Some(HOLE_PATIENCE - quiet)
        } else if state.tail < state.feed.next() || planted!(NoTailCheck) {
            state.gap_since = None;
            return;
        } else {
            patience.checked_sub(quiet).filter(|left| !left.is_zero())
        };
        if let Some(wait) = wait {
            return self.look_at(chat, now + wait);
        }
        if room == 0 {
            return self.look_at(chat, now + Duration::from_millis(200));
        }
        state.filling = true;
        let missing = hole
            .map_or(usize::MAX, |last| usize::try_from(last + 1 - state.feed.next()).unwrap_or(usize::MAX));
        let (from, count, core) = (state.feed.next(), missing.min(room), self.core.clone());
        let reader = Reader { user: self.handle.user.clone(), since: state.from };
        self.work.push(Boxed::new(async move {
            Done::Log(chat, core.store.log_of_member(chat, &reader, from, count, PAGE_BYTES).await)
        }));
    }

    /// A stretch of the log.
    pub(super) fn on_log(&mut self, chat: ChatId, page: Stored<Option<LogPage>>) {
        let now = Instant::now();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.filling = false;
        let page = match page {
            Ok(Some(page)) => page,
            // The user isn't in this membership any more.
            Ok(None) => return self.look_at_membership(chat),
            Err(error) => {
                tracing::warn!(%chat, %error, "the log can't be read; tried again");
                return self.look_at(chat, now + Duration::from_secs(1));
            }
        };
        if page.floor > state.feed.next() {
            return self.beyond_the_log(chat, page.floor, now);
        }
        state.gap_since = None;
        let mut filled = 0u64;
        for (seq, body) in page.messages {
            let Some(state) = self.chats.get_mut(&chat) else { return };
            if state.feed.fill(seq) {
                filled += 1;
                self.deliver(chat, seq, split_epoch(body).0, Source::Log);
            }
        }
        if filled > 0 {
            self.core.metrics.refills.inc();
        }
        self.deliver_early(chat);
        // There may be more, and room for it. With nothing new in the log there is nothing to hurry for.
        let at = if filled > 0 { now } else { now + Duration::from_millis(200) };
        if self
            .chats
            .get(&chat)
            .is_some_and(|state| state.tail >= state.feed.next() || state.feed.hole().is_some())
        {
            // The queue has had its chance for this stretch; what follows is judged anew.
            self.look_at(chat, at);
        }
    }

    fn beyond_the_log(&mut self, chat: ChatId, floor: Seq, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let next = state.feed.next();
        // As long as a queue brings some of it, it is waited for.
        match state.gap_since {
            Some((since, at)) if at == next && now.saturating_duration_since(since) >= GAP_PATIENCE => {}
            Some((_, at)) if at == next => return self.look_at(chat, now + GAP_PATIENCE / 4),
            _ => {
                state.gap_since = Some((now, next));
                if state.former.is_empty() {
                    self.find_former(chat);
                }
                return self.look_at(chat, now + GAP_PATIENCE / 4);
            }
        }
        state.gap_since = None;
        // Not further than to what is held: the queue still has that.
        let to = state.feed.hole().map_or(floor - 1, |last| last.min(floor - 1));
        if let Some((from, to)) = state.feed.give_up(to) {
            tracing::warn!(%chat, device = %self.handle.device, from, to, "messages are beyond what the server holds");
            self.core.metrics.gaps.inc_by(to - from + 1);
            self.connection.send(ServerFrame::Gap { chat, from, to }.text().into());
        }
        self.deliver_early(chat);
        self.look_at(chat, now);
    }

    /// The device has everything up to `seq`. False: it was never sent so far.
    pub(super) fn on_ack(&mut self, chat: ChatId, seq: Seq) -> Option<bool> {
        let state = self.chats.get_mut(&chat)?;
        let seq = if planted!(AckAll) { state.feed.next() - 1 } else { seq };
        let before = state.feed.acked();
        if !state.feed.ack(seq) {
            return Some(false);
        }
        if planted!(FinishBeforeCursor) {
            state.feed.release(seq).into_iter().for_each(Receipt::finish);
        }
        let acked = state.feed.acked();
        if acked > before {
            self.measure(chat, before, acked);
            let chats = &self.chats;
            let done = |chat, seq| chats.get(&chat).is_none_or(|state| state.feed.acked() >= seq);
            self.window.acked(acked - before, done);
        }
        self.move_cursor(chat);
        Some(true)
    }

    /// How long it took until these messages were acknowledged.
    fn measure(&self, chat: ChatId, above: Seq, to: Seq) {
        let (metrics, kind, now) = (&self.core.metrics, self.handle.kind, Instant::now());
        let mut count = 0;
        for sent in self.window.between(chat, above, to) {
            let took = now.saturating_duration_since(sent.at);
            metrics.delivery_to_ack.observe(kind, took);
            if sent.age_ms != Sent::NO_AGE {
                metrics.send_to_ack.observe(kind, Duration::from_millis(sent.age_ms.into()) + took);
            }
            count += 1;
        }
        metrics.acknowledged.inc_by(count);
    }

    /// Writes the cursor, unless a write is under way: then its end begins the next.
    pub(super) fn move_cursor(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.moving || state.feed.acked() <= state.feed.cursor() {
            return;
        }
        state.moving = true;
        let (device, session) = (self.handle.device, self.handle.session);
        let cursor = CursorMove { device, session, from: state.from, seq: state.feed.acked() };
        self.core.submit_cursor(chat, cursor, self.handle.mailbox.clone());
    }

    /// The store has answered.
    pub(super) fn on_moved(&mut self, chat: ChatId, moved: Option<CursorMoved>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.moving = false;
        match moved {
            // A newer session or a termination has the device, or the user has left the chat: the store knows which.
            Some(CursorMoved::Fenced) => {
                let (core, handle) = (self.core.clone(), self.handle.clone());
                self.work.push(Boxed::new(async move {
                    leases::renew(&core, handle).await;
                    Done::Nothing
                }));
                self.look_at_membership(chat);
            }
            Some(CursorMoved::At(seq)) => {
                // Durable first, finished second.
                for receipt in state.feed.confirm(seq) {
                    receipt.finish();
                }
                let cursor = state.feed.cursor();
                self.answer_acks(chat, cursor);
                self.move_cursor(chat);
            }
            None => {
                let (device, session) = (self.handle.device, self.handle.session);
                let cursor = CursorMove { device, session, from: state.from, seq: state.feed.acked() };
                let (core, moved) = (self.core.clone(), self.handle.mailbox.clone());
                state.moving = true;
                self.work.push(Boxed::new(async move {
                    tokio::time::sleep(CURSOR_RETRY).await;
                    core.submit_cursor(chat, cursor, moved);
                    Done::Nothing
                }));
            }
        }
    }

    /// All acknowledged messages are durable.
    pub(super) fn settled(&self) -> bool {
        self.chats.values().all(|state| state.feed.acked() == state.feed.cursor())
    }
}
