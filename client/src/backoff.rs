//! The pause before the next try to connect.

use std::time::Duration;

/// Pauses that double, with jitter, so that the clients of an edge don't come back in the same moment.
///
/// It has no randomness of its own: the caller gives each pause its jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    pause: Duration,
}

impl Backoff {
    /// Returns a backoff from `first` to `longest`. The contract's values are 1 s and 30 s.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: first }
    }

    /// Returns the next pause times 0.5 to 1.5, by a `jitter` from 0 to 1, and doubles the one after it.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(self.longest);
        pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.pause = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}
