//! The store's contract over a real Redis, one for each story.

use std::time::Duration;

use keepstep::store::{
    Store, StoreLimits,
    redis::{RedisOptions, RedisStore},
};

use crate::support::{Redis, RedisOptions as Server};

#[path = "../contract/store.rs"]
mod contract;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(limits: StoreLimits) -> (Store, Redis) {
    let redis = Redis::start().await;
    (connect(&redis, limits).await, redis)
}

async fn connect(redis: &Redis, limits: StoreLimits) -> Store {
    let options = RedisOptions { limits, ..RedisOptions::default() };
    Store::Redis(RedisStore::connect(&redis.url(), options).await.unwrap())
}

/// Redis's clock, this many seconds ahead of the machine's.
struct Clock(Redis);

impl Clock {
    async fn set(&self, seconds: i64) {
        self.0.set_clock(&format!("{seconds:+}")).await;
    }
}

async fn start_on_a_clock(limits: StoreLimits) -> (Store, Clock, ()) {
    let redis = Redis::start_with(Server { own_clock: true, ..Server::default() }).await;
    let store = connect(&redis, limits).await;
    // With a clock of its own, too, as a store has that is used.
    let Store::Redis(named) = &store else { panic!("a Redis") };
    assert!(named.identify(true, 0).await.unwrap());
    (store, Clock(redis), ())
}
