//! The checker: decides each invariant of `docs/guarantees.md` from a history alone.
//!
//! It says only what is sure. A call whose answer is missing may have happened or not, now or later; what two clients
//! did at the same time may have happened in either order. So a history that it passes may still be wrong, but one that
//! it refuses is.
//!
//! `ledger` knows the messages (1, 2, 4, 5, 15), `lives` the devices, sockets and members; on these two stand `delivery`
//! (3, 6, 7, 8), `offsets` (9), `sessions` (10, 11, 12), `past` (13, 14) and `sockets` (17, 18).

mod delivery;
mod ledger;
mod lives;
mod offsets;
mod past;
mod sessions;
mod sockets;

use super::{History, Seq};

/// A promise that wasn't kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant.
    pub invariant: u8,
    /// What is wrong, with everything that names it.
    pub what: String,
    /// When, in microseconds since the run began, if it has a time.
    pub at: Option<u64>,
}

/// All violations, in the order of the invariants; of each the first [`MOST`].
pub fn check(history: &History) -> Vec<Violation> {
    let mut report = Report::default();
    let ledger = ledger::Ledger::of(history, &mut report);
    let lives = lives::Lives::of(history);
    delivery::check(history, &ledger, &lives, &mut report);
    offsets::check(history, &ledger, &lives, &mut report);
    sessions::check(history, &lives, &mut report);
    past::check(history, &lives, &mut report);
    sockets::check(history, &lives, &mut report);
    report.finish()
}

/// As many of one invariant are described; further ones are only counted.
pub const MOST: usize = 25;

/// What was found so far.
#[derive(Debug, Default)]
struct Report {
    found: Vec<Violation>,
    counts: [usize; 19],
}

impl Report {
    fn add(&mut self, invariant: u8, at: impl Into<Option<u64>>, what: impl FnOnce() -> String) {
        let count = &mut self.counts[usize::from(invariant)];
        *count += 1;
        if *count <= MOST {
            self.found.push(Violation { invariant, what: what(), at: at.into() });
        }
    }

    fn finish(mut self) -> Vec<Violation> {
        for (invariant, count) in (0u8..).zip(self.counts) {
            if count > MOST {
                let what = format!("and {} more of these", count - MOST);
                self.found.push(Violation { invariant, what, at: None });
            }
        }
        self.found.sort_by_key(|violation| violation.invariant);
        self.found
    }
}

/// A number that only rises, with the places in the history at which it rose.
#[derive(Debug, Default)]
struct Rising(Vec<(usize, Seq)>);

impl Rising {
    /// At this place it was at least that. Places come in order.
    fn push(&mut self, place: usize, value: Seq) {
        if value > self.last() {
            self.0.push((place, value));
        }
    }

    /// What it had reached before a place.
    fn before(&self, place: usize) -> Seq {
        let steps = self.0.partition_point(|(at, _)| *at < place);
        steps.checked_sub(1).map_or(0, |last| self.0[last].1)
    }

    /// What it has reached.
    fn last(&self) -> Seq {
        self.0.last().map_or(0, |(_, value)| *value)
    }
}
