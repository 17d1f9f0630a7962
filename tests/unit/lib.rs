//! Unit tests: `session/feed.rs` here is the module `tests` of `src/session/feed.rs`, which names it by its path and so shows it
//! what is private. Stories through the public API are in `tests/stories`.
//!
//! This file is no target. It marks the root of the sources for proptest, which keeps its failures in `tests/proptest-regressions`.
