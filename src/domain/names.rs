//! All NSQ names are made here: topic `c.<chat hex>`, channel `d.<device hex>`.

use super::id::{ChatId, DeviceId};

/// Returns the topic of a chat.
#[must_use]
pub fn topic(chat: ChatId) -> String {
    format!("c.{}", chat.hex())
}

/// Returns the channel of a device, on each of its chats' topics.
#[must_use]
pub fn channel(device: DeviceId) -> String {
    format!("d.{}", device.hex())
}

/// Returns the topic that marks an nsqd: a store with this prefix has queues on it.
#[must_use]
pub fn claim(prefix: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    format!("keepstep.{}", prefix.chars().map(plain).take(50).collect::<String>())
}

/// Returns that topic's channel that records the store's clock.
#[must_use]
pub fn mark(clock: u64) -> String {
    format!("t.{clock}")
}

/// Returns the clock in a channel's name. Returns none for another channel.
#[must_use]
pub fn marked(channel: &str) -> Option<u64> {
    channel.strip_prefix("t.").and_then(|clock| clock.parse().ok())
}

/// The topic of the probe that checks whether an nsqd accepts messages again.
pub const PROBE: &str = "keepstep.probe";

/// Returns the chat of a topic's name. Returns none for a foreign topic.
#[must_use]
pub fn chat_of(topic: &str) -> Option<ChatId> {
    ours(topic, "c.").and_then(ChatId::from_hex)
}

/// Returns the device of a channel's name. Returns none for a foreign channel.
#[must_use]
pub fn device_of(channel: &str) -> Option<DeviceId> {
    ours(channel, "d.").and_then(DeviceId::from_hex)
}

// Upper-case digits would be another NSQ name for the same id, so they are foreign.
fn ours<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|hex| !hex.bytes().any(|b| b.is_ascii_uppercase()))
}

#[cfg(test)]
#[path = "../../tests/unit/domain/names.rs"]
mod tests;
