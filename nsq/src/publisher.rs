//! Publishing to one nsqd over one pipelined connection.
//!
//! A call enters a queue, in order. The connection's task writes it and matches nsqd's answers to the calls, oldest
//! first. [`PublishError`] reports what a failed call means for its message: whether it is certainly not at nsqd, or
//! may be.

mod task;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::address::Address;
use crate::frame::{MAX_FRAME_BYTES, valid_name};
use crate::identify::ConnectOptions;

/// The bound of the calls that wait for nsqd, in KiB in all; each call counts one more than its bodies have.
const QUEUE_KIB: u32 = 64 << 10;

const DEFAULT_DEADLINE: Duration = Duration::from_secs(5);

/// Why a message wasn't published, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The message is certainly not at nsqd: publishing it again makes no duplicate.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The message was sent, but the answer didn't come: it may or may not be at nsqd. Publishing it again may
    /// duplicate it.
    #[error("sent, but not confirmed: {0}; it may or may not be queued")]
    Unknown(String),
    /// nsqd refused the message, and doesn't have it. `E_PUB_FAILED` and `E_MPUB_FAILED` mean that nsqd is in trouble
    /// (a full disk, or the topic is being deleted); other codes mean that nsqd doesn't accept the message as it is.
    #[error("nsqd refused with {code}: {message}")]
    Refused {
        /// nsqd's error code, for example `E_BAD_MESSAGE`.
        code: String,
        /// nsqd's whole error text.
        message: String,
    },
    /// Not even tried: the topic's name isn't valid, or a body is empty or larger than NSQ can carry.
    #[error("invalid: {0}")]
    Invalid(String),
}

/// One call under way.
struct Request {
    topic: Box<str>,
    bodies: Bodies,
    caller: Caller,
}

/// The caller that awaits the answer.
struct Caller {
    expires: Instant,
    reply: oneshot::Sender<Result<(), PublishError>>,
    /// Room in the queue, held until answered.
    _room: OwnedSemaphorePermit,
}

impl Caller {
    fn answer(self, result: Result<(), PublishError>) {
        // A caller that stopped waiting needs no result.
        let _ = self.reply.send(result);
    }
}

enum Bodies {
    One(Bytes),
    Many(Vec<Bytes>),
}

/// Publishes to one nsqd. Cheap to clone; all clones share one connection, which is opened on first use and again, with
/// jittered backoff, whenever it is lost. The connection and its task end when the last clone is dropped.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    addr: Address,
    // Unbounded, because the bound is `room`: it counts bytes and is held until the answer.
    requests: mpsc::UnboundedSender<Request>,
    room: Arc<Semaphore>,
    /// The task, until the first use starts it.
    unstarted: Mutex<Option<task::Task>>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("addr", &self.shared.addr)
            .field("deadline", &self.deadline)
            .finish()
    }
}

impl Publisher {
    /// Returns a publisher to the nsqd at `tcp_addr`. Connects nothing yet.
    pub fn new(tcp_addr: impl Into<Address>, options: ConnectOptions) -> Self {
        let addr = tcp_addr.into();
        let (requests, queue) = mpsc::unbounded_channel();
        let unstarted = Mutex::new(Some(task::Task::new(addr.clone(), options, queue)));
        let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Self { shared: Arc::new(Shared { addr, requests, room, unstarted }), deadline: DEFAULT_DEADLINE }
    }

    /// Sets the deadline per call, from the call to nsqd's answer. Default 5 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Returns the address that it publishes to.
    pub fn tcp_addr(&self) -> &Address {
        &self.shared.addr
    }

    /// Publishes one message. Resolves when nsqd has answered OK. Calls are sent in the order in which they are first
    /// polled. While a lost connection is being re-established, calls fail at once with [`PublishError::NotSent`];
    /// while the first connection is being opened, they wait.
    ///
    /// Dropping the future doesn't retract what may already be under way.
    ///
    /// # Errors
    /// See [`PublishError`]: each variant states what it means for the message.
    pub async fn publish(&self, topic: &str, body: Bytes) -> Result<(), PublishError> {
        check(topic, std::slice::from_ref(&body))?;
        self.send(topic, body.len(), Bodies::One(body)).await
    }

    /// Publishes all `bodies`, in order, or none. Together they must fit nsqd's `--max-body-size` (5 MiB). No-op
    /// without bodies.
    ///
    /// # Errors
    /// As [`Publisher::publish`], for all of them together.
    pub async fn publish_many(&self, topic: &str, bodies: &[Bytes]) -> Result<(), PublishError> {
        check(topic, bodies)?;
        if bodies.is_empty() {
            return Ok(());
        }
        let bytes = bodies.iter().map(Bytes::len).sum();
        self.send(topic, bytes, Bodies::Many(bodies.to_vec())).await
    }

    async fn send(&self, topic: &str, bytes: usize, bodies: Bodies) -> Result<(), PublishError> {
        let expires = Instant::now() + self.deadline;
        let kib = u32::try_from(1 + bytes / 1024).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.shared.room);
        let room = match Arc::clone(&room).try_acquire_many_owned(kib) {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout_at(expires, room.acquire_many_owned(kib))
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(|| {
                    PublishError::NotSent("the queue to nsqd stayed full; slow down".to_owned())
                })?,
        };
        let (reply, answer) = oneshot::channel();
        let caller = Caller { expires, reply, _room: room };
        let request = Request { topic: topic.into(), bodies, caller };
        if self.shared.requests.send(request).is_err() {
            return Err(PublishError::NotSent("the runtime of the publisher's task is gone".to_owned()));
        }
        self.start();
        // The task keeps the deadline: only it knows what was sent.
        answer.await.unwrap_or_else(|_| Err(PublishError::Unknown("the publisher's task ended".to_owned())))
    }

    /// Spawns the task on first use, so that a publisher can be created outside of a runtime.
    fn start(&self) {
        let task = self.shared.unstarted.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            tokio::spawn(task.run());
        }
    }
}

fn check(topic: &str, bodies: &[Bytes]) -> Result<(), PublishError> {
    if !valid_name(topic) {
        return Err(PublishError::Invalid(format!(
            "{topic:?} can't name a topic; use 1 to 64 of .a-zA-Z0-9_-"
        )));
    }
    if bodies.iter().any(Bytes::is_empty) {
        return Err(PublishError::Invalid("NSQ can't carry an empty body".to_owned()));
    }
    // nsqd's own limit is far lower, and configurable; this one keeps lengths within the protocol.
    if bodies.iter().map(|b| b.len() + 4).sum::<usize>() > MAX_FRAME_BYTES {
        return Err(PublishError::Invalid(format!("more than {MAX_FRAME_BYTES} bytes at once")));
    }
    Ok(())
}
