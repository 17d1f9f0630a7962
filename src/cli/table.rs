//! Plain tables for people, made of JSON values.

use serde_json::Value;
use time::{Duration, OffsetDateTime};
use unicode_width::UnicodeWidthStr;

/// Returns a table with a column for each title and the field that fills it; `-` where the field is missing.
#[must_use]
pub fn table(columns: &[(&str, Cell)], rows: &[Value]) -> String {
    let mut lines = vec![columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|(_, cell)| cell.text(row)).collect()));
    let width = |i: usize| lines.iter().map(|line| line[i].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let pad = |line: &Vec<String>| {
        let cells =
            line.iter().zip(&widths).map(|(text, width)| text.clone() + &" ".repeat(width - text.width()));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(pad).collect::<Vec<_>>().join("\n")
}

/// How a field is shown.
#[derive(Debug, Clone, Copy)]
pub enum Cell {
    /// As it is.
    Plain(&'static str),
    /// Unix milliseconds, as UTC.
    Time(&'static str),
    /// Milliseconds, as a span.
    Span(&'static str),
    /// `yes` or `no`.
    Flag(&'static str),
}

impl Cell {
    fn text(self, row: &Value) -> String {
        let field = |name: &str| row.get(name).unwrap_or(&Value::Null).clone();
        let shown = match self {
            Self::Plain(name) => plain(&field(name)),
            Self::Time(name) => field(name).as_u64().map_or_else(|| plain(&field(name)), utc),
            Self::Span(name) => field(name).as_u64().map_or_else(|| plain(&field(name)), span),
            Self::Flag(name) => match field(name) {
                Value::Bool(true) => "yes".to_owned(),
                Value::Bool(false) => "no".to_owned(),
                other => plain(&other),
            },
        };
        if shown.is_empty() { "-".to_owned() } else { shown }
    }
}

/// Returns a value as text. Users choose names, so control characters (they could rewrite the operator's terminal) and
/// those that turn the direction of writing are replaced.
#[must_use]
pub fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if unsafe_char(c) { '\u{fffd}' } else { c }).collect()
}

/// Returns Unix milliseconds as `2025-01-31 23:59:59`, in UTC.
#[must_use]
pub fn utc(millis: u64) -> String {
    let since = Duration::milliseconds(millis.try_into().unwrap_or(i64::MAX));
    let at = OffsetDateTime::UNIX_EPOCH.saturating_add(since);
    let (hour, minute, second) = at.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}", at.date())
}

fn span(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..120_000 => format!("{}s", millis / 1_000),
        120_000..7_200_000 => format!("{}m", millis / 60_000),
        7_200_000..172_800_000 => format!("{}h", millis / 3_600_000),
        _ => format!("{}d", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
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
        let rows =
            [json!({"name": "a\u{1b}[2Jb", "n": 5, "on": true}), json!({"name": "\u{65e5}\u{672c} name"})];
        let text =
            table(&[("NAME", Cell::Plain("name")), ("N", Cell::Plain("n")), ("ON", Cell::Flag("on"))], &rows);
        assert_eq!(text, "NAME       N  ON\na\u{fffd}[2Jb     5  yes\n\u{65e5}\u{672c} name  -  -");
    }
}
