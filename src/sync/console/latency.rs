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
mod tests {
    use super::*;

    fn counts(within: [u64; 3], all: u64) -> Counts {
        Counts { bounds: vec![0.001, 0.01, 0.1], within: within.to_vec(), all }
    }

    #[test]
    fn a_quantile_lies_between_its_bounds() {
        assert_eq!(counts([0, 0, 0], 0).quantile(0.99), None);
        assert_eq!(counts([100, 100, 100], 100).quantile(0.5), Some(0.0005));
        let mixed = counts([50, 90, 100], 100);
        assert_eq!(mixed.quantile(0.5), Some(0.001));
        assert!((mixed.quantile(0.99).unwrap() - 0.091).abs() < 1e-9);
        // Beyond the last bound it is unknown.
        assert_eq!(counts([0, 0, 1], 100).quantile(0.99), Some(0.1));
    }

    #[test]
    fn edges_are_added_and_what_was_before_taken_away() {
        let mut sum = Counts::default();
        sum.add(&counts([1, 2, 3], 4).since(&counts([1, 1, 1], 1)));
        sum.add(&counts([5, 5, 5], 5).since(&Counts::default()));
        sum.add(&Counts { bounds: vec![1.0], within: vec![7], all: 7 });
        assert_eq!(sum, counts([5, 6, 7], 8));
    }
}
