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

// The number in a `\u` escape, four hexadecimal digits.
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
#[path = "../../tests/unit/protocol/compact.rs"]
mod tests;
