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
