//! Keepstep keeps every device of a chat user in step.

#[macro_use]
pub mod planted;

pub mod app;
pub mod broker;
pub mod chance;
pub mod cli;
pub mod config;
pub mod domain;
pub mod drain;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod outbound;
pub mod protocol;
pub mod session;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod store;
pub mod sync;
pub mod tokens;
