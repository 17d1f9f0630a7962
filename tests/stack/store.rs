//! The store's contract over a real Redis, one for each story.

use std::time::Duration;

use keepstep::store::{
    Store, StoreLimits,
    redis::{RedisOptions, RedisStore},
};

use crate::support::Redis;

#[path = "../contract/store.rs"]
mod contract;

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(limits: StoreLimits) -> (Store, Redis) {
    let redis = Redis::start().await;
    let options = RedisOptions { limits, ..RedisOptions::default() };
    let store = RedisStore::connect(&redis.url(), options).await.unwrap();
    (Store::Redis(store), redis)
}
