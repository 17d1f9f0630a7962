//! The task of a client: it connects, drives the session over the socket, and comes back.

use std::{future::pending, ops::ControlFlow, pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    Error,
    builder::{Acks, Reconnect, Settings},
    desk::{Command, Desk, Shutdown, Waiters},
};
use crate::{
    backoff::Backoff,
    close::{CloseClass, Ended},
    event::{Event, Violation},
    frame::{ChatEvent, ChatId, ClientFrame, HistoryRequest, Message, Page, Problem, ServerFrame},
    session::Session,
    storage::Storage,
    transport::{Connect, ConnectError, Incoming, Socket, Utf8Bytes},
};

/// From dialling to `welcome`.
const OPENING: Duration = Duration::from_secs(15);
/// For the answer to a sign of life that was asked for, and without any while something waits for its reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// For the server to answer a goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// Frames that are taken at once, before what they cause is stored, acknowledged and told.
const BATCH: usize = 64;

/// How a connection came to its end.
enum End {
    Over(Ended),
    /// The same, and the server says how long to wait.
    Busy(Ended, Duration),
    Left(Shutdown),
}

pub(super) struct Task<S> {
    desk: Desk,
    storage: Option<S>,
    session: Session,
    settings: Settings,
    waiters: Waiters,
    heartbeat: Duration,
    heard: Instant,
    is_doubted: bool,
    // When what the server couldn't take goes out again.
    retry_at: Option<Instant>,
    retries: Backoff,
}

impl<S: Storage> Task<S> {
    pub(super) fn new(desk: Desk, storage: Option<S>, session: Session, settings: Settings) -> Self {
        Self {
            desk,
            storage,
            session,
            settings,
            waiters: Waiters::default(),
            heartbeat: Duration::from_secs(25),
            heard: Instant::now(),
            is_doubted: false,
            retry_at: None,
            retries: Backoff::new(Duration::from_millis(500), Duration::from_secs(10)),
        }
    }

    /// Until it is over.
    pub(super) async fn run<C: Connect>(mut self, mut connect: C, token: String) {
        let ended = loop {
            let end = self.connection(&mut connect, &token).await;
            self.session.disconnected();
            self.waiters.offline();
            let (ended, at_least) = match end {
                End::Over(ended) => (ended, Duration::ZERO),
                End::Busy(ended, at_least) => (ended, at_least),
                End::Left(_) => break Ended::left(),
            };
            if self.settings.reconnect == Reconnect::Never || !ended.class.reconnects() {
                break ended;
            }
            let jitter = (self.settings.jitter)();
            let retry_in = self.settings.backoff.next(jitter).max(at_least);
            self.desk.tell(Event::Disconnected { ended, retry_in });
            if let Err(_left) = self.meanwhile(sleep(retry_in)).await {
                break Ended::left();
            }
        };
        self.waiters.stop(&Error::Stopped(ended.clone()));
        self.desk.tell(Event::Stopped(ended));
        self.desk.end().await;
    }

    /// Waits for something else, and serves commands and events.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Shutdown> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.desk.next() => {
                    if let ControlFlow::Break(departure) = self.command(command) {
                        return Err(departure);
                    }
                }
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn connection<C: Connect>(&mut self, connect: &mut C, token: &str) -> End {
        let opened = match self.meanwhile(timeout(OPENING, connect.connect(token))).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => return End::Over(Ended::lost("the server can't be reached: no answer for 15 s")),
            Err(departure) => return End::Left(departure),
        };
        let mut socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                let retry_after = match error {
                    ConnectError::Status { retry_after, .. } => retry_after,
                    _ => None,
                };
                return End::Busy(error.into(), Duration::from_secs(retry_after.unwrap_or(0)));
            }
        };
        self.session.connected();
        (self.heard, self.is_doubted) = (Instant::now(), false);
        match self.talk(&mut socket).await {
            End::Left(Shutdown::Goodbye) => {
                let _ = timeout(GOODBYE, socket.close()).await;
                End::Left(Shutdown::Goodbye)
            }
            end => {
                // The library's answer to the server's close frame.
                let _ = timeout(Duration::from_millis(100), socket.flush()).await;
                end
            }
        }
    }

    async fn talk<T>(&mut self, socket: &mut Socket<T>) -> End
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        loop {
            while let Some(frame) = self.session.poll_frame() {
                socket.queue(frame.text());
            }
            let has_room = self.desk.has_room();
            if !has_room {
                // Nothing is read, so silence says nothing.
                (self.heard, self.is_doubted) = (Instant::now(), false);
            }
            let (check, retry) = (self.next_check(), self.retry_at);
            let retries = async {
                match retry {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                came = socket.next(), if has_room => {
                    if let Err(ended) = self.hear(socket, came).await {
                        return End::Over(ended);
                    }
                }
                command = self.desk.next() => {
                    if let ControlFlow::Break(departure) = self.command(command) {
                        return End::Left(departure);
                    }
                }
                () = retries => {
                    self.retry_at = None;
                    self.session.retry();
                }
                () = sleep_until(check), if has_room => {
                    if self.is_doubted || !self.session.is_up() {
                        return End::Over(Ended::lost("nothing was heard of the server"));
                    }
                    self.is_doubted = true;
                    self.session.put(ClientFrame::Ping { id: None });
                }
            }
        }
    }

    /// When the line is to be doubted, or given up.
    fn next_check(&self) -> Instant {
        if !self.session.is_up() {
            return self.heard + OPENING;
        }
        let silence = if self.session.is_waiting() { PATIENCE } else { self.heartbeat + PATIENCE };
        self.heard + if self.is_doubted { silence + PATIENCE } else { silence }
    }

    // ---- what comes

    /// Takes what came, and all that came with it.
    async fn hear<T>(&mut self, socket: &mut Socket<T>, first: Incoming) -> Result<(), Ended>
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        (self.heard, self.is_doubted) = (Instant::now(), false);
        let (mut came, mut taken) = (first, 0);
        let end = loop {
            match came {
                Incoming::Text(text) => {
                    if let Err(ended) = self.receive(&text).await {
                        break Some(ended);
                    }
                }
                Incoming::Binary(_) | Incoming::Other => {}
                Incoming::Closed(close) => break Some(Ended::closed(close)),
                Incoming::Lost(why) => break Some(Ended::lost(why)),
            }
            taken += 1;
            if taken == BATCH {
                break None;
            }
            match socket.next().now_or_never() {
                Some(next) => came = next,
                None => break None,
            }
        };
        self.settle().await?;
        end.map_or(Ok(()), Err)
    }

    async fn receive(&mut self, text: &Utf8Bytes) -> Result<(), Ended> {
        let frame = match ServerFrame::parse(text.as_str()) {
            Ok(frame) => frame,
            Err(error) => {
                self.desk.tell(Event::Violation(error.clone().into()));
                return Err(Ended::lost(error.to_string()));
            }
        };
        match &frame {
            ServerFrame::Welcome(welcome) => {
                self.heartbeat = Duration::try_from_secs_f64(welcome.heartbeat_s)
                    .unwrap_or_default()
                    .clamp(PATIENCE, Duration::from_secs(60));
                for entry in &welcome.chats {
                    self.resume(entry.id).await?;
                }
            }
            ServerFrame::Chat(notice) if notice.event == ChatEvent::Joined => {
                self.resume(notice.chat).await?
            }
            _ => {}
        }
        self.session.receive_frame(frame);
        Ok(())
    }

    /// Looks up how far the storage is in a chat that the session doesn't know.
    async fn resume(&mut self, chat: ChatId) -> Result<(), Ended> {
        let Some(storage) = self.storage.as_mut().filter(|_| self.session.chat(chat).is_none()) else {
            return Ok(());
        };
        let bounds = storage.bounds(chat).await.map_err(|error| Ended::lost(error.to_string()))?;
        if let Some(bounds) = bounds {
            self.session.resume(chat, bounds.high);
        }
        Ok(())
    }

    /// Stores, acknowledges and tells what happened.
    async fn settle(&mut self) -> Result<(), Ended> {
        let events: Vec<Event> = std::iter::from_fn(|| self.session.poll_event()).collect();
        if let Some(storage) = &mut self.storage {
            let fresh: Vec<Message> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Message(message) => Some(message.clone()),
                    _ => None,
                })
                .collect();
            if !fresh.is_empty()
                && let Err(error) = storage.append(&fresh).await
            {
                // What isn't stored comes again on the next connection.
                fresh.iter().rev().for_each(|message| self.session.rewind(message.chat, message.seq));
                return Err(Ended::lost(error.to_string()));
            }
        }
        let mut end = Ok(());
        for event in events {
            if let Err(ended) = self.happened(event).await {
                end = Err(ended);
            }
        }
        end
    }

    async fn happened(&mut self, event: Event) -> Result<(), Ended> {
        match &event {
            Event::Connected(_) => {
                self.settings.backoff.reset();
                self.retries.reset();
            }
            Event::Message(message) | Event::Duplicate(message) => {
                self.stored(message.chat, message.seq);
            }
            Event::Gap(gap) => self.stored(gap.chat, gap.to),
            Event::Sent(receipt) => {
                self.retries.reset();
                if let Some(done) = self.waiters.sends.remove(&receipt.key) {
                    let _ = done.send(Ok(*receipt));
                }
            }
            Event::Refused { key, problem, .. } => {
                if let Some(done) = self.waiters.sends.remove(key) {
                    let _ = done.send(Err(problem.clone().into()));
                }
            }
            Event::Read(notice) => self.waiters.read_moved(notice.chat, notice.seq),
            Event::Left(chat) => {
                let gone = Problem::local("not_found", "the user isn't in this chat any more");
                self.waiters.read_refused(*chat, u64::MAX, &gone.into());
            }
            Event::ReadRefused { chat, seq, problem } => {
                self.waiters.read_refused(*chat, *seq, &problem.clone().into());
            }
            Event::Delayed(_) => {
                let pause = self.retries.next((self.settings.jitter)());
                self.retry_at.get_or_insert(Instant::now() + pause);
            }
            Event::HistoryRequest(request) if self.storage.is_some() => {
                let request = request.clone();
                return self.serve(request).await;
            }
            Event::Violation(violation) => {
                let violation = violation.clone();
                self.desk.tell(event);
                // A reply that nobody waits for does no harm, nor does a frame about a chat that was just left.
                let is_harmless = matches!(violation, Violation::Reply(_) | Violation::UnknownChat(_));
                return if is_harmless { Ok(()) } else { Err(Ended::lost(violation.to_string())) };
            }
            _ => {}
        }
        match event {
            Event::Reply { id, result } => {
                if let Some(done) = self.waiters.replies.remove(&id) {
                    let _ = done.send(result.map_err(Error::from));
                }
            }
            event => self.desk.tell(event),
        }
        Ok(())
    }

    fn stored(&mut self, chat: ChatId, seq: u64) {
        if self.settings.acks == Acks::Automatic {
            self.session.stored(chat, seq);
        }
    }

    /// Answers a sub from the storage.
    async fn serve(&mut self, request: HistoryRequest) -> Result<(), Ended> {
        let HistoryRequest { request, chat, before, limit, .. } = request;
        let Some(storage) = &mut self.storage else { return Ok(()) };
        match storage.before(chat, before, limit).await {
            Ok(page) => self.session.serve(request, page),
            Err(error) => {
                // Not a word about older messages: they may be there.
                self.session.serve(request, Page { messages: Vec::new(), more: true });
                return Err(Ended::lost(error.to_string()));
            }
        }
        Ok(())
    }

    // ---- what is wanted

    fn command(&mut self, command: Command) -> ControlFlow<Shutdown> {
        match command {
            Command::Send { key, chat, draft, done } => match self.session.send(key, chat, *draft) {
                Ok(()) => drop(self.waiters.sends.insert(key, done)),
                Err(problem) => drop(done.send(Err(problem.into()))),
            },
            Command::Ack { chat, seq } => self.session.stored(chat, seq),
            Command::AckDurably { chat, done } => {
                let id = self.session.ack_confirmed(chat);
                self.expect(id, done);
            }
            Command::Read { chat, seq, done } => {
                self.waiters.read(chat, seq, done);
                self.session.read(chat, seq);
            }
            Command::Request { frame, done } => {
                let id = self.session.request(frame);
                self.expect(id, done);
            }
            Command::Put(frame) => drop(self.session.put(frame)),
            Command::Serve { request, page } => self.session.serve(request, page),
            Command::Ready => self.session.ready(),
            Command::Unsent { done } => {
                let unsent = self.session.unsent().cloned().collect();
                let _ = done.send(Ok(unsent));
            }
            Command::Leave(departure) => return ControlFlow::Break(departure),
        }
        ControlFlow::Continue(())
    }

    fn expect(&mut self, id: Option<u64>, done: super::Waiter<Box<serde_json::value::RawValue>>) {
        match id {
            Some(id) => drop(self.waiters.replies.insert(id, done)),
            None => drop(done.send(Err(Error::Offline))),
        }
    }
}

impl Ended {
    /// The application wanted it.
    pub(crate) fn left() -> Self {
        Self { class: CloseClass::Closed, close: None, text: "the client was closed".to_owned() }
    }
}
