//! What a client sent and is told again: a piece of it. The JSON library quotes a wrong word as it came, be it 100 KiB.

use std::borrow::Cow;

/// Characters of what came that are said again.
const ECHOED: usize = 64;
/// Characters of a sentence in all: the longest of ours, with a piece in it, is far below.
const SENTENCE: usize = 600;

/// How the library begins to quote, and what it says behind the end of it.
const QUOTES: &[(&str, &[&str])] = &[
    ("unknown field `", &["`, expected ", "`, there are no fields"]),
    ("unknown variant `", &["`, expected ", "`, there are no variants"]),
    ("invalid type: string \"", &["\", expected "]),
    ("invalid value: string \"", &["\", expected "]),
    ("invalid type: character `", &["`, expected "]),
    ("invalid value: character `", &["`, expected "]),
];

/// A sentence for a client, in which what came from it is cut to 64 characters.
pub(super) fn bounded(sentence: Cow<'static, str>) -> Cow<'static, str> {
    if sentence.len() <= ECHOED {
        return sentence;
    }
    match quoted(&sentence) {
        Some((begin, end)) if sentence[begin..end].chars().nth(ECHOED).is_some() => {
            let (before, echo, behind) = (&sentence[..begin], &sentence[begin..end], &sentence[end..]);
            cut(format!("{before}{}…{behind}", first(echo, ECHOED)).into(), SENTENCE)
        }
        _ => cut(sentence, SENTENCE),
    }
}

/// Where the quote is. What came can't move its end: the library's own words stand behind the last of these.
fn quoted(sentence: &str) -> Option<(usize, usize)> {
    QUOTES.iter().find_map(|(begins, ends)| {
        let begin = sentence.find(begins)? + begins.len();
        let end = ends.iter().filter_map(|end| sentence[begin..].rfind(end)).max()?;
        Some((begin, begin + end))
    })
}

fn cut(sentence: Cow<'static, str>, most: usize) -> Cow<'static, str> {
    if sentence.chars().nth(most).is_none() {
        return sentence;
    }
    format!("{}…", first(&sentence, most)).into()
}

fn first(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
#[path = "../../tests/unit/protocol/echo.rs"]
mod tests;
