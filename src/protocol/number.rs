//! Integers of the wire, and what a failed parse is called.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

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
                    Err(out_of_range(n))
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

/// The problem that a failed parse is: `bad_json` when it isn't JSON at all, `bad_range` for a number too large,
/// `bad_field` otherwise (missing, unknown, doubled, of the wrong type).
#[must_use]
pub fn problem_of(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let code = match error.classify() {
        serde_json::error::Category::Data if text.starts_with(RANGE) => ErrorCode::BadRange,
        serde_json::error::Category::Data => ErrorCode::BadField,
        _ => ErrorCode::BadJson,
    };
    Problem::new(code, text)
}
