//! Stories that need the real Redis, nsqd and nsqlookupd. Run them with `scripts/test`, which gets the daemons.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod daemons;
mod nsq;
