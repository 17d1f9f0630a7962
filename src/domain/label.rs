//! Labels that people recognise: names of chats and devices. A label must not contain hidden characters; and names that
//! look alike are the same name, so that no name leads a user to another's group.

use caseless::Caseless;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_script::{Script, UnicodeScript};
use unicode_security::confusable_detection::skeleton;
use unicode_segmentation::UnicodeSegmentation;

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';

/// Why a text can't be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing of it is visible.
    Empty,
    /// It contains control characters, or other line ends.
    Control,
    /// It contains characters that change the direction of their neighbours.
    Direction,
    /// It contains characters of no width that nothing in the text needs.
    Invisible,
}

impl Unfit {
    /// Returns what is wrong, to follow the name of the field.
    #[must_use]
    pub fn because(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Control => "has control characters: leave them out",
            Self::Direction => "has characters that change the direction of text: leave them out",
            Self::Invisible => "has characters that can't be seen: leave them out",
        }
    }
}

/// Checks that a text can be a name. A character of no width is valid only where text needs it: in an emoji of several
/// characters, in scripts that join their letters, and behind a character whose variant it selects.
///
/// # Errors
/// Why the text can't be a name.
pub fn check(text: &str) -> Result<(), Unfit> {
    if key(text).is_empty() {
        // Checked before the other rules: nobody can see such a text.
        return Err(text.chars().find_map(unfit).unwrap_or(Unfit::Empty));
    }
    let mut before = None;
    let mut clusters = text.graphemes(true).peekable();
    while let Some(cluster) = clusters.next() {
        let behind = clusters.peek().and_then(|next| next.chars().next());
        let chars: Vec<char> = cluster.chars().collect();
        for (at, &c) in chars.iter().enumerate() {
            if let Some(unfit) = unfit(c) {
                return Err(unfit);
            }
            if !is_invisible(c) {
                before = Some(c);
                continue;
            }
            if !is_needed(&chars, at, before, behind) {
                return Err(Unfit::Invisible);
            }
        }
    }
    Ok(())
}

/// Checks that a line of text, or a file's name, reads as it is written: one with a direction change
/// (`invoice\u{202e}fdp.exe`) doesn't. It may be empty.
///
/// # Errors
/// Why the line doesn't.
pub fn check_line(text: &str) -> Result<(), Unfit> {
    // Marks without a reach are common in right-to-left scripts.
    let mark = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}');
    text.chars().filter(|c| !mark(*c)).find_map(unfit).map_or(Ok(()), Err)
}

/// Returns the key by which a name is compared and found: equal for all names that look alike. It applies Unicode's
/// NFKC, case folding and the skeletons of confusable characters (UTS 39), drops invisible characters, and treats any
/// space as one.
#[must_use]
pub fn key(name: &str) -> String {
    let folded: String = name.nfkc().default_case_fold().nfkc().collect();
    // A prototype may be a capital letter (that of `0` is `O`), or decompose.
    let seen: String = skeleton(&folded).default_case_fold().nfkd().collect();
    let words = seen.split(|c: char| c.is_whitespace() || c == '\u{2800}').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the version of the rules of [`key`]: keys written under other rules must be written again.
#[must_use]
pub fn rules() -> String {
    let (major, minor, _) = unicode_security::UNICODE_VERSION;
    let (folding, normal) = (caseless::UNICODE_VERSION.0, unicode_normalization::UNICODE_VERSION.0);
    format!("1/{major}.{minor}/{folding}/{normal}")
}

fn unfit(c: char) -> Option<Unfit> {
    match c {
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => Some(Unfit::Control),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(Unfit::Direction)
        }
        c if c.is_control() => Some(Unfit::Control),
        _ => None,
    }
}

// Characters that Unicode calls default ignorable have no skeleton.
fn is_invisible(c: char) -> bool {
    !c.is_ascii() && skeleton(c.encode_utf8(&mut [0; 4])).next().is_none()
}

/// Returns whether the invisible character at `at` is needed. `chars` is one grapheme; `before` is the last visible
/// character before the one at `at`, `behind` the first of the next grapheme.
fn is_needed(chars: &[char], at: usize, before: Option<char>, behind: Option<char>) -> bool {
    let next = chars.get(at + 1).copied();
    let right_before = at.checked_sub(1).and_then(|at| chars.get(at)).copied();
    match chars[at] {
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => right_before.is_some_and(|c| !is_invisible(c)),
        '\u{180b}'..='\u{180d}' | '\u{180f}' => right_before.is_some_and(|c| c.script() == Script::Mongolian),
        // The flags of England, Scotland and Wales.
        '\u{e0020}'..='\u{e007f}' => chars[0] == '\u{1f3f4}' && chars.last() == Some(&'\u{e007f}'),
        // The joiner makes one grapheme with the next character.
        JOINER if next.is_some_and(|c| !is_invisible(c) && !is_combining_mark(c)) => true,
        JOINER | NON_JOINER => {
            let joins = |c: Option<char>| c.map(|c| c.script()).filter(|script| joins_letters(*script));
            let (one, other) = (joins(before), joins(next.or(behind)));
            one.is_some() && one == other
        }
        _ => false,
    }
}

fn joins_letters(script: Script) -> bool {
    use Script::*;
    matches!(
        script,
        Arabic
            | Syriac
            | Nko
            | Mongolian
            | Devanagari
            | Bengali
            | Gurmukhi
            | Gujarati
            | Oriya
            | Tamil
            | Telugu
            | Kannada
            | Malayalam
            | Sinhala
            | Khmer
            | Myanmar
    )
}

#[cfg(test)]
#[path = "../../tests/unit/domain/label.rs"]
mod tests;
