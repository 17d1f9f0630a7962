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
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::protocol::parse_object;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "it is only read into")]
    struct Body {
        kind: Option<Kind>,
        name: Option<u8>,
        number: Option<crate::protocol::SafeInt>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Main,
    }

    #[test]
    fn a_long_echo_is_cut_and_a_short_one_is_not() {
        let said = |body: String| parse_object::<Body>(body.as_bytes()).unwrap_err().detail.into_owned();
        for awkward in ["x", "ж", "`, expected \\\"", "`", "\\\", expected a"] {
            let long = awkward.repeat(100_000 / awkward.len());
            for body in [
                format!(r#"{{"{long}":1}}"#),
                format!(r#"{{"kind":"{long}"}}"#),
                format!(r#"{{"name":"{long}"}}"#),
            ] {
                let said = said(body);
                assert!(said.chars().count() < 200, "{awkward}: {said}");
                let (before, behind) = said.split_once('…').unwrap();
                let quoted = before.find(['`', '"']).unwrap() + 1;
                assert_eq!(before[quoted..].chars().count(), ECHOED, "{said}");
                assert!(behind.starts_with(['`', '"']), "{said}");
                assert!(said.contains("expected"), "what would be right is still said: {said}");
            }
        }
        assert!(said(r#"{"nane":1}"#.to_owned()).contains("unknown field `nane`, expected one of `kind`"));
        assert!(said(r#"{"kind":"phone"}"#.to_owned()).contains("unknown variant `phone`, expected `main`"));
        assert!(said(format!(r#"{{"number":1{}}}"#, "0".repeat(300))).len() < 100);
    }

    #[test]
    fn no_sentence_is_endless() {
        assert_eq!(bounded("ж".repeat(2_000).into()).chars().count(), SENTENCE + 1);
        let ours = "a sentence of ours";
        assert!(matches!(bounded(ours.into()), Cow::Borrowed(same) if same == ours));
    }
}
