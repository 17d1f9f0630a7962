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

/// Format of a field.
#[derive(Debug, Clone, Copy)]
pub enum Cell {
    /// As it is.
    Plain(&'static str),
    /// Unix milliseconds as UTC.
    Time(&'static str),
    /// Milliseconds as a duration.
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
#[path = "../../tests/unit/cli/table.rs"]
mod tests;
