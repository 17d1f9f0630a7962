//! The publisher's task: one connection, the queue of calls not yet written, and the calls written but not answered.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::{Bodies, Caller, PublishError, Request};
use crate::address::Address;
use crate::backoff::Backoff;
use crate::connection::{Connection, ConnectionError};
use crate::frame::{self, Frame};
use crate::identify::{ConnectOptions, Wishes};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A connection that lasted this long was stable: the next loss is a new failure, not the same one continued.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// A call this long past its deadline without an answer means that nsqd is stuck. (A frozen nsqlookupd delays the first
/// message of a new topic for 5 s: that is no reason to drop a connection.)
const STUCK_AFTER: Duration = Duration::from_secs(6);

/// Nothing more is encoded while this many bytes wait for the socket.
const OUT_BYTES: usize = 256 << 10;

/// Calls taken from the queue in one round.
const BATCH: usize = 256;

/// With more calls than this under way, writes are batched.
const BUSY: usize = 64;

/// The distance of "no deadline".
const FAR: Duration = Duration::from_secs(24 * 3600);

/// An encoded call.
struct Sent {
    /// Where its command ends in the stream of bytes: until the socket has accepted this many, nsqd can't have all of
    /// it.
    end: u64,
    expires: Instant,
    /// `None` after its deadline has passed: the place stays, because nsqd's answer still comes.
    caller: Option<Caller>,
}

/// Why serving a connection ended.
enum End {
    /// No publisher is left.
    Unused,
    /// nsqd refused a call and closes the connection, without reading anything behind that call.
    Refused,
    Lost(ConnectionError),
}

pub(super) struct Task {
    addr: Address,
    options: ConnectOptions,
    queue: mpsc::UnboundedReceiver<Request>,
    /// Taken from the queue, not encoded yet.
    unsent: VecDeque<Request>,
    batch: Vec<Request>,
}

impl Task {
    pub(super) fn new(
        addr: Address,
        options: ConnectOptions,
        queue: mpsc::UnboundedReceiver<Request>,
    ) -> Self {
        Self { addr, options, queue, unsent: VecDeque::new(), batch: Vec::new() }
    }

    /// Connects, serves, waits, and repeats, until the last publisher is dropped.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let Some(attempt) = self.connect().await else { return };
            let error = match attempt {
                Ok(connection) => {
                    let began = Instant::now();
                    let end = self.serve(connection).await;
                    if began.elapsed() > GOOD_FOR {
                        backoff.reset();
                    }
                    match end {
                        End::Unused => return,
                        // nsqd is up: the waiting calls needn't fail.
                        End::Refused => continue,
                        End::Lost(error) => error,
                    }
                }
                Err(error) => error,
            };
            let wait = backoff.next();
            tracing::debug!(addr = %self.addr, %error, ?wait, "publisher is down");
            if !self.refuse_for(wait, &error.to_string()).await {
                return;
            }
        }
    }

    /// Makes one attempt, while calls gather. Returns `None` if no publisher is left.
    async fn connect(&mut self) -> Option<Result<Connection, ConnectionError>> {
        let Some(addr) = self.addr.now() else { return Some(Err(ConnectionError::NoAddress)) };
        let options = self.options.clone();
        let mut attempt = Box::pin(async move { Connection::open(&addr, &options, Wishes::default()).await });
        let timer = tokio::time::sleep(FAR);
        tokio::pin!(timer);
        loop {
            arm(timer.as_mut(), self.unsent.iter().map(|r| r.caller.expires).min());
            tokio::select! {
                result = &mut attempt => return Some(result.map(|(connection, _)| connection)),
                n = self.queue.recv_many(&mut self.batch, BATCH) => {
                    if n == 0 {
                        return None;
                    }
                    self.unsent.extend(self.batch.drain(..));
                }
                () = &mut timer => self.expire_unsent(),
            }
        }
    }

    /// Fails calls at once for a while. Returns false if no publisher is left.
    async fn refuse_for(&mut self, wait: Duration, why: &str) -> bool {
        let timer = tokio::time::sleep(wait);
        tokio::pin!(timer);
        loop {
            for request in self.unsent.drain(..) {
                request.caller.answer(Err(PublishError::NotSent(why.to_owned())));
            }
            tokio::select! {
                () = &mut timer => return true,
                n = self.queue.recv_many(&mut self.batch, BATCH) => {
                    if n == 0 {
                        return false;
                    }
                    self.unsent.extend(self.batch.drain(..));
                }
            }
        }
    }

    async fn serve(&mut self, mut connection: Connection) -> End {
        let mut sent = VecDeque::new();
        let silence = self.options.heartbeat.mul_f64(2.5);
        let mut heard = Instant::now();
        let timer = tokio::time::sleep(silence);
        tokio::pin!(timer);
        let end = loop {
            self.encode(&mut connection, &mut sent, timer.as_mut());
            let more = !self.unsent.is_empty();
            tokio::select! {
                biased;
                turned = turn(&mut connection, &mut sent, more) => {
                    heard = Instant::now();
                    if let Err(end) = turned {
                        break end;
                    }
                }
                n = self.queue.recv_many(&mut self.batch, BATCH) => {
                    if n == 0 {
                        break End::Unused;
                    }
                    self.unsent.extend(self.batch.drain(..));
                }
                () = &mut timer => {
                    self.expire_unsent();
                    let now = Instant::now();
                    expire_sent(&mut sent, now);
                    let stuck = sent.front().is_some_and(|s: &Sent| s.expires + STUCK_AFTER <= now);
                    if stuck || heard + silence <= now {
                        break End::Lost(ConnectionError::Silent(now - heard));
                    }
                    let next = sent.iter().map(|s| if s.caller.is_some() { s.expires } else { s.expires + STUCK_AFTER });
                    let next = next.chain(self.unsent.iter().map(|r| r.caller.expires));
                    arm(timer.as_mut(), next.chain([heard + silence]).min());
                }
            }
        };
        let written = connection.written();
        for Sent { end: at, caller, .. } in sent {
            let Some(caller) = caller else { continue };
            caller.answer(Err(match &end {
                End::Refused => PublishError::NotSent(
                    "nsqd closed the connection over the message before this one".to_owned(),
                ),
                End::Lost(error) if written < at => PublishError::NotSent(error.to_string()),
                End::Lost(error) => PublishError::Unknown(error.to_string()),
                End::Unused => PublishError::Unknown("the publisher was dropped".to_owned()),
            }));
        }
        end
    }

    /// Encodes waiting calls, as far as the socket keeps up. Behind many unanswered calls, new calls wait until those
    /// are an eighth as many (which is soon: each answer reduces them). One write here, and one read at nsqd, then
    /// carries many messages.
    fn encode(&mut self, connection: &mut Connection, sent: &mut VecDeque<Sent>, mut timer: Pin<&mut Sleep>) {
        let gather = sent.len() > BUSY && self.unsent.len() < sent.len() / 8;
        while !gather
            && connection.out.len() < OUT_BYTES
            && let Some(Request { topic, bodies, caller }) = self.unsent.pop_front()
        {
            if caller.reply.is_closed() {
                continue;
            }
            match bodies {
                Bodies::One(body) => frame::put_pub(&mut connection.out, &topic, &body),
                Bodies::Many(bodies) => frame::put_mpub(&mut connection.out, &topic, &bodies),
            }
            let expires = caller.expires;
            sent.push_back(Sent { end: connection.position(), expires, caller: Some(caller) });
            // Otherwise the timer fires early enough, and is reset then: traffic doesn't touch it.
            if expires < timer.deadline() {
                timer.as_mut().reset(expires);
            }
        }
        if let Some(waiting) = self.unsent.front()
            && waiting.caller.expires < timer.deadline()
        {
            timer.reset(waiting.caller.expires);
        }
    }

    fn expire_unsent(&mut self) {
        let now = Instant::now();
        let (expired, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.unsent).into_iter().partition(|r| r.caller.expires <= now);
        self.unsent = waiting;
        for request in expired {
            let why = format!("nsqd at {} took nothing within the deadline; is it frozen?", self.addr);
            request.caller.answer(Err(PublishError::NotSent(why)));
        }
    }
}

fn arm(timer: Pin<&mut Sleep>, at: Option<Instant>) {
    timer.reset(at.unwrap_or_else(|| Instant::now() + FAR));
}

fn expire_sent(sent: &mut VecDeque<Sent>, now: Instant) {
    for call in sent.iter_mut().filter(|s| s.expires <= now) {
        if let Some(caller) = call.caller.take() {
            caller.answer(Err(PublishError::Unknown("nsqd didn't answer within the deadline".to_owned())));
        }
    }
}

/// Writes and reads. Ready when something arrived, or all was written and there is `more` to encode.
fn turn(
    connection: &mut Connection,
    sent: &mut VecDeque<Sent>,
    more: bool,
) -> impl Future<Output = Result<(), End>> {
    poll_fn(move |cx| {
        let wrote_all = match connection.poll_write_out(cx) {
            Poll::Ready(Ok(wrote)) => wrote,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(End::Lost(error))),
            Poll::Pending => false,
        };
        let mut beats = 0;
        let mut end = None;
        let read = connection.poll_frames(cx, |frame| match frame {
            _ if end.is_some() => {}
            Frame::Ok => match sent.pop_front() {
                Some(Sent { caller: Some(caller), .. }) => caller.answer(Ok(())),
                Some(_) => {}
                None => end = Some(End::Lost(ConnectionError::Unexpected("OK to nothing".to_owned()))),
            },
            Frame::Heartbeat => beats += 1,
            Frame::Error(message) => {
                end = Some(match sent.pop_front() {
                    Some(call) => {
                        if let Some(caller) = call.caller {
                            let code = frame::error_code(&message).to_owned();
                            caller.answer(Err(PublishError::Refused { code, message }));
                        }
                        End::Refused
                    }
                    None => End::Lost(ConnectionError::Refused(message)),
                });
            }
            other => end = Some(End::Lost(ConnectionError::Unexpected(format!("{other:?}")))),
        });
        for _ in 0..beats {
            frame::put_nop(&mut connection.out);
        }
        match (end, read) {
            (Some(end), _) => Poll::Ready(Err(end)),
            (None, Poll::Ready(Err(error))) => Poll::Ready(Err(End::Lost(error))),
            (None, Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            (None, Poll::Pending) if wrote_all && more => Poll::Ready(Ok(())),
            (None, Poll::Pending) => Poll::Pending,
        }
    })
}
