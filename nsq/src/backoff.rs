//! Exponential backoff with jitter, so that thousands of subscriptions don't return in the same millisecond.

use std::time::Duration;

/// The wait between attempts. Call [`Backoff::reset`] after a success.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Returns the wait after one more failure: between half and all of `first * 2^failures`, at most `longest`.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.first.saturating_mul(1_u32 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
#[path = "../tests/unit/backoff.rs"]
mod tests;
