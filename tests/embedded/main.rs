//! Tests that need nothing but this repository: the embedded mode, and the command itself.

mod cli;
