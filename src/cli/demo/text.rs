//! Text for a terminal: how wide it is, cut without breaking what people see as one character, and kept from turning
//! its neighbours round.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// First strong isolate: what follows has a direction of its own ...
const ISOLATE: char = '\u{2068}';
/// ... up to here.
const END_OF_ISOLATE: char = '\u{2069}';

/// Columns of a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// One line of it: line ends become a sign; other control characters, and those that turn the direction of writing, go.
#[must_use]
pub fn one_line(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ⏎ ").chars().filter(|c| !c.is_control() && !turns(*c)).collect()
}

/// At most `columns` wide; what is cut off is an ellipsis.
#[must_use]
pub fn clip(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for cluster in text.graphemes(true) {
        if width(&out) + width(cluster) + 1 > columns {
            break;
        }
        out.push_str(cluster);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// Exactly `columns` wide, in isolation: a text from right to left doesn't pull its column along.
#[must_use]
pub fn cell(text: &str, columns: usize) -> String {
    let text = clip(text, columns);
    let padding = " ".repeat(columns.saturating_sub(width(&text)));
    format!("{}{padding}", isolated(&text))
}

/// In isolation, when it needs it.
#[must_use]
pub fn isolated(text: &str) -> String {
    let from_right = |c: char| {
        matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}' | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}')
    };
    if text.chars().any(from_right) { format!("{ISOLATE}{text}{END_OF_ISOLATE}") } else { text.to_owned() }
}

/// Broken at spaces into lines of at most `columns`; a word that is longer is cut.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let word = clip(word, columns);
        let line = lines.last().map_or(0, |line| width(line));
        match lines.last_mut() {
            Some(last) if line == 0 => last.push_str(&word),
            Some(last) if line + 1 + width(&word) <= columns => {
                last.push(' ');
                last.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_is_as_wide_as_its_column_and_breaks_no_character() {
        for text in [
            "plain text that is long",
            "美術館の日本語版は金曜日",
            "👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀👩🏽‍🚀",
            "क्षि क्षि क्षि क्षि",
            "é́é́é́é́é́é́é́é́é́é́",
        ] {
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
}
