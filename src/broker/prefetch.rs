//! The bound over all subscriptions of one device.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

type Turns = Vec<(String, Arc<Semaphore>)>;

/// The bound over all subscriptions of one device: messages that were taken from its queues and neither finished nor
/// requeued. Together the subscriptions hold at most `messages`, and one more for each queue (a queue of which nothing
/// is held always delivers its first message at once), besides what was on its way when the bound was reached; over NSQ
/// never more than twice `messages`. Queues that wait for room get it in turn. Clones share one bound.
#[derive(Debug, Clone)]
pub struct Prefetch {
    pub(super) nsq: keepstep_nsq::Budget,
    /// Bodies in this process's memory are shared, so their bytes don't count there.
    pub(super) embedded: Arc<Semaphore>,
    /// By server: how many of the device's subscriptions begin at the same time there. A server that hangs takes no turn
    /// from another.
    turns: Arc<Mutex<Turns>>,
}

impl Prefetch {
    /// How many subscriptions of one device begin at the same time at one server.
    const BEGINNING: usize = 8;

    /// How many bytes of bodies one device's subscriptions hold together; at most twice as many are ever held.
    pub const BYTES: usize = 4 << 20;

    /// Returns a bound of `messages` messages (at least 1), and `bytes` bytes of bodies.
    #[must_use]
    pub fn new(messages: usize, bytes: usize) -> Self {
        let messages = messages.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            nsq: keepstep_nsq::Budget::new(u32::try_from(messages).unwrap_or(u32::MAX), bytes),
            embedded: Arc::new(Semaphore::new(messages)),
            turns: Arc::default(),
        }
    }

    /// Returns the bound for a device with this unacknowledged window: twice the window, so that the next window is
    /// there when the device has acknowledged one.
    #[must_use]
    pub fn for_window(window: usize) -> Self {
        Self::new(window.saturating_mul(2).max(Self::LEAST), Self::BYTES)
    }

    /// Returns the turns in which the device's subscriptions begin at this server.
    pub(super) fn turns(&self, server: &str) -> Arc<Semaphore> {
        // Nothing panics while it is locked, so a poisoned list is whole.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let found = turns.iter().find(|(name, _)| name == server).map(|(_, turns)| turns.clone());
        found.unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(Self::BEGINNING));
            turns.push((server.to_owned(), new.clone()));
            new
        })
    }

    /// Returns whether a queue waits for room: then messages that are held without use are better requeued.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.nsq.is_wanted() || self.embedded.available_permits() == 0
    }

    /// The minimum number of prefetched messages, for any window: so many may arrive before one that is late.
    const LEAST: usize = 64;
}
