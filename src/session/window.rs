//! How much a device may have unacknowledged, over all its chats, and since when. Pure.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::domain::{Seq, id::ChatId};

/// See the module.
#[derive(Debug)]
pub struct Window {
    most: usize,
    // In the order of sending. Entries that are acknowledged are removed when they come to the front, and are not
    // counted as open before.
    sent: VecDeque<(ChatId, Seq, Instant)>,
    open: usize,
}

impl Window {
    /// Room for `most` messages.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, sent: VecDeque::new(), open: 0 }
    }

    /// Whether one more may be sent. Over the bound for acknowledged entries behind an old open one, too: a device that
    /// acknowledges everything but one message must not make this grow.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open < self.most && self.sent.len() < self.most * 4
    }

    /// How many more may be sent.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.has_room() { self.most - self.open } else { 0 }
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// A message goes out.
    pub fn sent(&mut self, chat: ChatId, seq: Seq, now: Instant) {
        self.sent.push_back((chat, seq, now));
        self.open += 1;
    }

    /// So many messages were acknowledged; `acked` tells of each entry whether it is.
    pub fn acked(&mut self, count: u64, acked: impl Fn(ChatId, Seq) -> bool) {
        self.open = self.open.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        while let Some((chat, seq, _)) = self.sent.front() {
            if self.open > 0 && !acked(*chat, *seq) {
                break;
            }
            self.sent.pop_front();
        }
        if self.sent.len() >= self.most * 4 {
            self.sent.retain(|(chat, seq, _)| !acked(*chat, *seq));
        }
    }

    /// When the oldest open message's time is over.
    #[must_use]
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.sent.front().map(|(_, _, at)| *at + patience)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_what_a_plain_list_would(steps in proptest::collection::vec((0..3usize, 0..4u64), 0..300)) {
            let chats = [ChatId::random(), ChatId::random(), ChatId::random()];
            let mut window = Window::new(16);
            let mut heads: HashMap<ChatId, (Seq, Seq)> = chats.iter().map(|chat| (*chat, (0, 0))).collect();
            let now = Instant::now();
            for (chat, ack) in steps {
                let chat = chats[chat];
                if ack == 0 {
                    if window.has_room() {
                        let head = heads.get_mut(&chat).unwrap();
                        head.0 += 1;
                        window.sent(chat, head.0, now);
                    }
                } else {
                    let head = heads.get_mut(&chat).unwrap();
                    let to = head.0.min(head.1 + ack);
                    let count = to - head.1;
                    head.1 = to;
                    window.acked(count, |chat, seq| seq <= heads[&chat].1);
                }
                let open: u64 = heads.values().map(|(sent, acked)| sent - acked).sum();
                prop_assert_eq!(window.room() as u64, 16u64.saturating_sub(open));
                prop_assert_eq!(window.is_empty(), open == 0);
                prop_assert_eq!(window.deadline(Duration::ZERO).is_some(), open > 0);
            }
        }
    }
}
