//! The edges' counters, summed over their restarts.

use std::collections::HashMap;

use crate::support::http_get;

/// Counters that show the effect of faults.
pub const COUNTED: [&str; 6] = [
    "keepstep_deliveries_total{source=\"log\"}",
    "keepstep_deliveries_total{source=\"nsq\"}",
    "keepstep_relayed_total",
    "keepstep_notifications_missed_total",
    "keepstep_refills_total",
    "keepstep_gaps_total",
];

/// The index in [`COUNTED`] of messages from the log.
pub const LOG: usize = 0;
/// The index of messages published again.
pub const RELAYED: usize = 2;
/// The index of missed notifications.
pub const MISSED: usize = 3;

/// Sums, in the order of [`COUNTED`].
pub type Sums = [u64; COUNTED.len()];

/// See the module.
#[derive(Debug, Default)]
pub struct Meter {
    // By address and counter: what it said last.
    last: HashMap<(String, usize), u64>,
    sums: Sums,
}

impl Meter {
    /// Returns the present sums. An edge that doesn't answer counts with its last values.
    pub async fn read(&mut self, addresses: &[String]) -> Sums {
        for address in addresses {
            let Ok((200, text)) = http_get(address, "/metrics").await else { continue };
            for (at, name) in COUNTED.iter().enumerate() {
                let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                let value =
                    value.and_then(|value| value.trim().parse::<f64>().ok()).map_or(0, |value| value as u64);
                let last = self.last.entry((address.clone(), at)).or_default();
                // A lower one is a new life.
                self.sums[at] += if value >= *last { value - *last } else { value };
                *last = value;
            }
        }
        self.sums
    }
}
