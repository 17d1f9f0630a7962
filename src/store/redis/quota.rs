//! Store usage by user: the trim, which reports it, and what is charged to the users.

use redis::Value;

use super::{RedisStore, script, value};
use crate::{
    domain::{
        MAX_SAFE_INTEGER,
        id::{ChatId, DeviceId, UserId},
    },
    store::{
        Overfull, Result, Trimmed,
        bounds::{KEY_BYTES, KEYS_KEPT, QUEUE_FLOOR},
    },
};

/// How many commands are sent together.
const BATCH: usize = 128;

impl RedisStore {
    /// See [`crate::store::Store::trim`].
    pub async fn trim(&self, chat: ChatId) -> Result<Trimmed> {
        let (keys, limits) = (self.keys(), self.limits());
        let trim = script::TRIM
            .call()
            .arg(keys.meta(chat))
            .arg(keys.log(chat))
            .arg(keys.outbox(chat))
            .arg(keys.ages(chat))
            .arg(keys.cursor(chat))
            .arg(keys.message_keys(chat, 0))
            .arg(keys.message_keys(chat, 1))
            .arg(keys.segment(chat))
            .arg(keys.spent(chat))
            .arg(keys.key_counts(chat, 0))
            .arg(keys.key_counts(chat, 1))
            .arg(keys.standing(chat))
            .arg(keys.behind(chat))
            .arg(limits.log_keep)
            .arg(limits.log_messages)
            .arg(limits.log_bytes)
            .arg(limits.log_age.as_secs().max(1))
            .arg(self.clock())
            .arg(limits.log_age.max(KEYS_KEPT).as_secs())
            .arg(KEY_BYTES)
            .arg(self.seq_offset());
        let overfull = script::OVERFULL
            .call()
            .arg(keys.meta(chat))
            .arg(keys.ages(chat))
            .arg(keys.cursor(chat))
            .arg(keys.behind(chat))
            .arg(keys.standing(chat))
            .arg(limits.queue_bytes)
            .arg(limits.chat_queue_bytes)
            .arg(QUEUE_FLOOR);
        // Before the trim: the marks record how much was appended since a cursor.
        let mut answers = self.bulk().eval_all(&[overfull, trim]).await?.into_iter();
        let mut queues = value::list(value::next(&mut answers)?)?.into_iter();
        let mut account = value::list(value::next(&mut answers)?)?.into_iter();
        let mut trimmed = Trimmed {
            account: value::parse(&value::text(value::next(&mut account)?)?)?,
            ..Trimmed::default()
        };
        while let Some(user) = account.next() {
            let bytes = value::text(value::next(&mut account)?)?;
            trimmed.charges.push((value::user(&value::text(user)?)?, value::parse(&bytes)?));
        }
        let said = value::parse(&value::text(value::next(&mut queues)?)?)?;
        let node = value::text(value::next(&mut queues)?)?;
        let devices =
            queues.map(|device| value::device(&value::text(device)?)).collect::<Result<Vec<_>>>()?;
        if !devices.is_empty() {
            trimmed.overfull = Some(Overfull { node, devices, said });
        }
        Ok(trimmed)
    }

    /// See [`crate::store::Store::charge`].
    pub async fn charge(&self, user: &UserId, chat: ChatId, bytes: u64, account: u64) -> Result<u64> {
        let call = self.charge_call(user, chat, bytes, account);
        value::parse(&value::text(self.commands().eval(&call).await?)?)
    }

    /// Returns a number above the numbers of all accounts that an older copy of the data may have lost.
    fn seq_offset(&self) -> u64 {
        self.inner.identity.seq_offset()
    }

    fn charge_call(&self, user: &UserId, chat: ChatId, bytes: u64, account: u64) -> script::Call {
        script::CHARGE.call().arg(self.keys().stored(user)).arg(chat.hex()).arg(bytes).arg(account)
    }

    /// Charges nothing to these users any more for a deleted chat.
    pub(super) async fn give_back(&self, chat: ChatId, users: Vec<Value>) -> Result<()> {
        let mut users =
            users.into_iter().map(|user| value::user(&value::text(user)?)).collect::<Result<Vec<_>>>()?;
        users.sort_unstable();
        users.dedup();
        for users in users.chunks(BATCH) {
            let calls: Vec<_> =
                users.iter().map(|user| self.charge_call(user, chat, 0, MAX_SAFE_INTEGER)).collect();
            self.bulk().eval_all(&calls).await?;
        }
        Ok(())
    }

    /// See [`crate::store::Store::stored`].
    pub async fn stored(&self, user: &UserId) -> Result<u64> {
        let mut read = redis::cmd("HGET");
        read.arg(self.keys().stored(user)).arg("total");
        let total = value::some(self.commands().run(&read).await?).map(value::text).transpose()?;
        total.map_or(Ok(0), |total| value::parse(&total))
    }

    /// See [`crate::store::Store::recount`].
    pub async fn recount(&self, user: &UserId) -> Result<u64> {
        let mut read = redis::cmd("HKEYS");
        read.arg(self.keys().stored(user));
        let fields = value::list(self.in_time(self.bulk().run(&read)).await?)?;
        let mut chats = Vec::with_capacity(fields.len());
        for field in fields {
            let field = value::text(field)?;
            if field != "total" {
                chats.push(value::chat(&field)?);
            }
        }
        for chats in chats.chunks(BATCH) {
            self.in_time(self.recount_in(user, chats)).await?;
        }
        self.stored(user).await
    }

    async fn recount_in(&self, user: &UserId, chats: &[ChatId]) -> Result<()> {
        let keys = self.keys();
        let mut pipeline = redis::Pipeline::with_capacity(chats.len() * 4);
        for chat in chats {
            // Read first: with the number of a later account than the bytes that are read here, this charge would block
            // that account.
            pipeline.cmd("HGET").arg(keys.meta(*chat)).arg("told");
            pipeline.cmd("HGET").arg(keys.spent(*chat)).arg(user.as_str());
            pipeline.cmd("HGET").arg(keys.key_counts(*chat, 0)).arg(user.as_str());
            pipeline.cmd("HGET").arg(keys.key_counts(*chat, 1)).arg(user.as_str());
        }
        let mut answers = self.bulk().run_all(&pipeline).await?.into_iter();
        let mut calls = Vec::with_capacity(chats.len());
        for chat in chats {
            let mut number = || -> Result<Option<u64>> {
                let found = value::some(value::next(&mut answers)?).map(value::text).transpose()?;
                found.map(|text| value::parse(&text)).transpose()
            };
            let told = number()?;
            let (spent, first, second) = (number()?, number()?, number()?);
            let keys = first.unwrap_or_default() + second.unwrap_or_default();
            let bytes = spent.unwrap_or_default() + keys * KEY_BYTES;
            calls.push(match told {
                Some(told) => self.charge_call(user, *chat, bytes, told.max(self.seq_offset())),
                // A deleted chat reports no more accounts, and its remaining charge belongs to nobody.
                None => self.charge_call(user, *chat, 0, MAX_SAFE_INTEGER),
            });
        }
        self.bulk().eval_all(&calls).await.map(drop)
    }

    /// See [`crate::store::Store::fullest`].
    pub async fn fullest(&self, user: &UserId, count: usize) -> Result<Vec<ChatId>> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().stored(user));
        let fields = value::pairs(self.in_time(self.bulk().run(&read)).await?)?;
        let mut chats = Vec::with_capacity(fields.len());
        for (chat, noted) in fields.into_iter().filter(|(field, _)| field != "total") {
            let noted = value::text(noted)?;
            let bytes: u64 = value::parse(noted.split(' ').next().unwrap_or_default())?;
            chats.push((bytes, value::chat(&chat)?));
        }
        chats.sort_unstable_by(|one, other| other.cmp(one));
        chats.truncate(count);
        Ok(chats.into_iter().map(|(_, chat)| chat).collect())
    }

    /// See [`crate::store::Store::emptied`].
    pub async fn emptied(&self, chat: ChatId, device: DeviceId, said: u64) -> Result<()> {
        let call = script::EMPTIED.call().arg(self.keys().from(chat)).arg(self.keys().behind(chat));
        self.commands().eval(&call.arg(device.hex()).arg(said)).await.map(drop)
    }
}
