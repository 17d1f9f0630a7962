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
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(body: Vec<u8>) {
            let body = Bytes::from(body);
            let sealed = add_checksum(&body);
            prop_assert_eq!(sealed.len(), body.len() + CHECKSUM_BYTES);
            prop_assert_eq!(open(&sealed), Some(body));
        }

        #[test]
        fn the_beginning_of_one_and_the_end_of_another_are_torn(
            seqs in (1..u64::MAX, 1..u64::MAX), epochs in (0..u64::MAX, 0..u64::MAX), at: prop::sample::Index,
        ) {
            let body = |seq: u64, epoch: u64| {
                let frame = format!("{{\"type\":\"message\",\"seq\":{seq:020},\"content\":\"{seq:040}\"}}");
                add_checksum(&crate::domain::message::body_with_epoch(frame.into(), epoch))
            };
            let (one, other) = (body(seqs.0, epochs.0), body(seqs.1, epochs.1));
            let at = at.index(one.len().min(other.len()));
            let torn = Bytes::from([&one[..at], &other[at..]].concat());
            prop_assert!(open(&torn).is_none() || torn == one || torn == other);
        }

        #[test]
        fn what_is_cut_off_is_torn(content in "[a-z]{0,40}", at: prop::sample::Index) {
            let frame = format!("{{\"type\":\"message\",\"content\":\"{content}\"}}");
            prop_assert_eq!(open(&Bytes::from(frame.clone()).slice(..at.index(frame.len()))), None);
        }

        #[test]
        fn what_is_cut_off_behind_its_frame_is_no_other_frame(epoch: u64, at: prop::sample::Index) {
            let frame = Bytes::from("{\"type\":\"message\",\"content\":\"x\"}");
            let sealed = add_checksum(&crate::domain::message::body_with_epoch(frame.clone(), epoch));
            let cut = frame.len() + at.index(sealed.len() - frame.len());
            if let Some(body) = open(&sealed.slice(..cut)) {
                prop_assert_eq!(split_epoch(body).0, frame);
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_trouble(bytes: Vec<u8>) {
            let _ = open(&Bytes::from(bytes));
        }
    }

    #[test]
    fn what_an_earlier_build_published_is_whole() {
        for body in ["{\"type\":\"message\"}", "{\"type\":\"message\"}\n17"] {
            assert_eq!(open(&Bytes::from(body)), Some(Bytes::from(body)));
        }
    }
}
