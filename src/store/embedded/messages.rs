//! Messages: the log, its pages, and what the broker hasn't confirmed.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{EmbeddedStore, Key, Room};
use crate::{
    domain::{Seq, id::ChatId},
    store::{Append, Appended, LogPage, Result, StoreEvent, StoreLimits, Tip},
};

/// How long an idempotency key is kept at least.
const KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);

impl EmbeddedStore {
    /// See [`crate::store::Store::append`].
    pub async fn append(&self, append: &Append) -> Result<Appended> {
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
        room.chat.head = seq;
        room.log.push_back((append.frame.number(seq), now));
        room.key_ages.push_back((now, append.user.clone(), append.key));
        room.keys.insert(key, Key { seq, at: append.at, fingerprint: append.fingerprint });
        room.outbox.insert(seq);
        room.trim(now, self.limits());
        let node = room.chat.node.clone();
        if state.watched_chats.contains(&append.chat) {
            self.inner.events.emit(StoreEvent::Doorbell(append.chat, seq));
        }
        Ok(Appended::New { seq, node })
    }

    /// See [`crate::store::Store::log`].
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else {
            return Ok(LogPage { messages: Vec::new(), floor: 1, head: 0 });
        };
        let floor = room.floor();
        let skip = usize::try_from(from.saturating_sub(floor)).unwrap_or(usize::MAX);
        let (mut messages, mut room_left) = (Vec::new(), bytes);
        for (seq, (frame, _)) in (floor..).zip(&room.log).skip(skip).take(count) {
            if frame.len() > room_left && !messages.is_empty() {
                break;
            }
            room_left = room_left.saturating_sub(frame.len());
            messages.push((seq, frame.clone()));
        }
        Ok(LogPage { messages, floor, head: room.chat.head })
    }

    /// See [`crate::store::Store::tips`].
    pub async fn tips(&self, chats: &[ChatId]) -> Result<Vec<Tip>> {
        let state = self.state();
        let tip = |room: &Room| Tip { head: room.chat.head, node: room.chat.node.clone() };
        Ok(chats.iter().map(|chat| state.chats.get(chat).map(tip).unwrap_or_default()).collect())
    }

    /// See [`crate::store::Store::outbox`].
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<(String, Vec<(Seq, Bytes)>)> {
        let state = self.state();
        let Some(room) = state.chats.get(&chat) else { return Ok((String::new(), Vec::new())) };
        let frames = room.outbox.iter().take(count).filter_map(|seq| Some((*seq, room.frame(*seq)?)));
        Ok((room.chat.node.clone(), frames.collect()))
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

impl Room {
    fn floor(&self) -> Seq {
        self.chat.head + 1 - self.log.len() as u64
    }

    fn frame(&self, seq: Seq) -> Option<Bytes> {
        let at = usize::try_from(seq.checked_sub(self.floor())?).ok()?;
        self.log.get(at).map(|(frame, _)| frame.clone())
    }

    // By number and by age; what the broker hasn't got yet stays longer, up to four times as many.
    fn trim(&mut self, now: Instant, limits: &StoreLimits) {
        loop {
            let (length, floor) = (self.log.len() as u64, self.floor());
            let Some((_, since)) = self.log.front() else { break };
            let old = length > limits.log_messages || now.duration_since(*since) > limits.log_age;
            let unsent = self.outbox.first() == Some(&floor);
            if !old || length <= 1 || (unsent && length <= limits.log_messages.saturating_mul(4)) {
                break;
            }
            self.log.pop_front();
            self.outbox.remove(&floor);
        }
    }

    fn drop_old_keys(&mut self, now: Instant, limits: &StoreLimits) {
        let kept = limits.log_age.max(KEYS_KEPT);
        while let Some((since, user, key)) = self.key_ages.front() {
            if now.duration_since(*since) < kept {
                break;
            }
            self.keys.remove(&(user.clone(), *key));
            self.key_ages.pop_front();
        }
    }
}
