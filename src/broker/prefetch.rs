//! What all subscriptions of one device hold together.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The bound over all subscriptions of one device: messages taken from its queues and neither finished nor given back.
/// Together they hold at most `messages` and one for each queue (the first of a queue that nothing is held of comes at once,
/// always), beside what was on its way when it became enough; over NSQ never more than twice `messages`. Queues that wait for room get it in turn. Clones are one bound.
#[derive(Debug, Clone)]
pub struct Prefetch {
    pub(super) nsq: keepstep_nsq::Budget,
    /// Bodies in this process's memory are shared, so their bytes don't count there.
    pub(super) embedded: Arc<Semaphore>,
}

impl Prefetch {
    /// Bytes of bodies that one device's subscriptions hold together; never are more than twice as many held.
    pub const BYTES: usize = 4 << 20;

    /// Room for so many messages (at least 1), and so many bytes of bodies.
    #[must_use]
    pub fn new(messages: usize, bytes: usize) -> Self {
        let messages = messages.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            nsq: keepstep_nsq::Budget::new(u32::try_from(messages).unwrap_or(u32::MAX), bytes),
            embedded: Arc::new(Semaphore::new(messages)),
        }
    }

    /// For a device whose unacknowledged window is so large: twice as much, so that its next window is there when it
    /// has acknowledged one.
    #[must_use]
    pub fn for_window(window: usize) -> Self {
        Self::new(window.saturating_mul(2).max(Self::LEAST), Self::BYTES)
    }

    /// Whether somebody waits for room: what is held and of no use now had better go back.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.nsq.is_wanted() || self.embedded.available_permits() == 0
    }

    /// However small a window is: so many may come early, before one that is late.
    const LEAST: usize = 64;
}
