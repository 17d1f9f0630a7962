//! Keepstep synchronises every device of a chat user. `docs/architecture.md` is the map.

pub mod app;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod drain;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod outbound;
pub mod protocol;
pub mod rng;
pub mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
// A server's: nothing fails but what really fails.
#[cfg(not(feature = "simulation"))]
#[path = "production.rs"]
mod simulation;
pub mod spans;
pub mod store;
pub mod sync;
pub mod tokens;
