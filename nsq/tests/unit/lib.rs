//! Unit tests: `frame.rs` here is the module `tests` of `src/frame.rs`, which names it by its path and so shows it what is private.
//!
//! This file is no target. It marks the root of the sources for proptest, which keeps its failures in `tests/proptest-regressions`.
