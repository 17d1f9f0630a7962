//! Messages: the log, its pages, and the outbox.

use bytes::Bytes;
use tokio::time::Instant;

use super::{ChatState, EmbeddedStore, Entry, Key};
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
        message::{accepted_at, body_with_epoch},
    },
    store::{
        Append, Appended, ChatHead, LogPage, OutboxPage, OutboxSize, Reader, Result, StoreEvent, StoreLimits,
        bounds::{KEYS_KEPT, UNTRIMMED},
        types::OUTBOX_PAGE_BYTES,
    },
};

impl EmbeddedStore {
    /// See [`crate::store::Store::append`].
    pub async fn append(&self, append: &Append) -> Result<Appended> {
        // Not the wall clock: the lifetime of keys and logs is counted by a clock that nobody sets (decision 0020).
        let now = Instant::now();
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(room) = state.chats.get_mut(&append.chat) else { return Ok(Appended::NotMember) };
        if !room.members.contains_key(&append.user) {
            return Ok(Appended::NotMember);
        }
        room.drop_old_keys(now, self.limits());
        let key = (append.user.clone(), append.key);
        if let Some(seen) = room.keys.get(&key) {
            return Ok(if seen.fingerprint == append.fingerprint {
                Appended::Again { seq: seen.seq, at: seen.at }
            } else {
                Appended::KeyConflict
            });
        }
        let seq = room.chat.head + 1;
        let epoch = room.chat.epoch;
        let body = body_with_epoch(append.frame.number(seq), epoch);
        let most = self.limits().log_bytes.saturating_mul(4).saturating_add(UNTRIMMED);
        if !append.has_room || room.log_bytes + body.len() as u64 > most {
            return Ok(Appended::Full);
        }
        room.chat.head = seq;
        room.keep(seq, &append.user, body, now);
        room.key_ages.push_back((now, append.user.clone(), append.key));
        room.keys.insert(key, Key { seq, at: append.at, fingerprint: append.fingerprint });
        room.outbox.insert(seq);
        let (node, held) = (room.chat.node.clone(), !room.arriving.is_empty());
        let queues = room.subscriptions.len() as u64;
        state.publish_to_chat(append.chat, &StoreEvent::Doorbell(append.chat, seq));
        Ok(Appended::New { seq, node, epoch, held, queues })
    }

    /// See [`crate::store::Store::log`].
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        let state = self.state();
        Ok(state.chats.get(&chat).map_or(NO_PAGE, |room| room.page(from, count, bytes)))
    }

    /// See [`crate::store::Store::log_of_member`].
    pub async fn log_of_member(
        &self,
        chat: ChatId,
        reader: &Reader,
        from: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else { return Ok(None) };
        let is_in = room.members.get(&reader.user).is_some_and(|member| member.boundary <= reader.since);
        Ok(is_in.then(|| room.page(from, count, bytes)))
    }

    /// See [`crate::store::Store::heads`].
    pub async fn heads(&self, chats: &[ChatId]) -> Result<Vec<ChatHead>> {
        let state = self.state();
        let head = |room: &ChatState| ChatHead { head: room.chat.head, node: room.chat.node.clone() };
        Ok(chats.iter().map(|chat| state.chats.get(chat).map(head).unwrap_or_default()).collect())
    }

    /// See [`crate::store::Store::raise_head`].
    pub async fn raise_head(&self, chat: ChatId, seen: Seq) -> Result<Seq> {
        let mut state = self.state();
        let Some(room) = state.chats.get_mut(&chat) else { return Ok(0) };
        room.chat.head = room.chat.head.max(seen);
        Ok(room.chat.head)
    }

    /// See [`crate::store::Store::outbox`].
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<OutboxPage> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else { return Ok(OutboxPage::default()) };
        let bodies = room.outbox.iter().take(count).filter_map(|seq| Some((*seq, room.body(*seq)?)));
        let mut bytes = 0;
        let bodies = bodies.take_while(|(_, body)| {
            let is_first = bytes == 0;
            bytes += body.len();
            is_first || bytes <= OUTBOX_PAGE_BYTES
        });
        let messages = bodies.collect();
        Ok(OutboxPage { node: room.chat.node.clone(), held: !room.arriving.is_empty(), messages })
    }

    /// See [`crate::store::Store::outbox_sizes`].
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<OutboxSize>> {
        let state = self.state();
        let size = |room: &ChatState| {
            let lowest = room.outbox.first().and_then(|seq| room.body(*seq));
            OutboxSize {
                node: room.chat.node.clone(),
                messages: room.outbox.len(),
                oldest: lowest.and_then(|body| accepted_at(&body)),
            }
        };
        Ok(chats.iter().map(|chat| state.chats.get(chat).map(size).unwrap_or_default()).collect())
    }

    /// See [`crate::store::Store::published`].
    pub async fn published(&self, chat: ChatId, seqs: &[Seq]) -> Result<()> {
        if let Some(room) = self.state().chats.get_mut(&chat) {
            for seq in seqs {
                room.outbox.remove(seq);
            }
        }
        Ok(())
    }
}

const NO_PAGE: LogPage = LogPage { messages: Vec::new(), floor: 1, head: 0 };

impl ChatState {
    fn page(&self, from: Seq, count: usize, bytes: usize) -> LogPage {
        let head = self.chat.head;
        let oldest = self.log.front().map_or(head + 1, |entry| entry.seq);
        let start = self.log.partition_point(|entry| entry.seq < from);
        let next = self.log.get(start).map_or(head + 1, |entry| entry.seq);
        // Where a hole begins, the floor is behind it.
        let floor = if from > head || next <= from { oldest } else { next };
        let (mut messages, mut room_left) = (Vec::new(), bytes);
        for (seq, Entry { body, .. }) in (next..).zip(self.log.range(start..)).take(count) {
            if self.log.get(start + messages.len()).is_none_or(|entry| entry.seq != seq)
                || (body.len() > room_left && !messages.is_empty())
            {
                break;
            }
            room_left = room_left.saturating_sub(body.len());
            messages.push((seq, body.clone()));
        }
        LogPage { messages, floor, head }
    }

    fn body(&self, seq: Seq) -> Option<Bytes> {
        let at = self.log.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        self.log.get(at).map(|entry| entry.body.clone())
    }

    fn keep(&mut self, seq: Seq, from: &UserId, body: Bytes, since: Instant) {
        let upto = self.ledger.takes(from, body.len() as u64);
        self.log_bytes += body.len() as u64;
        self.log.push_back(Entry { seq, from: from.clone(), body, upto, since });
    }

    // Drops what every device has, except the newest; keeps what a device still needs, up to the caps; keeps what the
    // broker hasn't got yet longer, up to four times as much.
    pub(super) fn trim(&mut self, now: Instant, limits: &StoreLimits) {
        let over = |messages: u64, bytes: u64, times: u64| {
            messages > limits.log_messages.saturating_mul(times)
                || bytes > limits.log_bytes.saturating_mul(times)
        };
        let slowest =
            self.subscriptions.values().map(|subscription| subscription.cursor).min().unwrap_or(Seq::MAX);
        while let Some(Entry { seq, body, since, .. }) = self.log.front() {
            let (seq, size) = (*seq, body.len() as u64);
            let (length, bytes) = (self.log.len() as u64, self.log_bytes);
            let old = over(length, bytes, 1) || now.duration_since(*since) > limits.log_age;
            let everybodys = length > limits.log_keep && seq <= slowest;
            let unsent = self.outbox.first() == Some(&seq) && !over(length, bytes, 4);
            if unsent || !(old || everybodys) {
                break;
            }
            if let Some(gone) = self.log.pop_front() {
                self.lets_go(gone, now, limits.log_age);
            }
            self.log_bytes -= size;
            if self.outbox.remove(&seq) {
                self.let_go.insert(seq);
            }
        }
    }

    pub(super) fn drop_old_keys(&mut self, now: Instant, limits: &StoreLimits) {
        let kept = limits.log_age.max(KEYS_KEPT);
        while let Some((since, user, key)) = self.key_ages.front() {
            if now.duration_since(*since) < kept {
                break;
            }
            self.ledger.returns_key(user);
            self.keys.remove(&(user.clone(), *key));
            self.key_ages.pop_front();
        }
    }
}
