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

use futures_util::StreamExt;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    broker::{Notice, Sink},
    domain::{
        Millis,
        device::Device,
        id::{ChatId, DeviceId},
    },
    hub::{Inbox, SessionHandle, Wanted},
    protocol::{self, CloseCode},
    sync::Core,
};

mod ahead;
mod attaching;
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
mod parts;
mod pending;
mod placement;
mod schedule;
mod window;
mod wire;

pub use connection::Connection;
use connection::{Inbound, Reading};
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
    // Boxed: most devices have few chats, and a table keeps room for more.
    chats: HashMap<ChatId, Box<chats::ChatState>>,
    memberships: membership::Memberships,
    delivery: parts::Delivery,
    requests: parts::Requests,
    history: parts::History,
    liveness: parts::Liveness,
    work: parts::Work,
    // Devices of the user that have gone, since when, and when the client is notified unless they are back.
    absent: Vec<(DeviceId, Millis, Instant)>,
    // Set once the edge stops: from then on only acknowledgements are taken. Sessions end at different times, so that not
    // every client connects to the next edge at the same moment.
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
        Self {
            delivery: parts::Delivery::new(&core, sink),
            requests: parts::Requests::new(core.admission.rates.allow(
                handle.device,
                &handle.user,
                &core.limits,
            )),
            history: parts::History::new(device),
            liveness: parts::Liveness::new(core.timing.heartbeat),
            work: parts::Work::default(),
            handle,
            connection,
            chats: HashMap::new(),
            memberships: membership::Memberships::default(),
            absent: Vec::new(),
            leave_at: None,
            core,
        }
    }

    async fn run(&mut self, inbox: &mut Inbox, events: &mut mpsc::Receiver<Box<Notice>>) -> End {
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
            let (room, wanted) =
                (self.has_room(), if backpressured { Wanted::NoFrames } else { Wanted::Everything });
            let open = self.requests.ahead.has_room() && self.requests.read_again.is_none() && !backpressured;
            let reading = if open { Reading::Open } else { Reading::Paused };
            let done = tokio::select! {
                biased;
                code = close_signal.closed() => Err(End::Close(code)),
                answer = async { match &mut self.requests.busy { Some(busy) => busy.await, None => std::future::pending().await } } => {
                    self.requests.busy = None;
                    let answered = self.on_answer(answer);
                    for (chat, offset) in std::mem::take(&mut self.requests.own_reads) {
                        self.on_read_moved(chat, offset);
                    }
                    answered
                }
                commands = inbox.next(wanted) => {
                    commands.into_iter().try_for_each(|command| self.on_command(command))
                }
                Some(done) = self.work.pending.next(), if !self.work.pending.is_empty() => {
                    if events.is_empty() {
                        self.delivery.nothing_came_at = Instant::now();
                    }
                    self.on_done(done)
                }
                inbound = self.connection.drive(reading) => self.on_inbound(inbound),
                Some(notice) = events.recv(), if room => {
                    self.on_notice(*notice);
                    self.take_events(events, usize::MAX);
                    Ok(())
                }
                () = drain.begun(), if self.leave_at.is_none() => self.begin_drain(),
                () = &mut timer => self.on_time(),
            };
            if let Err(end) = done.and_then(|()| self.take_waiting()) {
                return end;
            }
            self.serve_turns(events);
            // Once per batch.
            self.delivery.unacknowledged.set(self.delivery.window.open());
            let leaving = self.leave_at.is_some_and(|at| at <= Instant::now());
            if leaving && self.delivery.window.is_empty() && self.settled() {
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
        self.liveness.heard = Instant::now();
        self.liveness.probe = None;
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
        if let Some(wait) = self.requests.limiter.light(weight, now) {
            self.requests.read_again = self.requests.read_again.max(Some(now + wait));
        }
    }

    fn begin_drain(&mut self) -> Result<(), End> {
        let wait = self.core.timing.drain_acks;
        let leave_at = Instant::now() + wait.mul_f64(crate::rng::fraction() / 2.0);
        self.leave_at = Some(leave_at);
        // Only to check again then whether everything is settled.
        self.work.pending.push(Boxed::new(async move {
            tokio::time::sleep_until(leave_at).await;
            pending::Done::Nothing
        }));
        // Unacknowledged messages are requeued then.
        let close_signal = self.handle.mailbox.close_signal.clone();
        self.work.pending.push(Boxed::new(async move {
            tokio::time::sleep(wait).await;
            close_signal.close(CloseCode::ShuttingDown);
            pending::Done::Nothing
        }));
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let timing = &self.core.timing;
        let stuck = self.connection.waits_since().map(|since| since + timing.write_timeout);
        let main = (!self.history.ready).then_some(self.history.main_check + timing.lease_renewal);
        [
            self.work.schedule.next(),
            stuck,
            main,
            self.requests.read_again,
            self.liveness.probe,
            self.absent.iter().map(|(_, _, due)| *due).min(),
            self.delivery.window.deadline(timing.ack_timeout),
            self.delivery.attachments.next(),
            self.history_deadline(),
        ]
        .into_iter()
        .flatten()
        .fold(self.liveness.ping_at, Instant::min)
    }

    fn on_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let timing = self.core.timing.clone();
        if self.requests.read_again.is_some_and(|at| at <= now) {
            self.requests.read_again = None;
        }
        while let Some(chat) = self.work.schedule.due(now) {
            self.check_chat(chat);
        }
        self.detach_quiet(now);
        if self.connection.is_stuck(now, timing.write_timeout) {
            return Err(End::Close(CloseCode::SlowConsumer));
        }
        if self.delivery.window.deadline(timing.ack_timeout).is_some_and(|at| at <= now) {
            return Err(End::Close(CloseCode::AckTimeout));
        }
        self.expire_history(now)?;
        self.notify_absent(now);
        // A backpressured client isn't read; the write time-out covers it.
        if self.liveness.probe.is_some_and(|at| at <= now) && !self.connection.backpressured() {
            return Err(End::Close(CloseCode::HeartbeatTimeout));
        }
        if !self.history.ready && now >= self.history.main_check + timing.lease_renewal {
            self.history.main_check = now;
            self.check_main();
        }
        if now >= self.liveness.ping_at {
            // Two pings without a sign of life, from a client that is being read.
            if !self.connection.backpressured()
                && now >= self.liveness.heard + timing.heartbeat * 2 + Duration::from_millis(500)
            {
                return Err(End::Close(CloseCode::HeartbeatTimeout));
            }
            self.connection.ping();
            self.liveness.ping_at = now + timing.heartbeat;
        }
        Ok(())
    }
}
