//! One connected device: one task that owns its socket, its subscriptions and its window.
//!
//! The loop waits for whichever comes first: a frame of the client, a message from a queue (only while the window has
//! room), a command from elsewhere, the store's answer to something under way, or the next point in time at which
//! something is due. Nothing in it waits for the store, the broker or the client's reading: those are under way beside
//! it. Messages are never dropped; a client that takes or acknowledges nothing is closed, and its messages stay queued.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as Code;

use crate::{
    broker::{Notice, Sink, Subscription},
    domain::{
        Seq,
        device::{Device, DeviceKind},
        id::ChatId,
        rate::Rate,
    },
    hub::{Command, LeaseClock, Mailbox, SessionHandle},
    metrics::{PROTOCOL_ERROR, Share},
    protocol::{self, CloseCode, DeviceEvent, FrameId, LimitsInfo, ServerFrame, Welcome},
    sync::{Core, connect, connect::Refusal},
    tokens::DeviceClaims,
};

mod chats;
mod commands;
mod connection;
mod feed;
mod frames;
mod history;
mod placement;
mod window;
mod wire;
mod work;

pub use connection::Connection;
use connection::Inbound;
pub use wire::Wire;

/// Commands that may wait for a session. More, and it is closed as a slow consumer.
const MAILBOX: usize = 1024;
/// Messages taken from the queues that may wait for the session: they are held back there, not here.
const EVENTS: usize = 16;

/// How a session ends.
#[derive(Debug)]
enum End {
    /// The server closes with a code of the contract.
    Close(CloseCode),
    /// The server closes because the main has gone.
    MainOffline(Option<u64>),
    /// The server closes with a code of WebSocket's own.
    Protocol(Code),
    /// The client has gone.
    Gone,
}

impl End {
    /// For the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Close(code) => code.name(),
            Self::MainOffline(_) => CloseCode::MainOffline.name(),
            Self::Protocol(_) => PROTOCOL_ERROR,
            Self::Gone => "gone",
        }
    }
}

#[derive(Debug)]
struct Session {
    core: Arc<Core>,
    handle: SessionHandle,
    connection: Connection,
    // Boxed: most devices have few chats, and a table keeps room for more.
    chats: HashMap<ChatId, Box<chats::ChatState>>,
    window: window::Window,
    // What is open in it, as metrics tell it.
    unacknowledged: Share,
    looks: chats::Looks,
    rate: Rate,
    // Where subscriptions send.
    sink: Sink,
    busy: Option<Boxed<frames::Answer>>,
    work: FuturesUnordered<Boxed<work::Done>>,
    // Acknowledgements that want a reply once they are durable.
    acks: Vec<(ChatId, Seq, FrameId)>,
    asked: HashMap<String, history::Asked>,
    questions: HashMap<String, history::Question>,
    bad_frames: u32,
    // How many `watch` frames there were that counted.
    watch_round: u64,
    // How many messages per chat below its beginning the sub may ask for; none: all.
    history: Option<u64>,
    // A sub whose bootstrap is complete; a main is ready always.
    ready: bool,
    main_check: Instant,
    heard: Instant,
    ping_at: Instant,
    // Until then no frame is read, because there were too many.
    read_again: Option<Instant>,
    // The edge stops: only acknowledgements are taken any more.
    draining: bool,
    // Not before this, so that not everyone comes to the next edge in the same moment.
    leave_at: Option<Instant>,
}

/// A future under way. It has nothing to show but that.
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

/// A session that is open and not served yet.
#[derive(Debug)]
pub struct Open {
    session: Box<Session>,
    commands: mpsc::Receiver<Box<Command>>,
    events: mpsc::Receiver<Box<Notice>>,
}

impl Open {
    /// Serves it to its end. This future is what an idle device costs, so what is done once, at either end, isn't part of
    /// it: opening is a future of its own, and ending is boxed.
    pub async fn serve(self) {
        let Self { mut session, mut commands, mut events } = self;
        let end = session.turn(&mut commands, &mut events).await;
        Box::pin(session.end(end)).await;
    }
}

/// Takes the device's lease and begins its session. None: it was refused, and the socket is closed.
pub async fn open(core: Arc<Core>, connection: Connection, claims: DeviceClaims) -> Option<Open> {
    let (device, session) = match connect::open(&core, &claims).await {
        Ok(opened) => opened,
        Err(refusal) => {
            refuse(&core, connection, refusal).await;
            return None;
        }
    };
    let (mailbox, commands) = Mailbox::new(MAILBOX);
    let handle = SessionHandle {
        user: device.user.clone(),
        device: device.id,
        kind: device.kind,
        session,
        mailbox,
        lease: Arc::new(LeaseClock::new(core.timing.lease)),
    };
    let start = match connect::attach(&core, &handle).await {
        Ok(start) => start,
        Err(error) => {
            tracing::warn!(device = %handle.device, %error, "a device can't be attached");
            refuse(&core, connection, CloseCode::BackendUnavailable.into()).await;
            connect::close(&core, &handle).await;
            return None;
        }
    };
    let (sink, events) = mpsc::channel(EVENTS);
    let mut session = Box::new(Session::new(core, handle, connection, &device, sink));
    session.begin(start).await;
    Some(Open { session, commands, events })
}

/// Closes a socket that isn't let in.
pub async fn refuse(core: &Core, connection: Connection, refusal: Refusal) {
    core.metrics.closes.with_label_values(&[refusal.code.name()]).inc();
    connection.close(refusal.code, &reason(refusal.code, refusal.last_seen)).await;
}

fn reason(code: CloseCode, last_seen: Option<u64>) -> String {
    if code == CloseCode::MainOffline {
        serde_json::json!({ "code": code.name(), "last_seen": last_seen }).to_string()
    } else {
        code.name().to_owned()
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
        Self {
            handle,
            connection,
            chats: HashMap::new(),
            window: window::Window::new(core.limits.unacked_window),
            unacknowledged: Share::of(&core.metrics.unacknowledged),
            looks: chats::Looks::new(),
            rate: Rate::new(core.limits.frames_per_second, core.limits.frames_burst, now),
            sink,
            busy: None,
            work: FuturesUnordered::new(),
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
            draining: false,
            leave_at: None,
            core,
        }
    }

    /// `welcome`, then the subscriptions.
    async fn begin(&mut self, start: connect::Start) {
        let limits = &self.core.limits;
        let welcome = Welcome {
            protocol: protocol::VERSION,
            user: self.handle.user.clone(),
            device: self.handle.device,
            kind: self.handle.kind,
            session: self.handle.session,
            edge: self.core.edge.clone(),
            heartbeat_s: self.core.timing.heartbeat.as_secs_f64(),
            limits: LimitsInfo {
                content_bytes: limits.content_bytes,
                frame_bytes: limits.frame_bytes,
                history_frame_bytes: limits.history_frame_bytes,
                history_page: limits.history_page_messages,
                unacked: limits.unacked_window,
                ack_timeout_s: self.core.timing.ack_timeout.as_secs(),
            },
            main: start.main,
            chats: start.chats.iter().map(|(attached, read)| connect::entry(attached, *read)).collect(),
        };
        self.connection.send(ServerFrame::Welcome(Box::new(welcome)).text().into());
        let followed: HashMap<ChatId, _> = start
            .chats
            .iter()
            .map(|(attached, read)| (attached.chat.id, self.add_chat(attached, *read)))
            .collect();
        if let Err(error) = connect::follow(&self.core, &self.handle, &followed).await {
            tracing::warn!(device = %self.handle.device, %error, "doorbells can't be heard; the sweep will do");
        }
        let SessionHandle { user, device, session, .. } = &self.handle;
        tracing::debug!(%user, %device, session, chats = self.chats.len(), "a device is connected");
        // Written only now: whoever sees this device online may count on its being attached.
        connect::told(&self.core, &self.handle.user, self.handle.device, DeviceEvent::Online).await;
    }

    async fn turn(
        &mut self,
        commands: &mut mpsc::Receiver<Box<Command>>,
        events: &mut mpsc::Receiver<Box<Notice>>,
    ) -> End {
        let mut timer = pin!(tokio::time::sleep_until(self.next_deadline()));
        let (core, doom) = (self.core.clone(), self.handle.mailbox.doom.clone());
        let drain = core.drain.clone();
        loop {
            let deadline = self.next_deadline();
            // Moving it costs a lock in the timer wheel, so only when something is due sooner.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let (room, read) = (self.has_room(), self.busy.is_none() && self.read_again.is_none());
            let done = tokio::select! {
                biased;
                code = doom.sealed() => Err(End::Close(code)),
                answer = async { match &mut self.busy { Some(busy) => busy.await, None => std::future::pending().await } } => {
                    self.busy = None;
                    self.on_answer(answer)
                }
                Some(command) = commands.recv() => self.on_command(*command),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.on_done(done),
                inbound = self.connection.drive(read) => self.on_inbound(inbound),
                Some(notice) = events.recv(), if room => {
                    self.on_event(notice.chat, notice.event);
                    // As many as there are: they go out in one write.
                    while self.has_room() && let Ok(notice) = events.try_recv() {
                        self.on_event(notice.chat, notice.event);
                    }
                    Ok(())
                }
                () = drain.begun(), if !self.draining => self.begin_drain(),
                () = &mut timer => self.on_time(),
            };
            if let Err(end) = done {
                return end;
            }
            // Once for all that came at once.
            self.unacknowledged.set(self.window.open());
            let leaving = self.leave_at.is_some_and(|at| at <= Instant::now());
            if leaving && self.window.is_empty() && self.settled() {
                return End::Close(CloseCode::ShuttingDown);
            }
            // Its device may be somebody else's by now: not one more frame.
            if self.handle.lease.expired() {
                return End::Close(CloseCode::BackendUnavailable);
            }
        }
    }

    fn on_inbound(&mut self, inbound: Inbound) -> Result<(), End> {
        self.heard = Instant::now();
        match inbound {
            Inbound::Text(text) => self.on_text(&text),
            Inbound::Binary => {
                let detail = "frames are text: one JSON object each";
                self.refuse(None, None, &protocol::Problem::new(protocol::ErrorCode::BadFrame, detail))
            }
            Inbound::Alive => Ok(()),
            Inbound::Over(Some(code)) => Err(End::Protocol(code)),
            Inbound::Over(None) => Err(End::Gone),
        }
    }

    fn begin_drain(&mut self) -> Result<(), End> {
        self.draining = true;
        let wait = self.core.timing.drain_acks;
        let leave_at = Instant::now() + wait.mul_f64(crate::chance::fraction() / 2.0);
        self.leave_at = Some(leave_at);
        // Only to look again then, whether everything is settled.
        self.work.push(Boxed::new(async move {
            tokio::time::sleep_until(leave_at).await;
            work::Done::Nothing
        }));
        // What isn't acknowledged by then goes back to the queues.
        let doom = self.handle.mailbox.doom.clone();
        self.work.push(Boxed::new(async move {
            tokio::time::sleep(wait).await;
            doom.seal(CloseCode::ShuttingDown);
            work::Done::Nothing
        }));
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let timing = &self.core.timing;
        let look = self.looks.peek().map(|look| look.0.0);
        let stuck = self.connection.stuck_since().map(|since| since + timing.write_timeout);
        let main = (!self.ready).then_some(self.main_check + timing.lease_renewal);
        [
            look,
            stuck,
            main,
            self.read_again,
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
        while self.looks.peek().is_some_and(|look| look.0.0 <= now) {
            if let Some(look) = self.looks.pop() {
                self.look(look.0.1);
            }
        }
        if self.connection.stuck_since().is_some_and(|since| now >= since + timing.write_timeout) {
            return Err(End::Close(CloseCode::SlowConsumer));
        }
        if self.window.deadline(timing.ack_timeout).is_some_and(|at| at <= now) {
            return Err(End::Close(CloseCode::AckTimeout));
        }
        self.expire_history(now)?;
        if !self.ready && now >= self.main_check + timing.lease_renewal {
            self.main_check = now;
            self.check_main();
        }
        if now >= self.ping_at {
            // Two pings without a sign of life.
            if now >= self.heard + timing.heartbeat * 2 + Duration::from_millis(500) {
                return Err(End::Close(CloseCode::HeartbeatTimeout));
            }
            self.connection.ping();
            self.ping_at = now + timing.heartbeat;
        }
        Ok(())
    }

    /// Gives everything back, in the order that makes a hand-over safe: consumers first, then the lease.
    async fn end(self: Box<Self>, end: End) {
        let mut this = *self;
        // Those too that it has just left, and whose unfollowing was still under way.
        let chats = this.core.hub.followed_by(&this.handle);
        connect::unfollow(&this.core, &this.handle, &chats).await;
        let closing = FuturesUnordered::new();
        for (_, mut state) in this.chats.drain() {
            let subscriptions: Vec<_> =
                state.subscription.take().into_iter().chain(state.former.drain(..)).collect();
            if !subscriptions.is_empty() {
                closing.push(async move {
                    join_all(subscriptions.into_iter().map(Subscription::close)).await;
                    // Receipts after their subscription: by now they are void.
                    drop(state);
                });
            }
        }
        let returned = closing.collect::<()>();
        let core = this.core.clone();
        let SessionHandle { user, device, session, .. } = &this.handle;
        tracing::debug!(%user, %device, session, code = end.name(), "a device's connection ends");
        let count = |name: &str| core.metrics.closes.with_label_values(&[name]).inc();
        let closed = async {
            match end {
                End::Close(code) => {
                    count(code.name());
                    this.connection.close(code, &reason(code, None)).await;
                }
                End::MainOffline(last_seen) => {
                    count(CloseCode::MainOffline.name());
                    this.connection
                        .close(CloseCode::MainOffline, &reason(CloseCode::MainOffline, last_seen))
                        .await;
                }
                End::Protocol(code) => {
                    count(PROTOCOL_ERROR);
                    this.connection.close_protocol(code).await;
                }
                // Answered last: whoever was told goodbye isn't found online any more.
                End::Gone => return Some(this.connection),
            }
            None
        };
        let ((), gone) = tokio::join!(returned, closed);
        connect::close(&core, &this.handle).await;
        if let Some(connection) = gone {
            connection.goodbye().await;
        }
    }
}
