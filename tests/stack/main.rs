//! Stories that need the real Redis, nsqd and nsqlookupd. Run them with `scripts/test`, which gets the daemons.

#[path = "../stories/mod.rs"]
mod stories;
#[path = "../support/mod.rs"]
mod support;

mod broker;
mod daemons;
mod demo;
mod faults;
mod gaps;
mod hiccups;
mod lapses;
mod nsq;
mod older;
mod races;
mod reconcile;
mod redis;
mod scripts;
mod starts;
mod store;

/// What both deployments promise, over two edges, Redis, two nsqd and nsqlookupd.
mod on_the_stack {
    crate::stories!(crate::stories::Deployment::Stack);
}
