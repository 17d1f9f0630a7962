//! Everything that can go wrong, by seed: what `tests/simulation` puts between an edge and the embedded store and broker.
//!
//! - A [`Gate`] holds all tasks of one edge: frozen they aren't polled (SIGSTOP), killed they are dropped where they
//!   stand (SIGKILL).
//! - [`Faults`] are asked at each call that an edge makes to its store or broker, which are all the points at which the
//!   world outside can notice how far the edge has come. So "killed before or after the n-th call" is "killed at any await".
//!
//! One simulation is one thread with a paused clock, so that a seed repeats it exactly.

mod faults;
mod gate;
pub mod seed;
mod watched;

pub use faults::{FaultProfile, Faults, Late, Link, Manners, Outcome, Port, Shared};
pub use gate::{Gate, Through};
pub use watched::Watched;
