//! Bugs planted in the scripts of the store in Redis, and in the store in memory: does their contract notice each? A test that
//! can't fail proves nothing.
//!
//! This program is the contract (`tests/contract/store`) over a real Redis, and the one that runs it again and again: for
//! each bug of `table` it starts itself with that bug and the one story that should fail (over the store in memory, if the bug is
//! there). `scripts/mutants` builds it in a copy of the sources that can have the bugs (`tests/planted`), and starts it.

use std::time::Duration;

use keepstep::store::{
    Store, StoreLimits,
    embedded::EmbeddedStore,
    redis::{RedisOptions, RedisStore},
};

use crate::support::{Redis, RedisOptions as Server};

#[path = "../contract/store.rs"]
mod contract;
#[path = "../planted/switch.rs"]
mod planted;
mod runner;
#[path = "../support/mod.rs"]
mod support;
mod table;

/// What never comes with a bug is waited for so long; the slowest story takes 8 s without one.
const PATIENCE: Duration = Duration::from_secs(10);

async fn start(limits: StoreLimits) -> (Store, Option<Redis>) {
    if runner::plant() {
        return (Store::Embedded(EmbeddedStore::new(limits)), None);
    }
    let redis = Redis::start().await;
    (connect(&redis, limits).await, Some(redis))
}

async fn connect(redis: &Redis, limits: StoreLimits) -> Store {
    let options = RedisOptions { limits, ..RedisOptions::default() };
    Store::Redis(RedisStore::connect(&redis.url(), options).await.unwrap())
}

/// Redis's clock, so many seconds ahead of the machine's.
struct Clock(Redis);

impl Clock {
    async fn set(&self, seconds: i64) {
        self.0.set_clock(&format!("{seconds:+}")).await;
    }
}

async fn start_on_a_clock(limits: StoreLimits) -> (Store, Clock, ()) {
    runner::plant();
    let redis = Redis::start_with(Server { own_clock: true, ..Server::default() }).await;
    let store = connect(&redis, limits).await;
    // With a clock of its own, too, as a store has that is used.
    let Store::Redis(named) = &store else { panic!("a Redis") };
    assert!(named.identify(true, 0).await.unwrap());
    (store, Clock(redis), ())
}
