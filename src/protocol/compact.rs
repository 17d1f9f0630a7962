//! JSON in its shortest form, so that sizes count the same whatever encoder wrote it: `я` is two bytes, and six where an encoder
//! escapes all that isn't ASCII.

/// What an encoder may make of one byte of text: a `\u` escape.
pub const WIDEST_ESCAPE: usize = 6;

/// Returns JSON text without white space between its tokens, and with no escape for a character that needs none. The value is the
/// same; half a surrogate pair, which is no character, stays as it is. What isn't JSON comes back as something that isn't, either.
#[must_use]
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    loop {
        // Between strings.
        let (between, string) = rest.split_at(rest.find('"').unwrap_or(rest.len()));
        out.extend(between.chars().filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')));
        let Some(string) = string.strip_prefix('"') else { return out };
        out.push('"');
        rest = string;
        loop {
            let (plain, mark) = rest.split_at(rest.find(['"', '\\']).unwrap_or(rest.len()));
            out.push_str(plain);
            let Some(escape) = mark.strip_prefix('\\') else {
                rest = mark.strip_prefix('"').unwrap_or(mark);
                if rest.len() < mark.len() {
                    out.push('"');
                }
                break;
            };
            rest = unescape(escape, &mut out);
        }
    }
}

/// Writes one escape, of which this is what stands behind the backslash; returns what is behind it.
fn unescape<'a>(escape: &'a str, out: &mut String) -> &'a str {
    if let Some(rest) = escape.strip_prefix('/') {
        out.push('/');
        return rest;
    }
    let Some(unit) = unit(escape) else {
        // The short form of a control character, a quotation mark or a backslash.
        let end = escape.char_indices().nth(1).map_or(escape.len(), |(at, _)| at);
        out.push('\\');
        out.push_str(&escape[..end]);
        return &escape[end..];
    };
    let rest = &escape[5..];
    if let Some(c) = char::from_u32(unit) {
        write(c, &escape[..5], out);
        return rest;
    }
    let low = rest.strip_prefix('\\').and_then(self::unit).filter(|low| (0xDC00..0xE000).contains(low));
    if let (0xD800..0xDC00, Some(low)) = (unit, low)
        && let Some(c) = char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
    {
        out.push(c);
        return &rest[6..];
    }
    out.push('\\');
    out.push_str(&escape[..5]);
    rest
}

// The number in `uXXXX`.
fn unit(escape: &str) -> Option<u32> {
    let digits = escape.strip_prefix('u')?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

fn write(c: char, escape: &str, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\0'..'\u{20}' => {
            out.push('\\');
            out.push_str(escape);
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
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
}
