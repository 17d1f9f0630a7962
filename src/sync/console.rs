//! What the console shows of everything at once, and what admins do: lists of all devices and users (`snapshot`, in an
//! `order`), edges' figures and the overview (`figures`, `overview`), queues that are nobody's (`orphans`), the audit log.
//! Nothing of it is made unless somebody asks (`fresh`), but the figures.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use crate::{
    broker::Totals,
    domain::{Millis, now_millis},
};

pub mod audit;
mod figures;
mod fresh;
mod latency;
pub mod order;
pub mod orphans;
mod overview;
pub mod snapshot;

pub use figures::{Figures, Sample, run};
use fresh::Fresh;
pub use overview::{Overview, overview};

/// More queues than these aren't told apart in one look at all of them.
const MOST_QUEUES: usize = 2_000_000;

/// What one edge remembers for its console.
#[derive(Debug)]
pub(super) struct Console {
    started: Millis,
    totals: Fresh<Stamped<Totals>>,
    snapshot: Fresh<snapshot::Snapshot>,
    ages: Fresh<snapshot::Ages>,
    orphans: Fresh<orphans::Orphans>,
    /// The last ten minutes, oldest first.
    history: Mutex<VecDeque<Sample>>,
}

impl Console {
    /// `refresh`: nothing is made anew sooner.
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            started: now_millis(),
            totals: Fresh::new(refresh),
            snapshot: Fresh::new(refresh),
            ages: Fresh::new(refresh),
            orphans: Fresh::new(refresh),
            history: Mutex::default(),
        }
    }
}

/// Something, and of when it is.
#[derive(Debug)]
struct Stamped<T> {
    as_of: Millis,
    value: T,
}
