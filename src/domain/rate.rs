//! How often a device may ask for something. Pure: a token bucket, and how long it has been empty.

use std::time::Duration;

use tokio::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    // Since when frames have been held back, without a pause long enough to fill a tenth of the burst.
    over_since: Option<Instant>,
}

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Take,
    /// Take it, but read on only after this time.
    Delay(Duration),
    /// Too much for too long: refuse it.
    Refuse,
}

impl Rate {
    /// A full bucket.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { per_second: f64::from(per_second.max(1)), burst, tokens: burst, filled: now, over_since: None }
    }

    /// Whether nothing was asked for so long that it is as new.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens + passed * self.per_second >= self.burst
    }

    /// One frame. Held back for longer than `patience`, it is refused.
    pub fn frame(&mut self, now: Instant, patience: Duration) -> Verdict {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        self.filled = now;
        if self.tokens >= self.burst / 10.0 {
            self.over_since = None;
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Take;
        }
        let since = *self.over_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= patience {
            return Verdict::Refuse;
        }
        let missing = 1.0 - self.tokens;
        self.tokens -= 1.0;
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
        // After a pause it is as before.
        assert_eq!(rate.frame(now + Duration::from_secs(6), PATIENCE), Verdict::Take);
    }
}
