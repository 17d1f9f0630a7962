use tracing::Level;

use super::{own, plain};
use crate::spans;

#[test]
fn spans_pass_every_filter_of_levels_and_targets() {
    for filter in ["off", "warn", "info,keepstep=debug", "keepstep::sync=debug", "keepstep=off"] {
        let targets = plain(filter).unwrap_or_else(|| panic!("{filter}"));
        assert!(targets.would_enable(spans::TARGET, &Level::ERROR), "{filter}");
    }
    assert!(!plain("off").is_some_and(|targets| targets.would_enable("keepstep::http", &Level::ERROR)));
    assert!(
        plain("info,keepstep=debug")
            .is_some_and(|targets| targets.would_enable("keepstep::http", &Level::DEBUG))
    );
    assert!(plain("info,[session{device=x}]=debug").is_none());
}

#[test]
fn own_is_what_is_written_here() {
    for (target, is) in [
        ("keepstep", true),
        ("keepstep::session::chats", true),
        ("keepstep_nsq::publisher", true),
        ("tungstenite::protocol", false),
        ("keepstepper", false),
        ("log", false),
    ] {
        assert_eq!(own(target), is, "{target}");
    }
}
