//! The broker's contract over NSQ, with two nsqd and nsqlookupd.

use std::time::Duration;

use keepstep::broker::{
    Broker,
    nsq::{NodeAddress, NsqBroker, NsqOptions},
};

use crate::support::{Lookupd, Nsqd};

#[path = "../contract/broker.rs"]
pub mod contract;

/// Longer than a consumer waits before it reconnects.
const SETTLE: Duration = Duration::from_millis(2_500);

pub async fn start() -> (Broker, (Lookupd, [Nsqd; 2])) {
    let lookupd = Lookupd::start().await;
    let (a, b) = tokio::join!(Nsqd::start(Some(&lookupd)), Nsqd::start(Some(&lookupd)));
    let nsqd = [a, b];
    (connect(&nsqd, Some(&lookupd)).await, (lookupd, nsqd))
}

/// Returns a broker over these servers, as an edge named `edge-1` has it.
pub async fn connect(nsqd: &[Nsqd], lookupd: Option<&Lookupd>) -> Broker {
    let nodes = nsqd.iter().map(|nsqd| NodeAddress::parse(&nsqd.http()).expect("an address")).collect();
    let options = NsqOptions::new("edge-1", nodes, lookupd.map(Lookupd::http).into_iter().collect());
    Broker::Nsq(NsqBroker::connect(options).await.expect("good addresses"))
}
