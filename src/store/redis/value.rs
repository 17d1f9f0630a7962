//! Parsing of Redis's answers. An answer of unexpected shape is `Corrupt`, never a panic.

use bytes::Bytes;
use redis::Value;

use super::error::corrupt;
use crate::{
    domain::{
        Seq,
        device::DeviceState,
        id::{ChatId, DeviceId, TerminationId, UserId},
    },
    store::Result,
};

/// Returns the answer, or none if it is nil.
pub(super) fn some(value: Value) -> Option<Value> {
    (value != Value::Nil).then_some(value)
}

/// Returns text, from any of its shapes.
pub(super) fn text(value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| corrupt("text that isn't UTF-8")),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        Value::Okay => Ok("OK".into()),
        other => Err(unexpected("text", &other)),
    }
}

/// Returns a number of ours: never negative.
pub(super) fn number(value: Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| corrupt("a negative number")),
        Value::BulkString(bytes) => {
            let digits = std::str::from_utf8(&bytes).ok();
            digits.and_then(|text| text.parse().ok()).ok_or_else(|| corrupt("something that isn't a number"))
        }
        other => Err(unexpected("a number", &other)),
    }
}

/// Returns a number written as text.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt(format!("{text:?} isn't what was expected")))
}

/// Returns bytes unchanged.
pub(super) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        other => Err(unexpected("bytes", &other)),
    }
}

/// Returns a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        other => Err(unexpected("a list", &other)),
    }
}

/// Returns pairs: a command returns a hash as a map, a script returns it as a flat list.
pub(super) fn pairs(value: Value) -> Result<Vec<(String, Value)>> {
    match value {
        Value::Map(pairs) => pairs.into_iter().map(|(key, value)| Ok((text(key)?, value))).collect(),
        Value::Array(values) => {
            let mut values = values.into_iter();
            let mut pairs = Vec::with_capacity(values.len() / 2);
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                pairs.push((text(key)?, value));
            }
            Ok(pairs)
        }
        other => Err(unexpected("pairs", &other)),
    }
}

/// Returns the next item of a list whose length is known.
pub(super) fn next(values: &mut impl Iterator<Item = Value>) -> Result<Value> {
    values.next().ok_or_else(|| corrupt("an answer that is too short"))
}

/// Returns a chat's id from its key form.
pub(super) fn chat(text: &str) -> Result<ChatId> {
    ChatId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a chat")))
}

/// Returns a device's id from its key form.
pub(super) fn device(text: &str) -> Result<DeviceId> {
    DeviceId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a device")))
}

/// Returns a termination's id from its key form.
pub(super) fn termination(text: &str) -> Result<TerminationId> {
    TerminationId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a termination")))
}

/// Returns what a chat records of a member: their boundary, and the version of their membership (0 as earlier builds
/// wrote it).
pub(super) fn membership(text: &str) -> Result<(Seq, u64)> {
    match text.split_once(' ') {
        Some((boundary, version)) => Ok((parse(boundary)?, parse(version)?)),
        None => Ok((parse(text)?, 0)),
    }
}

/// Returns a device's state.
pub(super) fn state(text: &str) -> Result<DeviceState> {
    match text {
        "registering" => Ok(DeviceState::Registering),
        "active" => Ok(DeviceState::Active),
        "terminating" => Ok(DeviceState::Terminating),
        other => Err(corrupt(format!("a device in state {other:?}"))),
    }
}

/// Returns a user's id.
pub(super) fn user(text: &str) -> Result<UserId> {
    UserId::stored(text).ok_or_else(|| corrupt(format!("{text:?} isn't a user")))
}

fn unexpected(wanted: &str, value: &Value) -> crate::store::StoreError {
    let shape = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "text",
        Value::Array(_) | Value::Set(_) => "a list",
        Value::Map(_) => "a map",
        _ => "something else",
    };
    corrupt(format!("{shape} where {wanted} was expected"))
}
