//! Stories that need the real Redis, nsqd and nsqlookupd. Run them with `scripts/test`, which gets the daemons.

#[path = "../stories/mod.rs"]
mod stories;
#[path = "../support/mod.rs"]
mod support;

mod attaching;
mod balancer;
mod broker;
mod clocks;
mod codes;
mod console;
mod daemons;
mod dead_edges;
mod demo;
mod examples;
mod failover;
mod faults;
mod full;
mod gaps;
mod health;
mod hiccups;
mod idle;
mod lapses;
mod late;
mod lists;
mod load;
mod logs;
mod managed;
mod manners;
mod many;
mod members;
mod metrics;
mod names;
mod nsq;
mod older;
mod outages;
mod placement;
mod prefetch;
mod queues;
mod quota;
mod races;
mod reconcile;
mod reconnects;
mod redis;
mod relay;
mod scripts;
mod slow_redis;
mod starts;
mod store;
mod sweeps;
mod too_large;
mod torn;
mod turns;
mod watches;

/// What both deployments promise, over two edges, Redis, two nsqd and nsqlookupd.
mod on_the_stack {
    crate::stories!(crate::stories::Deployment::Stack);
}
