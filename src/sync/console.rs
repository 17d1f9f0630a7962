//! The console's data and the admins' actions: lists of all devices and users (`snapshot`, in an `order`), figures of edges
//! and the overview (`figures`, `overview`), orphan queues (`orphans`), the audit log. Everything but the figures is made on
//! demand (`fresh`).

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

/// The most queues that one snapshot distinguishes.
const MOST_QUEUES: usize = 2_000_000;

/// What one edge keeps for its console.
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
    /// `refresh`: the least time between two refreshes.
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

/// A value with its time.
#[derive(Debug)]
struct Stamped<T> {
    as_of: Millis,
    value: T,
}
