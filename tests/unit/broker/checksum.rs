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
