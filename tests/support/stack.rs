//! Everything an edge stands on, in one value.

use super::edge::EdgeConfig;
use super::nsq::{Lookupd, Nsqd};
use super::redis::Redis;

/// One Redis, one nsqlookupd, two nsqd.
#[derive(Debug)]
pub struct Stack {
    /// The store.
    pub redis: Redis,
    /// The directory of queues.
    pub lookupd: Lookupd,
    /// The queues.
    pub nsqd: [Nsqd; 2],
}

impl Stack {
    /// Starts all of it.
    pub async fn start() -> Stack {
        let (redis, lookupd) = tokio::join!(Redis::start(), Lookupd::start());
        let (a, b) = tokio::join!(Nsqd::start(Some(&lookupd)), Nsqd::start(Some(&lookupd)));
        Stack { redis, lookupd, nsqd: [a, b] }
    }

    /// The settings of an edge on it.
    pub fn edge(&self) -> EdgeConfig {
        EdgeConfig::on(&self.redis, &self.nsqd, Some(&self.lookupd))
    }
}
