//! The broker's contract over the broker in memory.

use std::time::Duration;

use keepstep::broker::{Broker, embedded::EmbeddedBroker};

#[path = "../contract/broker.rs"]
mod contract;

/// Nothing runs in the background that could bring a queue back.
const SETTLE: Duration = Duration::ZERO;

async fn start() -> (Broker, ()) {
    (Broker::Embedded(EmbeddedBroker::new()), ())
}
