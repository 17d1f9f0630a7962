use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn counts_what_a_plain_list_would(steps in proptest::collection::vec((0..3usize, 0..6u64), 0..300)) {
        let chats = [ChatId::random(), ChatId::random(), ChatId::random()];
        let mut window = Window::new(16);
        let mut heads: HashMap<ChatId, (Seq, Seq)> = chats.iter().map(|chat| (*chat, (0, 0))).collect();
        let (now, mut reserved) = (Instant::now(), 0);
        for (chat, ack) in steps {
            let chat = chats[chat];
            if ack == 4 {
                let count = window.room() / 2;
                reserved += count;
                window.reserve(count);
            } else if ack == 5 {
                window.release(std::mem::take(&mut reserved));
            } else if ack == 0 {
                if window.has_room() {
                    let head = heads.get_mut(&chat).unwrap();
                    head.0 += 1;
                    window.sent(chat, head.0, now, 0);
                }
            } else {
                let head = heads.get_mut(&chat).unwrap();
                let to = head.0.min(head.1 + ack);
                let count = to - head.1;
                let seqs: Vec<Seq> = window.between(chat, head.1, to).map(|sent| sent.seq).collect();
                prop_assert_eq!(seqs, (head.1 + 1..=to).collect::<Vec<_>>());
                head.1 = to;
                window.acked(count, |chat, seq| seq <= heads[&chat].1);
            }
            let open: u64 = heads.values().map(|(sent, acked)| sent - acked).sum();
            prop_assert!(open + reserved as u64 <= 16);
            prop_assert_eq!(window.room() as u64, 16 - open - reserved as u64);
            prop_assert_eq!(window.is_empty(), open == 0);
            prop_assert_eq!(window.open() as u64, open);
            prop_assert_eq!(window.deadline(Duration::ZERO).is_some(), open > 0);
        }
    }
}
