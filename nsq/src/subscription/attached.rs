//! Serving one connection: from SUB to its loss, or to leaving.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::budget::Account;
use super::credit::{Credit, Load, Quiet};
use super::inflight::Inflight;
use super::receipt::{Command, Link, Message, Op, Receipt};
use super::task::Task;
use super::{Event, Hold, LEAVE_DEADLINE};
use crate::connection::{Connection, ConnectionError};
use crate::frame::{self, Frame, RawMessage};
use crate::identify::Identified;

/// After CLOSE_WAIT one more message may follow, which nsqd's sender had taken in the same instant.
const STRAGGLERS: Duration = Duration::from_millis(10);

/// A queue's memory beyond this many events is freed at the next heartbeat.
const KEEP_EVENTS: usize = 8;

/// How serving ended.
pub(super) enum End {
    Stopped,
    Lost(ConnectionError),
    /// The connection was lost before nsqd had accepted the subscription.
    Refused(ConnectionError),
}

impl End {
    fn lost(error: ConnectionError, phase: &Phase) -> Self {
        if phase.subscribed { Self::Lost(error) } else { Self::Refused(error) }
    }
}

/// The result of handing messages to the owner.
enum Handed {
    Nothing,
    Messages,
    OwnerGone,
}

/// The state of one connection, without the connection: frames are taken in while the connection is borrowed for
/// reading.
struct Intake<'a, T, E> {
    task: &'a mut Task<T, E>,
    link: Arc<Link>,
    inflight: Inflight,
    credit: Credit,
    /// This subscription's part of the shared budget.
    account: Account,
    /// Bytes of the bodies in the task's outbox.
    buffered: usize,
    /// Commands in answer to frames.
    replies: Vec<u8>,
    phase: Phase,
    error: Option<ConnectionError>,
    late: Late,
    heard: Heard,
}

/// How far the connection is.
#[derive(Debug, Default)]
struct Phase {
    /// nsqd has accepted the subscription.
    subscribed: bool,
    /// The end was asked for.
    leaving: bool,
    /// nsqd sends no more messages.
    closed: bool,
}

/// Settlements that nsqd may refuse, because its timeout may be over.
#[derive(Debug, Default)]
struct Late {
    settlements: usize,
    /// Touches don't affect the settlement that follows.
    touches: usize,
    /// nsqd has refused a settlement that was in time: see [`Intake::is_miscounted`].
    doubted: bool,
}

/// What came last.
#[derive(Debug)]
struct Heard {
    /// When bytes came.
    bytes: Instant,
    /// nsqd's clock at that time, as far as ours agrees.
    wall_ns: u64,
    message: Option<Instant>,
}

/// An attached subscription; see the module.
pub(super) struct Attached<'a, T, E> {
    connection: Connection,
    intake: Intake<'a, T, E>,
    /// Swapped with the link's queue: both keep their memory while there is traffic.
    commands: Vec<Command>,
    silence: Duration,
    connect_timeout: Duration,
}

impl<'a, T: Copy + Send + 'static, E: From<(T, Event)> + Send + 'static> Attached<'a, T, E> {
    pub(super) fn new(task: &'a mut Task<T, E>, connection: Connection, identified: &Identified) -> Self {
        let options = &task.options;
        let max = options.max_in_flight.min(identified.max_rdy_count);
        let credit = Credit::new(max, options.buffer_bytes, options.delivery);
        let silence = options.connect.silence();
        let connect_timeout = options.connect.connect_timeout;
        let link = Arc::<Link>::default();
        let intake = Intake {
            account: Account::open(options.budget.clone(), Arc::clone(&link)),
            link,
            inflight: Inflight::new(Duration::from_millis(identified.msg_timeout)),
            credit,
            buffered: 0,
            replies: Vec::new(),
            phase: Phase::default(),
            error: None,
            late: Late::default(),
            heard: Heard { bytes: Instant::now(), wall_ns: 0, message: None },
            task,
        };
        Self { connection, intake, commands: Vec::new(), silence, connect_timeout }
    }

    /// Subscribes and serves. The order in each round matters: first what frees messages, then RDY, which counts them,
    /// then one write for all of it, in which a lower RDY comes first. Leaving is boxed, so that an idle subscription
    /// doesn't reserve the room for it.
    pub(super) async fn serve(mut self, stop: &mut oneshot::Receiver<()>) -> End {
        let options = &self.intake.task.options;
        frame::put_sub(&mut self.connection.out, &options.topic, &options.channel);
        let link = Arc::clone(&self.intake.link);
        let events = self.intake.task.events.clone();
        let timer = tokio::time::sleep(self.connect_timeout);
        tokio::pin!(timer);
        let mut timer_is_short = false;
        loop {
            let begin = self.connection.out.len();
            self.reply();
            self.settle();
            match self.intake.hand_over() {
                Handed::Nothing => {}
                Handed::Messages => {
                    // The owner runs now, and often finishes at once: then FIN is enough, and RDY needn't go up and
                    // down.
                    tokio::task::yield_now().await;
                    self.settle();
                }
                Handed::OwnerGone => {
                    Box::pin(self.leave()).await;
                    return End::Stopped;
                }
            }
            if self.intake.is_miscounted() {
                Box::pin(self.leave()).await;
                return End::Lost(ConnectionError::Miscounted);
            }
            self.grant(begin);
            let quiet = self.intake.watched_quiet();
            if quiet == Some(Quiet::Long) && !timer_is_short {
                timer_is_short = true;
                timer.as_mut().reset((Instant::now() + Quiet::Long.duration()).into());
            }
            let waiting = !self.intake.task.outbox.is_empty();
            tokio::select! {
                biased;
                _ = &mut *stop => {
                    Box::pin(self.leave()).await;
                    return End::Stopped;
                }
                result = self.turn() => if let Err(error) = result {
                    link.close();
                    return End::lost(error, &self.intake.phase);
                },
                () = link.wake.notified() => {}
                // The room is used here and not released for the next round to take: if several subscriptions wait for
                // the same owner, each would only pass it on to the next, without end.
                room = events.reserve(), if waiting => if let Ok(room) = room {
                    let Intake { task, buffered, .. } = &mut self.intake;
                    hand_over_one(task.tag, &mut task.outbox, buffered, room);
                },
                () = &mut timer => {
                    match self.on_timer() {
                        Ok(next) => timer.as_mut().reset(next.into()),
                        Err(error) => {
                            link.close();
                            return End::lost(error, &self.intake.phase);
                        }
                    }
                    timer_is_short = self.intake.watched_quiet() == Some(Quiet::Long);
                }
                () = tokio::task::yield_now(), if quiet == Some(Quiet::Short) => {
                    if self.intake.heard.bytes.elapsed() >= Quiet::Short.duration() {
                        self.intake.credit.on_quiet();
                    }
                }
            }
        }
    }

    /// Writes pending output, and takes in what arrives. Ready when something arrived.
    async fn turn(&mut self) -> Result<(), ConnectionError> {
        self.reply();
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.connection.poll_write_out(cx) {
                return Poll::Ready(Err(error));
            }
            self.intake.heard.wall_ns = 0;
            self.connection.poll_frames(cx, |frame| self.intake.take(frame))
        })
        .await?;
        self.intake.heard.bytes = Instant::now();
        self.intake.error.take().map_or(Ok(()), Err)
    }

    fn reply(&mut self) {
        if !self.intake.replies.is_empty() {
            self.connection.out.append(&mut self.intake.replies);
            self.intake.replies = Vec::new();
        }
    }

    /// One timer serves SUB's answer, quiet and silence. It is reset only when it fires, so traffic costs it nothing.
    fn on_timer(&mut self) -> Result<Instant, ConnectionError> {
        let now = Instant::now();
        if !self.intake.phase.subscribed {
            return Err(ConnectionError::Timeout {
                addr: self.intake.task.options.tcp_addr.to_string(),
                timeout: self.connect_timeout,
            });
        }
        if self.intake.watched_quiet() == Some(Quiet::Long) {
            let quiet_at = self.intake.heard.bytes + Quiet::Long.duration();
            if quiet_at > now {
                return Ok(quiet_at);
            }
            self.intake.credit.on_quiet();
        }
        let dead_at = self.intake.heard.bytes + self.silence;
        if dead_at > now { Ok(dead_at) } else { Err(ConnectionError::Silent(self.silence)) }
    }

    /// Turns the receipts' requests into commands.
    fn settle(&mut self) {
        self.intake.link.take(&mut self.commands);
        let now = Instant::now();
        for command in self.commands.drain(..) {
            let Intake { inflight, late, .. } = &mut self.intake;
            let unsure =
                if matches!(command.op, Op::Touch) { &mut late.touches } else { &mut late.settlements };
            *unsure += usize::from(inflight.is_overdue(command.serial, now));
            apply(command, inflight, &mut self.connection.out);
        }
        if self.commands.capacity() > 64 && self.intake.inflight.live() == 0 {
            self.commands = Vec::new();
        }
    }

    /// Sends nsqd the RDY, if it has changed. The output of this round begins at `begin`. A lower RDY is inserted
    /// there: before the settlements, for each of which nsqd would send another message by the RDY that it knows.
    fn grant(&mut self, begin: usize) {
        let intake = &mut self.intake;
        if intake.inflight.live() > 0 {
            intake.inflight.expire(intake.heard.bytes);
        }
        let load = Load {
            live: intake.inflight.live(),
            expired: intake.inflight.expired(),
            buffered: intake.buffered,
        };
        let (account, held, told) = (&mut intake.account, intake.inflight.held(), intake.credit.told());
        if let Some(count) = intake.credit.update(load, |wish| account.grants(held, wish)) {
            let out = &mut self.connection.out;
            let end = out.len();
            frame::put_rdy(out, count);
            if count < told {
                let rdy = out.len() - end;
                out[begin..].rotate_right(rdy);
            }
        }
    }

    /// Leaves: RDY 0, what was settled, everything else requeued, CLS; then waits until nsqd has closed too, so that it
    /// no longer counts this client. Each wait is within one deadline.
    async fn leave(mut self) {
        let intake = &mut self.intake;
        intake.phase.leaving = true;
        // What it holds is requeued now, and it waits for no more.
        intake.account = Account::open(None, Arc::clone(&intake.link));
        let out = &mut self.connection.out;
        frame::put_rdy(out, 0);
        for command in intake.link.close() {
            apply(command, &mut intake.inflight, out);
        }
        let now = Instant::now();
        let busy = intake.inflight.live() > 0
            || intake.heard.message.is_some_and(|at| now.duration_since(at) < Duration::from_secs(1));
        for id in intake.inflight.drain() {
            frame::put_req(out, &id, 0);
        }
        frame::put_cls(out);
        let farewell = async {
            while !self.intake.phase.closed {
                self.turn().await?;
            }
            if busy {
                let stragglers = async {
                    loop {
                        self.turn().await?;
                    }
                };
                match tokio::time::timeout(STRAGGLERS, stragglers).await {
                    Ok(error) => return error,
                    Err(_elapsed) => self.reply(),
                }
            }
            poll_fn(|cx| self.connection.poll_write_out(cx)).await?;
            self.connection.shutdown().await;
            loop {
                self.turn().await?;
            }
        };
        let _: Result<Result<(), ConnectionError>, _> = tokio::time::timeout(LEAVE_DEADLINE, farewell).await;
    }
}

fn apply(command: Command, inflight: &mut Inflight, out: &mut Vec<u8>) {
    match command.op {
        Op::Finish => {
            if let Some(id) = inflight.remove(command.serial) {
                frame::put_fin(out, &id);
            }
        }
        Op::Requeue(delay_ms) => {
            if let Some(id) = inflight.remove(command.serial) {
                frame::put_req(out, &id, delay_ms);
            }
        }
        Op::Touch => {
            if let Some(id) = inflight.touch(command.serial, Instant::now()) {
                frame::put_touch(out, &id);
            }
        }
    }
}

impl<T: Copy, E: From<(T, Event)>> Intake<'_, T, E> {
    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Message(message) => self.take_message(message),
            Frame::Heartbeat => {
                frame::put_nop(&mut self.replies);
                self.touch_held();
                if self.inflight.live() + self.inflight.expired() == 0 {
                    // The late settlements were accepted.
                    (self.late.settlements, self.late.touches) = (0, 0);
                }
                self.task.outbox.shrink_to(KEEP_EVENTS);
            }
            Frame::Ok if !self.phase.subscribed => {
                self.phase.subscribed = true;
                self.task.outbox.push_back(Event::Attached);
            }
            Frame::CloseWait => self.phase.closed = true,
            Frame::Error(text) if frame::is_answerable(&text) => {
                // The message has timed out and is redelivered: the owner's promise to settle was broken, not the
                // connection.
                tracing::debug!(topic = self.task.options.topic, error = text, "settled too late");
                let unsure = if frame::is_of_touch(&text) {
                    &mut self.late.touches
                } else {
                    &mut self.late.settlements
                };
                match unsure.checked_sub(1) {
                    Some(left) => *unsure = left,
                    None => self.late.doubted = true,
                }
            }
            Frame::Error(text) => self.error = Some(ConnectionError::Refused(text)),
            Frame::Ok | Frame::Response(_) => {}
        }
    }

    fn take_message(&mut self, message: RawMessage) {
        let bytes = message.body.len();
        if self.phase.leaving || self.credit.refuses(self.buffered) || !self.account.takes(bytes) {
            frame::put_req(&mut self.replies, &message.id, 0);
            return;
        }
        if self.heard.wall_ns == 0 {
            // Once for all frames of a read.
            self.heard.bytes = Instant::now();
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.heard.wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
            self.heard.message = Some(self.heard.bytes);
        }
        let timestamp = u64::try_from(message.timestamp).unwrap_or(0);
        let age = Duration::from_nanos(self.heard.wall_ns.saturating_sub(timestamp));
        self.credit.on_message(age, bytes);
        self.buffered += bytes;
        let serial = self.inflight.insert(message.id, bytes, message.attempts, self.heard.bytes);
        let receipt = Receipt::new(Arc::clone(&self.link), serial);
        let message = Message { body: message.body, attempts: message.attempts, timestamp, receipt };
        self.task.outbox.push_back(Event::Message(message));
    }

    /// Touches what nsqd would redeliver before the heartbeat after next. Runs at nsqd's heartbeats, because the task
    /// is awake then.
    fn touch_held(&mut self) {
        let options = &self.task.options;
        if options.hold == Hold::UntilTimeout || self.phase.leaving {
            return;
        }
        for id in self.inflight.touch_due(options.connect.heartbeat.mul_f64(1.5), Instant::now()) {
            frame::put_touch(&mut self.replies, &id);
            // It may have timed out in this moment.
            self.late.touches += 1;
        }
    }

    /// Returns whether nsqd's count in flight is too high. A queue may hold a message twice, with one id (after a crash
    /// nsqd copies again from topic to channel what it had copied already). nsqd delivers both, counts two in flight,
    /// accepts the first FIN and refuses the second: its count stays too high for as long as the connection lasts, and
    /// an RDY for one more message delivers none. So the connection is re-established when nothing on it would be
    /// redelivered.
    fn is_miscounted(&self) -> bool {
        let held = self.inflight.live() + self.inflight.expired();
        (self.late.doubted || self.inflight.came_twice()) && held == 0 && self.task.outbox.is_empty()
    }

    fn watched_quiet(&self) -> Option<Quiet> {
        self.credit.watched_quiet(self.inflight.live())
    }

    /// Hands the owner what it has room for.
    fn hand_over(&mut self) -> Handed {
        let task = &mut *self.task;
        let mut handed = Handed::Nothing;
        while !task.outbox.is_empty() {
            match task.events.try_reserve() {
                Ok(room) => {
                    if matches!(task.outbox.front(), Some(Event::Message(_))) {
                        handed = Handed::Messages;
                    }
                    hand_over_one(task.tag, &mut task.outbox, &mut self.buffered, room);
                }
                Err(TrySendError::Full(())) => break,
                Err(TrySendError::Closed(())) => return Handed::OwnerGone,
            }
        }
        handed
    }
}

fn hand_over_one<T, E: From<(T, Event)>>(
    tag: T,
    outbox: &mut VecDeque<Event>,
    buffered: &mut usize,
    room: mpsc::Permit<'_, E>,
) {
    let Some(event) = outbox.pop_front() else { return };
    if let Event::Message(message) = &event {
        *buffered -= message.body.len();
    }
    room.send((tag, event).into());
}
