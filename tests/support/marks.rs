//! Figures in a Markdown file, between two marks.

use std::path::Path;

/// Replaces the text between `<!-- name:begin -->` and `<!-- name:end -->`.
///
/// # Errors
/// A sentence: the file can't be read or written, or has no such marks.
pub fn write(file: &Path, name: &str, figures: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
    let start = text.find(&begin).map(|at| at + begin.len());
    let (Some(start), Some(stop)) = (start, text.find(&end)) else {
        return Err(format!("{} has no place for it: {begin} and {end}", file.display()));
    };
    let text = format!("{}\n{}\n{}", &text[..start], figures.trim(), &text[stop..]);
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
