//! All servers that an edge needs, in one value.

use super::disk::SmallDisk;
use super::edge::EdgeConfig;
use super::nsq::{Lookupd, Nsqd, NsqdOptions};
use super::redis::{Redis, RedisOptions};

/// One Redis, one nsqlookupd, two nsqd.
#[derive(Debug)]
pub struct Stack {
    /// The store.
    pub redis: Redis,
    /// nsqlookupd.
    pub lookupd: Lookupd,
    /// The two nsqd.
    pub nsqd: [Nsqd; 2],
    /// Their file systems, if they have their own.
    pub disks: Vec<SmallDisk>,
}

impl Stack {
    /// Starts everything.
    pub async fn start() -> Stack {
        Stack::start_on(Vec::new()).await
    }

    /// The same with a file system for each nsqd.
    pub async fn start_on(disks: Vec<SmallDisk>) -> Stack {
        Stack::start_with(disks, RedisOptions::default(), &[]).await
    }

    /// The same with a Redis of another kind, and with further arguments for each nsqd.
    pub async fn start_with(disks: Vec<SmallDisk>, redis: RedisOptions, args: &[String]) -> Stack {
        let (redis, lookupd) = tokio::join!(Redis::start_with(redis), Lookupd::start());
        let nsqd = |n: usize| {
            let (lookupd, data) = (Some(lookupd.tcp()), disks.get(n).map(|disk| disk.path().join("data")));
            Nsqd::start_with(NsqdOptions { lookupd, data, args: args.to_vec() })
        };
        let (a, b) = tokio::join!(nsqd(0), nsqd(1));
        Stack { redis, lookupd, nsqd: [a, b], disks }
    }

    /// Returns the settings of an edge on it.
    pub fn edge(&self) -> EdgeConfig {
        EdgeConfig::on(&self.redis, &self.nsqd, Some(&self.lookupd))
    }
}
