use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".*", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

// As the most cautious encoder writes it: every character of every string escaped, and space wherever it may be.
fn escaped(value: &Value) -> String {
    let string = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            format!("[ {} ]", items.iter().map(escaped).collect::<Vec<_>>().join(" ,\n"))
        }
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| format!("{} :\t{}", string(key), escaped(value)));
            format!("{{\r{} }}", members.collect::<Vec<_>>().join(", "))
        }
        other => format!(" {other} "),
    }
}

proptest! {
    #[test]
    fn any_encoding_becomes_the_same_text(value in json()) {
        let short = compact(&escaped(&value));
        prop_assert_eq!(serde_json::from_str::<Value>(&short).unwrap(), value.clone());
        prop_assert_eq!(&compact(&short), &short);
        // The library's own is as short as can be.
        prop_assert_eq!(short.len(), value.to_string().len());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in ".*", escapes in "(\\\\u?[0-9a-fA-F]{0,5}|\"|[ u]){0,40}") {
        prop_assert!(compact(&text).len() <= text.len());
        prop_assert!(compact(&escapes).len() <= escapes.len());
    }
}

#[test]
fn half_a_pair_stays() {
    for text in [r#""\ud83d""#, r#""\udc00\ud83d""#, r#""\ud83dA""#, r#""\ud83d\n""#] {
        assert_eq!(compact(text), text);
    }
    assert_eq!(compact(r#""\ud83d\ude00\/\u0022\u005c\u0001\u000A""#), r#""😀/\"\\\u0001\n""#);
}
