use serde_json::json;

use super::*;

#[test]
fn times_are_utc() {
    for (millis, text) in [
        (0, "1970-01-01 00:00:00"),
        (951_782_399_999, "2000-02-28 23:59:59"),
        (951_782_400_000, "2000-02-29 00:00:00"),
        (1_709_251_199_000, "2024-02-29 23:59:59"),
        (4_107_542_400_000, "2100-03-01 00:00:00"),
        (u64::MAX, "9999-12-31 23:59:59"),
    ] {
        assert_eq!(utc(millis), text);
    }
}

#[test]
fn a_table_is_aligned_and_harmless() {
    let rows = [json!({"name": "a\u{1b}[2Jb", "n": 5, "on": true}), json!({"name": "\u{65e5}\u{672c} name"})];
    let text =
        table(&[("NAME", Cell::Plain("name")), ("N", Cell::Plain("n")), ("ON", Cell::Flag("on"))], &rows);
    assert_eq!(text, "NAME       N  ON\na\u{fffd}[2Jb     5  yes\n\u{65e5}\u{672c} name  -  -");
}
