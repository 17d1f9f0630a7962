//! Reading Redis's answers. Anything of another shape than expected is `Corrupt`, never a panic.

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

/// An answer that is nil when there is nothing.
pub(super) fn some(value: Value) -> Option<Value> {
    (value != Value::Nil).then_some(value)
}

/// Text, from any of the shapes it comes in.
pub(super) fn text(value: Value) -> Result<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| corrupt("text that isn't UTF-8")),
        Value::SimpleString(text) => Ok(text),
        Value::Int(number) => Ok(number.to_string()),
        Value::Okay => Ok("OK".into()),
        other => Err(unexpected("text", &other)),
    }
}

/// A number of ours: never negative.
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

/// A number written in text.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt(format!("{text:?} isn't what was expected")))
}

/// Bytes as they are.
pub(super) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        other => Err(unexpected("bytes", &other)),
    }
}

/// A list.
pub(super) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        other => Err(unexpected("a list", &other)),
    }
}

/// Pairs: a hash read by a command comes as a map, by a script as a flat list.
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

/// The next of a list whose length is known.
pub(super) fn next(values: &mut impl Iterator<Item = Value>) -> Result<Value> {
    values.next().ok_or_else(|| corrupt("an answer that is too short"))
}

/// A chat's id in its key form.
pub(super) fn chat(text: &str) -> Result<ChatId> {
    ChatId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a chat")))
}

/// A device's id in its key form.
pub(super) fn device(text: &str) -> Result<DeviceId> {
    DeviceId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a device")))
}

/// A termination's id in its key form.
pub(super) fn termination(text: &str) -> Result<TerminationId> {
    TerminationId::from_hex(text).ok_or_else(|| corrupt(format!("{text:?} isn't a termination")))
}

/// What a chat knows of a member: their boundary, and the version of their membership (0 as builds before it wrote it).
pub(super) fn membership(text: &str) -> Result<(Seq, u64)> {
    match text.split_once(' ') {
        Some((boundary, version)) => Ok((parse(boundary)?, parse(version)?)),
        None => Ok((parse(text)?, 0)),
    }
}

/// A device's state.
pub(super) fn state(text: &str) -> Result<DeviceState> {
    match text {
        "registering" => Ok(DeviceState::Registering),
        "active" => Ok(DeviceState::Active),
        "terminating" => Ok(DeviceState::Terminating),
        other => Err(corrupt(format!("a device in state {other:?}"))),
    }
}

/// A user's id.
pub(super) fn user(text: &str) -> Result<UserId> {
    text.parse().map_err(|_| corrupt(format!("{text:?} isn't a user")))
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
