use std::collections::BTreeSet;

use super::*;

#[test]
fn the_conversation_is_what_the_day_needs() {
    let script = Script::load().unwrap();
    let direct = script.part("past").iter().filter(|line| line.room == Room::Direct).count();
    assert!(direct > 100, "a bootstrap of more than one page of any size: {direct}");
    let languages: BTreeSet<&str> =
        script.part("past").iter().filter_map(|line| line.lang.as_deref()).collect();
    assert!(languages.len() >= 12, "{languages:?}");
    for part in [
        "morning", "back", "live", "unread", "airplane", "landed", "unacked", "cut", "after", "evening",
        "night",
    ] {
        let lines = script.part(part);
        assert!(!lines.is_empty(), "{part}");
        assert!(lines.is_sorted_by_key(|line| &line.at), "{part} goes back in time");
    }
    for line in script.parts.values().flatten() {
        assert_eq!(line.draft.kind == "media", line.draft.media.is_some(), "{line:?}");
        assert!(!line.shown().is_empty() && !line.shown().contains('\n'));
    }
}
