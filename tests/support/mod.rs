//! Real processes for tests: Redis, nsqd, nsqlookupd and the `keepstep` binary, each with its own ports and folder. Tests
//! kill, freeze and restart them. This module knows nothing of chats.
//!
//! Each process is a value: dropping it kills the process (by pid) and removes its folder. A test that panics prints the
//! end of each log. Every wait has a deadline and waits for an answer of the process, never for a fixed time.
//!
//! The daemons are found by `KEEPSTEP_REDIS_BIN`, `KEEPSTEP_NSQD_BIN`, `KEEPSTEP_NSQLOOKUPD_BIN` (and the clocks of tests by
//! `KEEPSTEP_FAKETIME`), else where `scripts/setup` puts them, else in `PATH`.

// Each test binary has its own copy of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod clock;
mod daemon;
mod disk;
mod edge;
mod exposition;
mod haproxy;
mod late;
mod net;
mod nsq;
mod process;
mod redis;
pub mod schemas;
mod slow;
mod stack;
mod wait;

pub use clock::WallClock;
pub use daemon::Daemon;
pub use disk::SmallDisk;
pub use edge::{Edge, EdgeConfig, JWT_SECRET};
pub use exposition::{Family, Sample, Scrape};
pub use haproxy::Haproxy;
pub use late::{LateLink, What};
pub use net::{free_port, http_ask, http_get};
pub use nsq::{Lookupd, Nsqd, NsqdOptions};
pub use process::{Process, program, repository, temp_folder};
pub use redis::{Aof, Redis, RedisOptions, redis_command};
pub use slow::SlowLink;
pub use stack::Stack;
pub use wait::{PATIENCE, stays, wait_for, wait_until};
