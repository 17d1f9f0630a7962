//! Tests that need nothing but this repository: the contracts over the embedded variants, and the command itself.

mod broker;
mod cli;
mod demo;
mod store;
