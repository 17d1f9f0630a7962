//! Keepstep keeps every device of a chat user in step.

pub mod app;
pub mod broker;
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
pub mod store;
pub mod sync;
pub mod tokens;
