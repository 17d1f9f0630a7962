//! Integers of the wire, and the codes of failed parses.

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{ErrorCode, Problem};
use crate::domain::MAX_SAFE_INTEGER;

thread_local! {
    // Whether the parse under way met a number that is out of range: serde's errors carry no code.
    static OUT_OF_RANGE: Cell<bool> = const { Cell::new(false) };
}

/// An integer from 0 to 2^53 - 1. A fraction or an exponent is `bad_field`; any other number outside is `bad_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SafeInt(pub u64);

impl<'de> Deserialize<'de> for SafeInt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let token = <&RawValue>::deserialize(from)?.get();
        let Ok(number) = token.parse::<f64>() else {
            return Err(D::Error::custom("expected an integer from 0 to 2^53 - 1"));
        };
        match token.parse() {
            Ok(integer @ 0..=MAX_SAFE_INTEGER) => Ok(Self(integer)),
            // What is too large for an encoder's integers may be written as a float.
            // `-0` isn't: JSON's readers take it for a float.
            _ if number.abs() > 9e15 || (number != 0.0 && !token.contains(['.', 'e', 'E'])) => {
                OUT_OF_RANGE.set(true);
                Err(D::Error::custom(format!("out of range: {number:e} isn't from 0 to 2^53 - 1")))
            }
            _ => Err(D::Error::custom(format!("{number} isn't written as an integer"))),
        }
    }
}

/// Parses one JSON object. Text that isn't JSON to its last byte is `bad_json`. A list is no object (serde would read a
/// struct's fields from it in their order).
///
/// # Errors
/// `bad_json`, `bad_field`, `bad_range`.
pub fn parse_object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(text).map_err(|_| Problem::new(ErrorCode::BadJson, "this isn't UTF-8"))?;
    check_syntax(text)?;
    if !is_object(text) {
        return Err(Problem::new(ErrorCode::BadField, "this is one JSON object"));
    }
    parse(text)
}

/// Returns whether JSON text is an object.
#[must_use]
pub fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

/// Deserialises a JSON object or null; for fields whose struct serde would read from a list, too.
///
/// # Errors
/// The reader's.
pub fn only_object<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let Some(raw) = Option::<&RawValue>::deserialize(from)? else { return Ok(None) };
    if !is_object(raw.get()) {
        return Err(D::Error::custom("this is an object"));
    }
    serde_json::from_str(raw.get()).map(Some).map_err(D::Error::custom)
}

/// Parses JSON that passed [`check_syntax`].
///
/// # Errors
/// `bad_range`: a number is out of range. `bad_json`: an escape is no character. `bad_field`: a field is missing, unknown,
/// doubled or of the wrong type.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Problem> {
    OUT_OF_RANGE.set(false);
    serde_json::from_str(json).map_err(|error| {
        let code = if OUT_OF_RANGE.get() {
            ErrorCode::BadRange
        } else if error.is_syntax() && !strings_are_text(json) {
            ErrorCode::BadJson
        } else {
            // The library calls a list where a word of a few belongs a syntax error, too.
            ErrorCode::BadField
        };
        Problem::new(code, error.to_string())
    })
}

/// Returns whether every string of JSON text has only escapes that are characters: half a surrogate pair is none.
fn strings_are_text(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('"') {
        let mut strings = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<String>();
        if !matches!(strings.next(), Some(Ok(_))) {
            return false;
        }
        rest = &rest[at + strings.byte_offset()..];
    }
    true
}

/// Checks that a text is JSON to its last byte, but for the escapes in its strings. Depth costs nothing.
///
/// # Errors
/// `bad_json`.
pub fn check_syntax(text: &str) -> Result<(), Problem> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(ErrorCode::BadJson, error.to_string())),
    }
}

#[cfg(test)]
#[path = "../../tests/unit/protocol/number.rs"]
mod tests;
