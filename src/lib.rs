//! Keepstep keeps every device of a chat user in step.

pub mod broker;
pub mod domain;
pub mod store;
