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
#[path = "../../../tests/unit/cli/demo/text.rs"]
mod tests;
