//! Identified connections of one nsqd that wait to be used, so that a subscription begins with one write instead of
//! three round trips. A connection serves one subscription and is closed then: NSQ allows one SUB per connection.
//!
//! One task keeps the pool full: it opens connections one after the other, answers nsqd's heartbeats, and drops what
//! nsqd has closed. A pool that is empty costs its subscriptions those round trips and nothing else.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::connection::{Connection, ConnectionError};
use crate::frame::{self, Frame};
use crate::identify::{ConnectOptions, Identified, Wishes};

/// The wait after a failed attempt to open a connection: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// How large a pool is, and for which subscriptions.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Connections that wait to be used. Default 16.
    pub spare: usize,
    /// Subscriptions that may begin at the same time; further ones wait, first come, first served. Default 64.
    pub beginning: usize,
    /// [`crate::SubscribeOptions::msg_timeout`] of the subscriptions. nsqd fixes it at the handshake, so the pool serves
    /// only subscriptions with this value.
    pub msg_timeout: Option<Duration>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { spare: 16, beginning: 64, msg_timeout: None }
    }
}

/// See the module. Clones share one pool; it ends with the last of them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
    _keeper: Arc<Keeper>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("spare", &self.shared.spare().len()).finish_non_exhaustive()
    }
}

/// Ends its task when it is dropped.
struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    address: Address,
    connect: Arc<ConnectOptions>,
    size: usize,
    wishes: Wishes,
    spare: Mutex<VecDeque<Spare>>,
    /// One was taken, or the keeper must look at a new one.
    changed: Notify,
    beginning: Semaphore,
}

/// A connection that waits to be used.
struct Spare {
    connection: Connection,
    identified: Identified,
    /// When bytes came.
    heard: Instant,
}

impl Spare {
    /// Answers heartbeats. Ready if the connection is of no use any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (mut heartbeats, mut others) = (0, 0);
            let read = self.connection.poll_frames(cx, |frame| match frame {
                Frame::Heartbeat => heartbeats += 1,
                _ => others += 1,
            });
            match read {
                Poll::Ready(Ok(())) if others == 0 => self.heard = Instant::now(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            for _ in 0..heartbeats {
                frame::put_nop(&mut self.connection.out);
            }
        }
        match self.connection.poll_write_out(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Pool {
    /// Returns the pool of the nsqd at this address, and begins to fill it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(address: impl Into<Address>, connect: Arc<ConnectOptions>, options: PoolOptions) -> Self {
        let shared = Arc::new(Shared {
            address: address.into(),
            connect,
            size: options.spare,
            wishes: Wishes { msg_timeout: options.msg_timeout, unbuffered: false },
            spare: Mutex::default(),
            changed: Notify::new(),
            beginning: Semaphore::new(options.beginning.max(1)),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared))).abort_handle();
        Self { shared, _keeper: Arc::new(Keeper(keeper)) }
    }

    /// Waits for a turn to begin a subscription.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.shared.beginning.acquire().await.ok()
    }

    /// Takes a connection that was identified with these wishes.
    pub(crate) fn take(&self, wishes: Wishes) -> Option<(Connection, Identified)> {
        if wishes != self.shared.wishes {
            return None;
        }
        let (now, silence) = (Instant::now(), self.shared.connect.silence());
        let mut spare = self.shared.spare();
        let mut taken = spare.pop_front();
        while taken.as_ref().is_some_and(|taken| now.duration_since(taken.heard) > silence) {
            taken = spare.pop_front();
        }
        drop(spare);
        self.shared.changed.notify_one();
        taken.map(|Spare { connection, identified, .. }| (connection, identified))
    }

    /// Takes back a connection that wasn't used.
    pub(crate) fn give_back(&self, connection: Connection, identified: Identified) {
        let mut spare = self.shared.spare();
        if spare.len() < self.shared.size {
            spare.push_back(Spare { connection, identified, heard: Instant::now() });
            drop(spare);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn spare(&self) -> MutexGuard<'_, VecDeque<Spare>> {
        // Nothing in here panics while the lock is held, so a poisoned pool is whole.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.spare().len() >= self.size
    }

    /// Serves the waiting connections. Ready when there are fewer.
    fn poll_spare(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut spare = self.spare();
        let before = spare.len();
        spare.retain_mut(|spare| spare.poll(cx).is_pending());
        if spare.len() < before { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn open(&self) -> Result<(Connection, Identified), ConnectionError> {
        let address = self.address.told().await.ok_or(ConnectionError::NoAddress)?;
        Connection::open(&address, &self.connect, self.wishes).await
    }

    /// Drops connections on which nsqd is silent. A later heartbeat wakes nobody, if the network has forgotten it.
    fn drop_silent(&self) {
        let (now, silence) = (Instant::now(), self.connect.silence());
        self.spare().retain(|spare| now.duration_since(spare.heard) <= silence);
    }
}

/// Keeps the pool full.
async fn keep(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        if shared.is_full() {
            tokio::select! {
                () = poll_fn(|cx| shared.poll_spare(cx)) => {}
                () = shared.changed.notified() => {}
                () = tokio::time::sleep(shared.connect.heartbeat) => shared.drop_silent(),
            }
            continue;
        }
        let mut opening = pin!(shared.open());
        let opened = loop {
            tokio::select! {
                opened = &mut opening => break opened,
                () = poll_fn(|cx| shared.poll_spare(cx)) => {}
            }
        };
        match opened {
            Ok((connection, identified)) => {
                backoff.reset();
                shared.spare().push_back(Spare { connection, identified, heard: Instant::now() });
            }
            Err(error) => {
                let wait = backoff.next();
                tracing::debug!(%error, ?wait, "no spare connection to nsqd; tried again");
                let mut wait = pin!(tokio::time::sleep(wait));
                loop {
                    tokio::select! {
                        () = &mut wait => break,
                        () = poll_fn(|cx| shared.poll_spare(cx)) => {}
                    }
                }
            }
        }
    }
}
