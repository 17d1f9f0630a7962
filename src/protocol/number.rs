//! Integers of the wire, and what a failed parse is called.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{ErrorCode, Problem};
use crate::domain::MAX_SAFE_INTEGER;

/// A whole number from 0 to 2^53 - 1. A fraction is a bad field; a whole number outside is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SafeInt(pub u64);

// serde knows no error codes, so a range error is marked by how its text begins.
const RANGE: &str = "out of range: ";

impl<'de> Deserialize<'de> for SafeInt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SafeInt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer from 0 to 2^53 - 1")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<SafeInt, E> {
                if n > MAX_SAFE_INTEGER { Err(out_of_range(n)) } else { Ok(SafeInt(n)) }
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<SafeInt, E> {
                u64::try_from(n).map_err(|_| out_of_range(n)).and_then(|n| self.visit_u64(n))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<SafeInt, E> {
                // An integer too large for 64 bits reaches us as a float.
                if n.abs() > 9e15 {
                    Err(out_of_range(format_args!("{n:e}")))
                } else {
                    Err(E::custom(format!("{n} isn't written as an integer")))
                }
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl Serialize for SafeInt {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0)
    }
}

fn out_of_range<E: de::Error>(n: impl fmt::Display) -> E {
    E::custom(format!("{RANGE}{n} isn't from 0 to 2^53 - 1"))
}

/// Parses one JSON object: what isn't JSON to its last byte is `bad_json`, whatever its beginning looks like; a list
/// isn't taken for an object (serde would read a struct's fields from it in their order).
///
/// # Errors
/// `bad_json`, `bad_field`, `bad_range`.
pub fn parse_object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Problem> {
    check_syntax(text)?;
    if !is_object(text) {
        return Err(Problem::new(ErrorCode::BadField, "this is one JSON object"));
    }
    serde_json::from_slice(text).map_err(|error| problem_of(&error))
}

/// Whether JSON text is an object.
#[must_use]
pub fn is_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Takes a JSON object only; for fields whose struct serde would read from a list, too.
///
/// # Errors
/// The reader's.
pub fn only_object<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: serde::de::DeserializeOwned,
    D: Deserializer<'de>,
{
    let Some(raw) = Option::<Box<RawValue>>::deserialize(from)? else { return Ok(None) };
    if !is_object(raw.get().as_bytes()) {
        return Err(de::Error::custom("this is an object"));
    }
    serde_json::from_str(raw.get()).map(Some).map_err(de::Error::custom)
}

/// The problem that a failed parse of *good* JSON is: `bad_range` for a number too large, `bad_json` for an escape that is
/// no character, `bad_field` otherwise (missing, unknown, doubled, of the wrong type).
#[must_use]
pub fn problem_of(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let code = if text.starts_with(RANGE) || text.starts_with("number out of range") {
        ErrorCode::BadRange
    } else if !error.is_data()
        && ["surrogate", "unicode", "hex escape"].iter().any(|word| text.contains(word))
    {
        ErrorCode::BadJson
    } else {
        // The library calls a list where a word of a few belongs a syntax error, too.
        ErrorCode::BadField
    };
    Problem::new(code, text)
}

/// Whether a text is JSON to its last byte. Needs no recursion, so depth costs nothing.
///
/// # Errors
/// `bad_json`.
pub fn check_syntax(text: &[u8]) -> Result<(), Problem> {
    // Strings that are ignored aren't looked into by the reader.
    let text = std::str::from_utf8(text).map_err(|_| Problem::new(ErrorCode::BadJson, "this isn't UTF-8"))?;
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(ErrorCode::BadJson, error.to_string())),
    }
}
