//! The checker: decides each invariant of `docs/guarantees.md` from a history alone.

use super::History;

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

/// All violations, in the order of the invariants.
pub fn check(_history: &History) -> Vec<Violation> {
    todo!()
}
