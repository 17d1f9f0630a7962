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
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn a_burst_passes_then_reading_slows_then_frames_are_refused() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 500, start);
        let mut now = start;
        for _ in 0..500 {
            assert_eq!(rate.frame(now, PATIENCE), Verdict::Take);
        }
        let mut taken = 0;
        loop {
            match rate.frame(now, PATIENCE) {
                Verdict::Delay(wait) => {
                    assert!(wait <= Duration::from_millis(20), "{wait:?}");
                    now += wait;
                    taken += 1;
                }
                Verdict::Take => taken += 1,
                Verdict::Refuse => break,
            }
        }
        assert!((480..=520).contains(&taken), "{taken} in 5 s of holding back");
        // After a pause the limit is as before.
        assert_eq!(rate.frame(now + Duration::from_secs(6), PATIENCE), Verdict::Take);
    }
    #[test]
    fn who_was_away_finds_the_bucket_as_it_was_left() {
        let start = Instant::now();
        let mut rate = Rate::new(100, 500, start);
        for _ in 0..500 {
            rate.frame(start, PATIENCE);
        }
        // Six seconds elsewhere are worth a tenth of a minute's filling.
        let back = start + Duration::from_secs(6);
        rate.was_away(start, back);
        let taken = (0..500).take_while(|_| rate.frame(back, PATIENCE) == Verdict::Take).count();
        assert_eq!(taken, 50);
        rate.was_away(back, back + Duration::from_secs(61));
        assert!(rate.is_full(back + Duration::from_secs(61)));
    }
}
