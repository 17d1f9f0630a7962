//! The `keepstep` command.
fn main() {}
