//! One connected device: one task that owns its socket, its subscriptions and its window.
//!
//! The loop waits for whichever comes first: a client frame, a message from a queue (only while the window has room, in
//! turn with chats that wait for it), a command, a store answer, or the next deadline. The loop never waits for the
//! store, the broker or the client's reading: these are futures beside it. Messages are never dropped; a client that
//! reads or acknowledges nothing is closed, and its messages stay queued.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    broker::{Notice, Prefetch, Sink},
    domain::{
        Millis, Seq,
        device::{Device, DeviceKind},
        id::{ChatId, DeviceId},
    },
    hub::{Inbox, SessionHandle, Wanted},
    metrics::GaugeGuard,
    protocol::{self, CloseCode, FrameId},
    store::ReadOffset,
    sync::{Core, rates::DeviceLimiter},
};

mod ahead;
mod chats;
mod commands;
mod connection;
mod ending;
mod feed;
mod filling;
mod frames;
mod gaps;
mod heads;
mod history;
mod membership;
mod opening;
mod pending;
mod placement;
mod schedule;
mod window;
mod wire;

pub use connection::Connection;
use connection::Inbound;
use ending::End;
pub use ending::refuse;
pub use opening::{Open, open};
pub use wire::Wire;

/// Commands that may wait for a session, besides coalesced chat events. Above it the session is closed as a slow consumer.
const MAILBOX: usize = 1024;
/// Messages from the queues that may wait for the session; further ones stay with the subscriptions.
const EVENTS: usize = 16;
/// Work per turn of one device, in steps and in input as [`Connection::weight`] counts; then others have their turn.
const TURNS: u32 = 16;
const TURN_WEIGHT: u64 = 32 << 10;

#[derive(Debug)]
struct Session {
    core: Arc<Core>,
    handle: SessionHandle,
    connection: Connection,
    // Boxed: most devices have few chats, and a hash map keeps spare slots.
    chats: HashMap<ChatId, Box<chats::ChatState>>,
    window: window::Window,
    // The window's size, for the metrics.
    unacknowledged: GaugeGuard,
    schedule: schedule::Schedule,
    memberships: membership::Memberships,
    // Chats that wait for room.
    turns: schedule::Turns,
    // Early messages and their bytes, over all chats.
    early: (usize, usize),
    // When the next chat may query its queues.
    ask_next: Instant,
    limiter: DeviceLimiter,
    // Where subscriptions send.
    sink: Sink,
    // When everything that the subscriptions had brought was last taken.
    nothing_came_at: Instant,
    // The number of subscriptions so far, which numbers them.
    subscriptions: u64,
    // The lease is being renewed, because a cursor was fenced.
    renewing: bool,
    // Their shared budget.
    prefetch: Prefetch,
    busy: Option<Boxed<frames::Answer>>,
    ahead: ahead::Ahead,
    // Read offsets of this device's own `read` frames that arrived before the reply. At most one per chat, while a frame is
    // in progress.
    own_reads: Vec<(ChatId, ReadOffset)>,
    pending: FuturesUnordered<Boxed<pending::Done>>,
    // Acknowledgements that get a reply once they are durable.
    acks: Vec<(ChatId, Seq, FrameId)>,
    asked: HashMap<String, history::Asked>,
    questions: HashMap<String, history::Question>,
    bad_frames: u32,
    // The number of accepted `watch` frames.
    watch_round: u64,
    // How many messages per chat below `from` the sub may ask for; none: all.
    history: Option<u64>,
    // A sub whose bootstrap is complete; a main is always ready.
    ready: bool,
    main_check: Instant,
    heard: Instant,
    ping_at: Instant,
    // No frame is read until then, because the rate was exceeded.
    read_again: Option<Instant>,
    // Deadline for a sign of life from a main that didn't answer a history request.
    probe: Option<Instant>,
    // Devices of the user that went offline, since when, and when the client is notified unless they are back.
    absent: Vec<(DeviceId, Millis, Instant)>,
    // The edge drains: only acknowledgements are accepted.
    draining: bool,
    // Not before this: spreads the reconnects to the next edge.
    leave_at: Option<Instant>,
}

/// A pending future; its `Debug` shows only that.
struct Boxed<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Boxed<T> {
    fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }
}

impl<T> Future for Boxed<T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> std::fmt::Debug for Boxed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("under way")
    }
}

impl Session {
    fn new(
        core: Arc<Core>,
        handle: SessionHandle,
        connection: Connection,
        device: &Device,
        sink: Sink,
    ) -> Self {
        let now = Instant::now();
        let limiter = core.rates.allow(handle.device, &handle.user, &core.limits);
        Self {
            handle,
            connection,
            chats: HashMap::new(),
            window: window::Window::new(core.limits.unacked_window),
            unacknowledged: GaugeGuard::of(&core.metrics.unacknowledged),
            schedule: schedule::Schedule::default(),
            memberships: membership::Memberships::default(),
            turns: schedule::Turns::default(),
            early: (0, 0),
            ask_next: now,
            limiter,
            sink,
            nothing_came_at: now,
            subscriptions: 0,
            renewing: false,
            prefetch: Prefetch::for_window(core.limits.unacked_window),
            busy: None,
            own_reads: Vec::new(),
            pending: FuturesUnordered::new(),
            acks: Vec::new(),
            asked: HashMap::new(),
            questions: HashMap::new(),
            bad_frames: 0,
            watch_round: 0,
            history: device.history,
            ready: device.kind == DeviceKind::Main,
            main_check: now,
            heard: now,
            ping_at: now + core.timing.heartbeat,
            read_again: None,
            probe: None,
            absent: Vec::new(),
            ahead: ahead::Ahead::default(),
            draining: false,
            leave_at: None,
            core,
        }
    }

    async fn turn(&mut self, inbox: &mut Inbox, events: &mut mpsc::Receiver<Box<Notice>>) -> End {
        let mut timer = pin!(tokio::time::sleep_until(self.next_deadline()));
        let (core, close_signal) = (self.core.clone(), self.handle.mailbox.close_signal.clone());
        let drain = core.drain.clone();
        let (mut turns, mut weight) = (0u32, 0);
        loop {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS) || self.connection.weight() > weight + TURN_WEIGHT {
                weight = self.connection.weight();
                // A client with endless frames must not starve others.
                tokio::task::yield_now().await;
            }
            let deadline = self.next_deadline();
            // Resetting takes a lock in the timer wheel, so only for an earlier deadline.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let backpressured = self.connection.backpressured();
            let (room, read) =
                (self.has_room(), self.ahead.has_room() && self.read_again.is_none() && !backpressured);
            let wanted = if backpressured { Wanted::NoFrames } else { Wanted::Everything };
            let done = tokio::select! {
                biased;
                code = close_signal.closed() => Err(End::Close(code)),
                answer = async { match &mut self.busy { Some(busy) => busy.await, None => std::future::pending().await } } => {
                    self.busy = None;
                    let answered = self.on_answer(answer);
                    for (chat, offset) in std::mem::take(&mut self.own_reads) {
                        self.on_read_moved(chat, offset);
                    }
                    answered
                }
                commands = inbox.next(wanted) => {
                    commands.into_iter().try_for_each(|command| self.on_command(command))
                }
                Some(done) = self.pending.next(), if !self.pending.is_empty() => {
                    if events.is_empty() {
                        self.nothing_came_at = Instant::now();
                    }
                    self.on_done(done)
                }
                inbound = self.connection.drive(read) => self.on_inbound(inbound),
                Some(notice) = events.recv(), if room => {
                    self.on_notice(*notice);
                    self.take_events(events, usize::MAX);
                    Ok(())
                }
                () = drain.begun(), if !self.draining => self.begin_drain(),
                () = &mut timer => self.on_time(),
            };
            if let Err(end) = done.and_then(|()| self.take_waiting()) {
                return end;
            }
            self.serve_turns(events);
            // Once per batch.
            self.unacknowledged.set(self.window.open());
            let leaving = self.leave_at.is_some_and(|at| at <= Instant::now());
            if leaving && self.window.is_empty() && self.settled() {
                return End::Close(CloseCode::ShuttingDown);
            }
            // Another session may own the device by now: send no further frame.
            if self.handle.lease.expired() {
                return End::Close(CloseCode::BackendUnavailable);
            }
        }
    }

    fn on_inbound(&mut self, inbound: Inbound) -> Result<(), End> {
        // A client that reads is alive, even if it has nothing to send.
        self.heard = Instant::now();
        self.probe = None;
        match inbound {
            Inbound::Text(text) => self.on_text(&text),
            Inbound::Noise(weight) => {
                self.slow_down(weight);
                Ok(())
            }
            Inbound::Binary => {
                let detail = "frames are text: one JSON object each";
                self.refuse(None, None, &protocol::Problem::new(protocol::ErrorCode::BadFrame, detail))
            }
            Inbound::Alive => {
                self.slow_down(0);
                Ok(())
            }
            Inbound::BackpressureCleared => Ok(()),
            Inbound::TooLarge => Err(End::Close(CloseCode::FrameTooLarge)),
            Inbound::Over(Some(code)) => Err(End::Protocol(code)),
            Inbound::Over(None) => Err(End::Gone),
        }
    }

    /// Useless input arrived that isn't counted. Above its rate, the client is read more slowly.
    fn slow_down(&mut self, weight: u64) {
        let now = Instant::now();
        if let Some(wait) = self.limiter.light(weight, now) {
            self.read_again = self.read_again.max(Some(now + wait));
        }
    }

    fn begin_drain(&mut self) -> Result<(), End> {
        self.draining = true;
        let wait = self.core.timing.drain_acks;
        let leave_at = Instant::now() + wait.mul_f64(crate::rng::fraction() / 2.0);
        self.leave_at = Some(leave_at);
        // Only to check again then whether everything is settled.
        self.pending.push(Boxed::new(async move {
            tokio::time::sleep_until(leave_at).await;
            pending::Done::Nothing
        }));
        // Unacknowledged messages are requeued then.
        let close_signal = self.handle.mailbox.close_signal.clone();
        self.pending.push(Boxed::new(async move {
            tokio::time::sleep(wait).await;
            close_signal.close(CloseCode::ShuttingDown);
            pending::Done::Nothing
        }));
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let timing = &self.core.timing;
        let stuck = self.connection.waits_since().map(|since| since + timing.write_timeout);
        let main = (!self.ready).then_some(self.main_check + timing.lease_renewal);
        [
            self.schedule.next(),
            stuck,
            main,
            self.read_again,
            self.probe,
            self.absent.iter().map(|(_, _, due)| *due).min(),
            self.window.deadline(timing.ack_timeout),
            self.history_deadline(),
        ]
        .into_iter()
        .flatten()
        .fold(self.ping_at, Instant::min)
    }

    fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let timing = self.core.timing.clone();
        if self.read_again.is_some_and(|at| at <= now) {
            self.read_again = None;
        }
        while let Some(chat) = self.schedule.due(now) {
            self.check_chat(chat);
        }
        if self.connection.is_stuck(now, timing.write_timeout) {
            return Err(End::Close(CloseCode::SlowConsumer));
        }
        if self.window.deadline(timing.ack_timeout).is_some_and(|at| at <= now) {
            return Err(End::Close(CloseCode::AckTimeout));
        }
        self.expire_history(now)?;
        self.tell_absent(now);
        // A backpressured client isn't read; the write time-out covers it.
        if self.probe.is_some_and(|at| at <= now) && !self.connection.backpressured() {
            return Err(End::Close(CloseCode::HeartbeatTimeout));
        }
        if !self.ready && now >= self.main_check + timing.lease_renewal {
            self.main_check = now;
            self.check_main();
        }
        if now >= self.ping_at {
            // Two pings without a sign of life, from a client that is being read.
            if !self.connection.backpressured()
                && now >= self.heard + timing.heartbeat * 2 + Duration::from_millis(500)
            {
                return Err(End::Close(CloseCode::HeartbeatTimeout));
            }
            self.connection.ping();
            self.ping_at = now + timing.heartbeat;
        }
        Ok(())
    }
}
