use super::*;

#[test]
fn a_cut_text_is_as_wide_as_its_column_and_breaks_no_character() {
    for text in
        ["plain text that is long", "美術館の日本語版は金曜日", "👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀", "क्षि क्षि क्षि क्षि", "é́é́é́é́é́é́é́é́é́é́"]
    {
        for columns in 0..12 {
            let cut = clip(text, columns);
            assert!(width(&cut) <= columns, "{cut} in {columns}");
            let kept = cut.trim_end_matches('…');
            assert!(text.graphemes(true).take(kept.graphemes(true).count()).collect::<String>() == kept);
            let bare: String =
                cell(text, columns).chars().filter(|c| !matches!(c, '\u{2068}' | '\u{2069}')).collect();
            assert_eq!(width(&bare), columns, "{bare:?}");
        }
    }
}

#[test]
fn right_to_left_stays_in_its_cell() {
    assert_eq!(cell("قف", 4), "\u{2068}قف\u{2069}  ");
    assert_eq!(cell("stop", 4), "stop");
}

#[test]
fn a_line_is_one_line_and_harmless() {
    assert_eq!(one_line("a\n\n  b\u{1b}[2J\u{202e}c\r\n"), "a ⏎ b[2Jc");
}

#[test]
fn lines_break_at_spaces() {
    assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    assert_eq!(wrap("extraordinary", 5), ["extr…"]);
}
