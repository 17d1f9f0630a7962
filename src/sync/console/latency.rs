//! Quantiles of a histogram's counts.

/// Cumulative counts of a histogram: for each upper bound in seconds, and in all.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Upper bounds in seconds, ascending.
    pub bounds: Vec<f64>,
    /// For each bound: how many took at most so long.
    pub within: Vec<u64>,
    /// All of them.
    pub all: u64,
}

impl Counts {
    /// Returns the counts since `before`; all of them, if its bounds differ.
    pub(super) fn since(&self, before: &Counts) -> Counts {
        if before.bounds != self.bounds {
            return self.clone();
        }
        let within = self.within.iter().zip(&before.within).map(|(now, before)| now.saturating_sub(*before));
        Counts {
            bounds: self.bounds.clone(),
            within: within.collect(),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// Adds those of another edge. With other bounds (another version) they are ignored.
    pub(super) fn add(&mut self, other: &Counts) {
        if self.bounds.is_empty() {
            *self = other.clone();
        } else if self.bounds == other.bounds {
            self.within.iter_mut().zip(&other.within).for_each(|(sum, more)| *sum += more);
            self.all += other.all;
        }
    }

    /// Returns the quantile in seconds: interpolated linearly between two bounds, as Prometheus does; the last bound for what is
    /// beyond it. None without any.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        let rank = part * self.all as f64;
        let (mut below, mut from) = (0u64, 0.0);
        for (bound, within) in self.bounds.iter().zip(&self.within) {
            if *within as f64 >= rank {
                let inside = within.saturating_sub(below).max(1) as f64;
                return Some(from + (bound - from) * (rank - below as f64) / inside);
            }
            (below, from) = (*within, *bound);
        }
        self.bounds.last().copied()
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/console/latency.rs"]
mod tests;
