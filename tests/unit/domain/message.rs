use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn what_is_numbered_is_read_back(seq in 0..=u64::MAX) {
        let chat = ChatId::random();
        let frame = FrameTemplate::new(chat, "\"key\":\"k\"").number(seq);
        prop_assert_eq!(chat_and_seq(&frame), Some((chat, seq)));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&frame).is_ok());
    }

    #[test]
    fn a_body_is_split_into_its_frame_and_epoch(seq in 0..=u64::MAX, epoch in 0..=u64::MAX) {
        let frame = FrameTemplate::new(ChatId::random(), "\"key\":\"k\"").number(seq);
        prop_assert_eq!(split_epoch(body_with_epoch(frame.clone(), epoch)), (frame, epoch));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), cut in 0usize..120) {
        let _ = (chat_and_seq(&bytes), accepted_at(&bytes), split_epoch(Bytes::from(bytes.clone())));
        let frame = FrameTemplate::new(ChatId::random(), "\"key\":\"k\"").number(7);
        let _ = chat_and_seq(&frame[..cut.min(frame.len())]);
    }

    #[test]
    fn the_time_is_found_behind_any_sender(
        seq in 0..=u64::MAX, at in 0..=u64::MAX, user in "[A-Za-z0-9_.@-]{1,64}", device: bool, cut in 0usize..400,
    ) {
        let (id, chat) = (ChatId::random(), ChatId::random());
        let device = if device { format!("\"{id}\"") } else { "null".to_owned() };
        let fields = format!(
            "\"key\":\"{id}\",\"from\":\"{user}\",\"device\":{device},\"at\":{at},\"kind\":\"text\",\"content\":\"\"",
        );
        let frame = FrameTemplate::new(chat, &fields).number(seq);
        prop_assert_eq!(accepted_at(&frame), Some(at));
        let cut = cut.min(frame.len());
        prop_assert!(accepted_at(&frame[..cut]).is_none_or(|found| found == at));
    }
}
