//! Messages: the log, its pages, and the outbox.

use bytes::Bytes;
use redis::Value;

use super::{
    RedisStore,
    error::corrupt,
    millis,
    script::{self, Call},
    value,
};
use crate::{
    domain::{Seq, id::ChatId, message::accepted_at},
    store::{
        Append, Appended, ChatHead, LogPage, OutboxPage, OutboxSize, Reader, Result,
        bounds::{KEYS_KEPT, UNTRIMMED},
        types::OUTBOX_PAGE_BYTES,
    },
};

impl RedisStore {
    /// See [`crate::store::Store::append`].
    pub async fn append(&self, append: &Append) -> Result<Appended> {
        let (keys, limits, chat) = (self.keys(), self.limits(), append.chat);
        let call = script::APPEND
            .call()
            .arg(keys.meta(chat))
            .arg(keys.members(chat))
            .arg(keys.message_key(chat, &append.user, append.key))
            .arg(keys.log(chat))
            .arg(keys.outbox(chat))
            .arg(keys.message_keys(chat, 0))
            .arg(keys.message_keys(chat, 1))
            .arg(keys.arriving(chat))
            .arg(keys.segment(chat))
            .arg(keys.key_counts(chat, 0))
            .arg(keys.key_counts(chat, 1))
            .arg(keys.cursor(chat))
            .arg(append.user.as_str())
            .arg(append.fingerprint)
            .arg(append.at)
            .arg(&append.frame.before)
            .arg(&append.frame.after)
            .arg(millis(limits.log_age.max(KEYS_KEPT)))
            .arg(keys.doorbell(chat))
            .arg(self.inner.identity.seq_offset())
            .arg(self.clock())
            .arg(format!("{}:{}", append.user, append.key.hex()))
            .arg(if append.has_room {
                limits.log_bytes.saturating_mul(4).saturating_add(UNTRIMMED)
            } else {
                0
            });
        match self.commands().eval(&call).await? {
            Value::Nil => Ok(Appended::NotMember),
            Value::Array(answer) => {
                let mut answer = answer.into_iter();
                let seq = match value::text(value::next(&mut answer)?)?.as_str() {
                    "full" => return Ok(Appended::Full),
                    seq => value::parse(seq)?,
                };
                let node = value::text(value::next(&mut answer)?)?;
                let epoch = value::number(value::next(&mut answer)?)?;
                let held = value::number(value::next(&mut answer)?)? > 0;
                let queues = value::number(value::next(&mut answer)?)?;
                Ok(Appended::New { seq, node, epoch, held, queues })
            }
            seen => {
                let seen = value::text(seen)?;
                let mut parts = seen.split(' ').map(value::parse::<u64>);
                let mut part =
                    || parts.next().ok_or_else(|| corrupt("an idempotency key of another shape"))?;
                let (seq, at, fingerprint) = (part()?, part()?, part()?);
                if fingerprint == append.fingerprint {
                    Ok(Appended::Again { seq, at })
                } else {
                    Ok(Appended::KeyConflict)
                }
            }
        }
    }

    /// See [`crate::store::Store::log`].
    pub async fn log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Result<LogPage> {
        page_from(self.bulk().eval(&self.read_log(chat, from, count, bytes)).await?)
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
        let call = self.read_log(chat, from, count, bytes).arg(reader.user.as_str()).arg(reader.since);
        value::some(self.bulk().eval(&call).await?).map(page_from).transpose()
    }

    fn read_log(&self, chat: ChatId, from: Seq, count: usize, bytes: usize) -> Call {
        let (keys, call) = (self.keys(), script::LOG.call());
        let call = call.arg(keys.meta(chat)).arg(keys.log(chat)).arg(keys.members(chat));
        call.arg(from).arg(count).arg(bytes)
    }

    /// See [`crate::store::Store::heads`].
    pub async fn heads(&self, chats: &[ChatId]) -> Result<Vec<ChatHead>> {
        let mut pipeline = redis::Pipeline::with_capacity(chats.len());
        for chat in chats {
            pipeline.cmd("HMGET").arg(self.keys().meta(*chat)).arg("head").arg("node");
        }
        let answers = self.bulk().run_all(&pipeline).await?.into_iter();
        let head = |answer| {
            let mut answer = value::list(answer)?.into_iter();
            let head = value::some(value::next(&mut answer)?).map_or(Ok(0), value::number)?;
            let node = value::some(value::next(&mut answer)?).map_or(Ok(String::new()), value::text)?;
            Ok(ChatHead { head, node })
        };
        answers.map(head).collect()
    }

    /// See [`crate::store::Store::raise_head`].
    pub async fn raise_head(&self, chat: ChatId, seen: Seq) -> Result<Seq> {
        let call = script::RAISE_HEAD.call().arg(self.keys().meta(chat)).arg(seen);
        value::number(self.commands().eval(&call).await?)
    }

    /// See [`crate::store::Store::outbox`].
    pub async fn outbox(&self, chat: ChatId, count: usize) -> Result<OutboxPage> {
        let keys = self.keys();
        let call = script::OUTBOX.call().arg(keys.meta(chat)).arg(keys.log(chat)).arg(keys.outbox(chat));
        let call = call.arg(keys.arriving(chat)).arg(count).arg(OUTBOX_PAGE_BYTES);
        let mut answer = value::list(self.bulk().eval(&call).await?)?.into_iter();
        let node = value::text(value::next(&mut answer)?)?;
        let held = value::number(value::next(&mut answer)?)? > 0;
        Ok(OutboxPage { node, held, messages: bodies(answer)? })
    }

    /// See [`crate::store::Store::outbox_sizes`].
    pub async fn outbox_sizes(&self, chats: &[ChatId]) -> Result<Vec<OutboxSize>> {
        let keys = self.keys();
        let call = |chat: &ChatId| {
            script::OUTBOX_SIZE.call().arg(keys.meta(*chat)).arg(keys.log(*chat)).arg(keys.outbox(*chat))
        };
        let answers = self.bulk().eval_all(&chats.iter().map(call).collect::<Vec<_>>()).await?;
        let size = |answer| {
            let mut answer = value::list(answer)?.into_iter();
            let node = value::text(value::next(&mut answer)?)?;
            let messages = value::number(value::next(&mut answer)?)?;
            let beginning = value::bytes(value::next(&mut answer)?)?;
            let messages = usize::try_from(messages).unwrap_or(usize::MAX);
            Ok(OutboxSize { node, messages, oldest: accepted_at(&beginning) })
        };
        answers.into_iter().map(size).collect()
    }

    /// See [`crate::store::Store::published`].
    pub async fn published(&self, chat: ChatId, seqs: &[Seq]) -> Result<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        let mut remove = redis::cmd("ZREM");
        remove.arg(self.keys().outbox(chat)).arg(seqs);
        self.commands().run(&remove).await.map(drop)
    }
}

pub(super) fn page_from(answer: Value) -> Result<LogPage> {
    let mut answer = value::list(answer)?.into_iter();
    let head = value::number(value::next(&mut answer)?)?;
    let floor = match value::text(value::next(&mut answer)?)?.as_str() {
        "" => head + 1,
        floor => value::parse(floor)?,
    };
    Ok(LogPage { messages: bodies(answer)?, floor, head })
}

// Reads pairs: seq, body, seq, body, …
fn bodies(mut values: impl Iterator<Item = Value>) -> Result<Vec<(Seq, Bytes)>> {
    let mut bodies = Vec::new();
    while let Some(seq) = values.next() {
        bodies.push((value::number(seq)?, value::bytes(value::next(&mut values)?)?));
    }
    Ok(bodies)
}
