//! Checksums of published messages. What a queue delivers may be torn: an nsqd whose disk was full has read on into the
//! rest of a message that it couldn't write, and continues with the bytes of another.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::{Delivery, Event, Receipt};
use crate::domain::message::split_epoch;

/// How many bytes a checksum adds: a line feed, `#` and eight hexadecimal digits.
pub(crate) const CHECKSUM_BYTES: usize = 10;

/// Returns the body with its CRC-32 (that of zlib) appended.
pub(crate) fn add_checksum(body: &Bytes) -> Bytes {
    let mut sealed = Vec::with_capacity(body.len() + CHECKSUM_BYTES);
    sealed.extend_from_slice(body);
    sealed.extend_from_slice(mark(body).as_bytes());
    Bytes::from(sealed)
}

/// Returns the event for a delivered body: the body as it was published, or torn.
pub(crate) fn verify(sealed: Bytes, receipt: Receipt) -> Event {
    match open(&sealed) {
        Some(body) => Event::Delivery(Delivery { body, receipt }),
        None => Event::Torn(receipt),
    }
}

fn mark(body: &[u8]) -> String {
    format!("\n#{:08x}", crc32fast::hash(body))
}

/// Returns the body if it is whole.
pub(crate) fn open(sealed: &Bytes) -> Option<Bytes> {
    let body = sealed.slice(..sealed.len().saturating_sub(CHECKSUM_BYTES));
    if sealed[body.len()..] == *mark(&body).as_bytes() {
        return Some(body);
    }
    // An earlier build published without a checksum. A body that was cut off is no JSON; one that was cut off behind
    // its frame has something there.
    let (frame, _) = split_epoch(sealed.clone());
    let is_whole = frame.ends_with(b"}") && serde_json::from_slice::<IgnoredAny>(&frame).is_ok();
    is_whole.then(|| sealed.clone())
}

#[cfg(test)]
#[path = "../../tests/unit/broker/checksum.rs"]
mod tests;
