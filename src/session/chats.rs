//! One chat of a session: its subscription, its feed, and when to read the log.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Boxed, Session,
    attaching::Stage,
    feed::{Feed, Offered},
    filling::{HELD, HOLE_PATIENCE},
    gaps::{Missing, requeue_highest},
    pending::Done,
    placement::Former,
    schedule::SHARE,
    window::Sent,
};
use crate::{
    broker::{Delivery, Receipt},
    domain::{
        Seq,
        id::ChatId,
        message::{accepted_at, chat_and_seq, split_epoch},
        now_millis,
    },
    hub::{Followed, Intake, Progress},
    metrics::GaugeGuard,
    store::{Attached, CursorMove, CursorMoved},
    sync::session_check,
};

/// Pause before a failed cursor write is retried.
const CURSOR_RETRY: Duration = Duration::from_millis(250);
/// Early messages and bytes that a session holds at most, over all chats. (Sendable messages wait there, too, while there
/// is no room.)
const EARLY_MESSAGES: usize = 1024;
const EARLY_BYTES: usize = 4 << 20;
/// Pause before a message without room is requeued: at once it would come back at once, if its queue has nothing else.
const PARKED: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct ChatState {
    pub feed: Feed<Receipt>,
    pub position: Position,
    pub place: Place,
    pub seen: Seen,
    pub fill: Fill,
    logged: Logged,
    // The membership at a later epoch is being checked.
    pub checking: bool,
    // A gauge: chats of connected devices.
    _followed: GaugeGuard,
}

/// How far the device and its user are.
#[derive(Debug)]
pub(super) struct Position {
    pub from: Seq,
    pub progress: Progress,
    // The highest read offset that the client has received.
    pub read: Seq,
    // A cursor write is in progress; later acknowledgements wait for the next.
    moving: bool,
}

/// Where the chat's messages come from.
#[derive(Debug)]
pub(super) struct Place {
    pub stage: Stage,
    // When the chat may be idle, if it is consumed.
    pub idle_at: Option<Instant>,
    // The node of its queue.
    pub node: Arc<str>,
    // Queues at former nodes, while they bring messages that nothing else has.
    pub former: Vec<Former>,
    // Its queue is being created again, if the device is subscribed.
    pub rejoining: bool,
    // Gauges: attached queues, and those that should be.
    pub attached: GaugeGuard,
    pub awaited: GaugeGuard,
}

/// What is known of the chat's messages.
#[derive(Debug)]
pub(super) struct Seen {
    // The highest known seq of the chat.
    pub tail: Seq,
    // When its queue last brought something, and how often it has.
    pub arrived: Instant,
    pub arrivals: u64,
    // Latency is measured only above this: earlier messages came before the session.
    live_above: Seq,
}

/// What is read from the log, or waits.
#[derive(Debug, Default)]
pub(super) struct Fill {
    pub filling: bool,
    // Messages that the log no longer has.
    pub missing: Option<Box<Missing>>,
    // The chat waits for room.
    pub waits: bool,
    // Its early messages, as counted for the device.
    counted: (usize, usize),
    parked_until: Option<Instant>,
}

/// What was logged, once.
#[derive(Debug, Default)]
struct Logged {
    // A message after its gap.
    late: bool,
    // A torn message.
    torn: bool,
}

/// The source of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Queue,
    Log,
}

impl Session {
    /// Starts a chat: attaches its queue, if there is anything to receive.
    pub(super) fn add_chat(&mut self, attached: &Attached, read: Seq) -> Followed {
        let (chat, position, node) =
            (attached.chat.id, attached.position, Arc::<str>::from(attached.chat.node.as_str()));
        let progress = Progress::new(position.cursor.into());
        let now = Instant::now();
        let metrics = &self.core.metrics;
        let mut followed = GaugeGuard::of(&metrics.chats_followed);
        followed.set(1);
        let state = ChatState {
            feed: Feed::new(position.cursor, attached.epoch),
            position: Position { from: position.from, progress: Arc::clone(&progress), read, moving: false },
            place: Place {
                stage: Stage::Idle,
                idle_at: None,
                node: Arc::clone(&node),
                former: Vec::new(),
                rejoining: false,
                attached: GaugeGuard::of(&metrics.nsq_attachments),
                awaited: GaugeGuard::of(&metrics.nsq_awaited),
            },
            seen: Seen {
                tail: attached.chat.head,
                arrived: now,
                arrivals: 0,
                live_above: attached.chat.head,
            },
            fill: Fill::default(),
            logged: Logged::default(),
            checking: false,
            _followed: followed,
        };
        // A chat that was left and joined again: the old subscription ends here.
        self.drop_chat(chat);
        self.chats.insert(chat, Box::new(state));
        let mut intake = Intake::Idle;
        if attached.chat.head > position.cursor || attached.restored {
            intake = Intake::Awake;
            self.attach(chat);
        }
        Followed { progress, node, intake }
    }

    pub(super) fn schedule_check(&mut self, chat: ChatId, at: Instant) {
        self.work.schedule.add(chat, at);
    }

    /// Returns whether more may be taken from the queues.
    pub(super) fn has_room(&self) -> bool {
        self.leave_at.is_none() && self.delivery.window.has_room() && !self.connection.backpressured()
    }

    pub(super) fn on_delivery(&mut self, chat: ChatId, delivery: Delivery) {
        let Delivery { body, receipt } = delivery;
        let (body, epoch) = split_epoch(body);
        let Some((_, seq)) = chat_and_seq(&body).filter(|(named, _)| *named == chat) else {
            return self.on_torn(chat, receipt);
        };
        let now = Instant::now();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.seen.arrived = now;
        state.seen.arrivals += 1;
        state.seen.tail = state.seen.tail.max(seq);
        let offered = state.feed.offer(seq, epoch, body, receipt);
        if let Some(missing) = &mut state.fill.missing {
            missing.came(seq);
        }
        match offered {
            Offered::Send(body) => {
                self.deliver(chat, seq, body, Source::Queue);
                self.send_early(chat);
            }
            Offered::Finish(receipt) => receipt.finish(),
            Offered::Kept => {}
            Offered::Early => {
                if epoch > state.feed.epoch() {
                    self.check_epoch(chat);
                }
                self.on_early(chat, now);
            }
            Offered::Late => self.note_late(chat, seq, 0),
            Offered::TooLate(receipt) => {
                receipt.finish();
                self.note_late(chat, seq, 1);
            }
        }
    }

    /// A queue brought a message that wasn't published to this chat, perhaps in place of one that must come from elsewhere.
    pub(super) fn on_torn(&mut self, chat: ChatId, receipt: Receipt) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.seen.arrivals += 1;
        self.core.metrics.torn.inc();
        if !std::mem::replace(&mut state.logged.torn, true) {
            let (device, node) = (&self.handle.device, &state.place.node);
            tracing::warn!(%chat, %device, %node, "a queue brought a message torn, or none of this server: removed, and looked for in the log; \
                see whether this nsqd's disk was full, or what else writes to its topics");
        }
        receipt.finish();
        self.schedule_check(chat, Instant::now() + HOLE_PATIENCE);
    }

    /// An early message is held.
    fn on_early(&mut self, chat: ChatId, now: Instant) {
        self.requeue_early(chat);
        self.count_early(chat);
        while self.delivery.early.0 > EARLY_MESSAGES || self.delivery.early.1 > EARLY_BYTES {
            let Some(state) = self.chats.get_mut(&chat).filter(|state| state.feed.held().0 > 0) else {
                break;
            };
            if !state.feed.forget_highest() && !requeue_highest(state) {
                state.feed.park_highest();
                let until = *state.fill.parked_until.get_or_insert(now + PARKED);
                self.schedule_check(chat, until);
            }
            self.count_early(chat);
        }
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let at = if state.feed.held().0 >= HELD { now } else { now + HOLE_PATIENCE };
        self.schedule_check(chat, at);
    }

    /// Updates the device's count of early messages.
    pub(super) fn count_early(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let (held, counted) =
            (state.feed.held(), std::mem::replace(&mut state.fill.counted, state.feed.held()));
        self.delivery.early.0 = self.delivery.early.0 + held.0 - counted.0;
        self.delivery.early.1 = self.delivery.early.1 + held.1 - counted.1;
    }

    /// Counts messages that came after their gap; `finished` of them are finished now.
    fn note_late(&mut self, chat: ChatId, seq: Seq, finished: u64) {
        self.core.metrics.gap_late.inc_by(finished);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if !std::mem::replace(&mut state.logged.late, true) {
            let device = &self.handle.device;
            tracing::warn!(%chat, %device, seq, "a queue brings messages after they were told as a gap: the device has them \
                after it reconnects, if it doesn't acknowledge what is behind them; look for what brought them back");
        }
    }

    /// Requeues the messages for which there was no room.
    pub(super) fn return_parked(&mut self, chat: ChatId, now: Instant) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if let Some(until) = state.fill.parked_until {
            // A sendable message doesn't wait.
            if until > now && state.feed.missing(Seq::MAX).is_some() {
                return self.schedule_check(chat, until);
            }
            state.fill.parked_until = None;
            state.feed.return_parked();
        }
    }

    /// Sends held messages in order, while there is room. The rest waits for the chat's next turn.
    pub(super) fn send_early(&mut self, chat: ChatId) {
        let mut sent = 0;
        while self.chats.get(&chat).is_some_and(|state| state.feed.has_next()) {
            if sent == SHARE || !self.has_room() {
                self.wait_for_room(chat);
                break;
            }
            let Some(state) = self.chats.get_mut(&chat) else { break };
            let Some(body) = state.feed.next_early() else { break };
            let seq = state.feed.next() - 1;
            self.deliver(chat, seq, body, Source::Queue);
            sent += 1;
        }
        if sent > 0 {
            self.count_early(chat);
            self.schedule_check(chat, Instant::now() + HOLE_PATIENCE);
        }
    }

    pub(super) fn deliver(&mut self, chat: ChatId, seq: Seq, body: Bytes, source: Source) {
        let mut age = Sent::NO_AGE;
        if let Some(state) = self.chats.get(&chat) {
            state.position.progress.store(seq, Ordering::Relaxed);
            if seq > state.seen.live_above
                && let Some(at) = accepted_at(&body)
            {
                age = u32::try_from(now_millis().saturating_sub(at)).unwrap_or(Sent::NO_AGE);
            }
        }
        match Utf8Bytes::try_from(body) {
            Ok(text) => self.connection.send(text),
            // Only a foreign writer could cause this; a text frame can't carry it.
            Err(_) => return tracing::warn!(%chat, seq, "message is not UTF-8: not sent"),
        }
        self.delivery.window.sent(chat, seq, Instant::now(), age);
        let metrics = &self.core.metrics;
        if age != Sent::NO_AGE {
            metrics.send_to_receive.observe(self.handle.kind, Duration::from_millis(age.into()));
        }
        match source {
            Source::Queue => metrics.deliveries_nsq.inc(),
            Source::Log => metrics.deliveries_log.inc(),
        }
    }

    /// The chat has messages up to `seq`, and the queue has had its time.
    pub(super) fn on_tail(&mut self, chat: ChatId, seq: Seq) {
        if let Some(state) = self.chats.get_mut(&chat) {
            state.seen.tail = state.seen.tail.max(seq);
            self.check_chat(chat);
        }
    }

    /// Acknowledges everything up to `seq`. False: it wasn't sent yet.
    pub(super) fn on_ack(&mut self, chat: ChatId, seq: Seq) -> Option<bool> {
        let state = self.chats.get_mut(&chat)?;
        let before = state.feed.acked();
        if !state.feed.ack(seq) {
            return Some(false);
        }
        let acked = state.feed.acked();
        let sent = state.feed.sent_between(before, acked);
        if acked > before {
            self.measure(chat, before, acked);
            self.free_window(sent);
        }
        self.move_cursor(chat);
        Some(true)
    }

    /// Frees `count` places of the window.
    fn free_window(&mut self, count: u64) {
        let chats = &self.chats;
        let done = |chat, seq| chats.get(&chat).is_none_or(|state| state.feed.acked() >= seq);
        self.delivery.window.acked(count, done);
    }

    /// Removes a chat. Dropping it stops its consumers, and requeues their messages.
    pub(super) fn drop_chat(&mut self, chat: ChatId) -> bool {
        let Some(state) = self.chats.remove(&chat) else { return false };
        self.leaves_line(chat, &state);
        self.work.schedule.forget(chat);
        if state.fill.waits {
            self.work.turns.forget(chat);
        }
        self.delivery.early.0 -= state.fill.counted.0;
        self.delivery.early.1 -= state.fill.counted.1;
        self.free_window(state.feed.unacked());
        true
    }

    /// Records the time from sending to acknowledgement.
    fn measure(&self, chat: ChatId, above: Seq, to: Seq) {
        let (metrics, kind, now) = (&self.core.metrics, self.handle.kind, Instant::now());
        let mut count = 0;
        for sent in self.delivery.window.between(chat, above, to) {
            let took = now.saturating_duration_since(sent.at);
            metrics.delivery_to_ack.observe(kind, took);
            if sent.age_ms != Sent::NO_AGE {
                metrics.send_to_ack.observe(kind, Duration::from_millis(sent.age_ms.into()) + took);
            }
            count += 1;
        }
        metrics.acknowledged.inc_by(count);
    }

    /// Writes the cursor, or, if a write is in progress, after it.
    pub(super) fn move_cursor(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.position.moving || state.feed.acked() <= state.feed.cursor() {
            return;
        }
        state.position.moving = true;
        let (device, session) = (self.handle.device, self.handle.session);
        let cursor = CursorMove { device, session, from: state.position.from, seq: state.feed.acked() };
        self.core.submit_cursor(chat, cursor, self.handle.mailbox.clone());
    }

    /// Checks whether the session still has its device, unless that is in progress.
    fn check_device(&mut self) {
        if !std::mem::replace(&mut self.liveness.checking, true) {
            let (core, handle) = (self.core.clone(), self.handle.clone());
            self.work.pending.push(Boxed::new(async move {
                session_check::check(&core, handle).await;
                Done::Checked
            }));
        }
    }

    /// The store has answered.
    pub(super) fn on_cursor_persisted(&mut self, chat: ChatId, moved: Option<CursorMoved>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.position.moving = false;
        match moved {
            // A newer session or a termination has the device, or the user has left the chat: the store knows which.
            Some(CursorMoved::Fenced) => {
                self.check_device();
                self.check_membership(chat);
            }
            Some(CursorMoved::At(seq)) => {
                // Durable first, FIN second.
                let confirmed = state.feed.confirm(seq);
                confirmed.receipts.into_iter().for_each(Receipt::finish);
                let cursor = state.feed.cursor();
                if confirmed.late > 0 {
                    self.note_late(chat, cursor, confirmed.late as u64);
                }
                self.free_window(confirmed.acked);
                self.count_early(chat);
                self.answer_acks(chat, cursor);
                self.move_cursor(chat);
                self.make_room(chat);
            }
            None => {
                let (device, session) = (self.handle.device, self.handle.session);
                let cursor =
                    CursorMove { device, session, from: state.position.from, seq: state.feed.acked() };
                let (core, moved) = (self.core.clone(), self.handle.mailbox.clone());
                state.position.moving = true;
                self.work.pending.push(Boxed::new(async move {
                    tokio::time::sleep(CURSOR_RETRY).await;
                    core.submit_cursor(chat, cursor, moved);
                    Done::Nothing
                }));
            }
        }
    }

    /// Whether all acknowledgements are durable.
    pub(super) fn settled(&self) -> bool {
        self.chats.values().all(|state| state.feed.acked() == state.feed.cursor())
    }
}
