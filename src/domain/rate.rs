//! Rate limits. Pure: a token bucket, and how long it has been empty.

use std::time::Duration;

use tokio::time::Instant;

/// A rate limit; see the module.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    // Since when frames have been delayed, without a pause long enough to fill a tenth of the burst.
    over_since: Option<Instant>,
}

/// The verdict on a frame, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Accept it.
    Take,
    /// Accept it, but read on only after this time.
    Delay(Duration),
    /// Too much for too long: refuse it.
    Refuse,
}

impl Rate {
    /// Returns a full bucket.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, tokens: burst, filled: now, over_since: None }
    }

    /// Returns a full bucket that fills once a `period`.
    #[must_use]
    pub fn per(count: u32, period: Duration, now: Instant) -> Self {
        let rate = Self::new(1, count, now);
        Self { per_second: f64::from(count.max(1)) / period.as_secs_f64(), ..rate }
    }

    /// Returns whether the bucket is full, as a new one is.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + passed * self.per_second >= self.burst
    }

    /// Fills the bucket for the time since `since`, which its user spent in a place whose requests this bucket doesn't
    /// know: that time fills the bucket only so fast that a minute makes it full.
    pub fn was_away(&mut self, since: Instant, now: Instant) {
        self.fill(since);
        let passed = now.saturating_duration_since(since).as_secs_f64();
        self.tokens = (self.tokens + passed * (self.burst / 60.0).min(self.per_second)).min(self.burst);
        self.filled = self.filled.max(now);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.filled = self.filled.max(now);
    }

    /// Counts one frame. Refuses it if the delay would exceed `patience`.
    pub fn frame(&mut self, now: Instant, patience: Duration) -> Verdict {
        self.weigh(1.0, now, patience)
    }

    /// Counts something that costs as much as `cost` frames.
    pub fn weigh(&mut self, cost: f64, now: Instant, patience: Duration) -> Verdict {
        self.fill(now);
        if self.tokens >= self.burst / 10.0 {
            self.over_since = None;
        }
        if self.tokens >= cost {
            self.tokens -= cost;
            return Verdict::Take;
        }
        let since = *self.over_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= patience {
            return Verdict::Refuse;
        }
        let missing = cost - self.tokens;
        self.tokens -= cost;
        Verdict::Delay(Duration::from_secs_f64(missing / self.per_second))
    }
}

#[cfg(test)]
#[path = "../../tests/unit/domain/rate.rs"]
mod tests;
