//! What sweeps read. The index of all chats has 256 parts, and a page is a step of the scan of one part.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{RedisStore, keys::Keys, members::member_from, value};
use crate::{
    domain::{id::ChatId, now_millis},
    store::{
        ChatIds, Listed, Result, StoreError, Subscriptions,
        bounds::{KEYS_KEPT, QUEUE_FLOOR},
    },
};

/// How many ids one step of a scan returns, about.
const SCAN: usize = 128;
/// How many chats are read together.
const BATCH: usize = 128;
/// How many such batches wait concurrently: one after the other they would take a slow Redis longer than the time-out.
const BATCHES: usize = 8;
/// Times above this are Redis's own (an older build wrote them), and not those of the store's clock.
const WALL_CLOCK: u64 = 1_000_000_000;

/// What is read of a chat to see whether it must be trimmed.
#[derive(Debug)]
struct Untrimmed {
    bytes: u64,
    scanned: u64,
    keyed: Option<u64>,
    // Something was sent since the last trim.
    is_sent: bool,
    // The messages of the log, and the time of the oldest mark.
    messages: u64,
    oldest: Option<u64>,
    // The log dropped something that a queue may still hold.
    is_standing: bool,
}

impl RedisStore {
    /// See [`crate::store::Store::chat_ids`]. A page's number is the part, and the cursor of its scan times 256. The index is
    /// written before the chat.
    pub async fn chat_ids(&self, page: u64) -> Result<ChatIds> {
        let (part, cursor) = (page % Keys::CHAT_PARTS, page / Keys::CHAT_PARTS);
        let mut scan = redis::cmd("SSCAN");
        scan.arg(self.keys().all_chats(part)).arg(cursor).arg("COUNT").arg(SCAN);
        let mut answer = value::list(self.bulk().run(&scan).await?)?.into_iter();
        let cursor: u64 = value::parse(&value::text(value::next(&mut answer)?)?)?;
        let ids = value::list(value::next(&mut answer)?)?.into_iter();
        let ids = ids.map(|id| value::chat(&value::text(id)?)).collect::<Result<_>>()?;
        let (listed, next) = match cursor {
            // There are as many parts as a byte has values.
            0 => (Listed::Part(part as u8), (part + 1 < Keys::CHAT_PARTS).then_some(part + 1)),
            _ => (Listed::Some, Some(cursor * Keys::CHAT_PARTS + part)),
        };
        Ok(ChatIds { ids, listed, next })
    }

    /// See [`crate::store::Store::subscriptions`].
    pub async fn subscriptions(&self, chats: &[ChatId]) -> Result<Vec<Option<Subscriptions>>> {
        let batches: Vec<_> = chats.chunks(BATCH).map(|chats| self.subscriptions_in(chats)).collect();
        self.in_time(stream::iter(batches).buffered(BATCHES).try_concat()).await
    }

    async fn subscriptions_in(&self, chats: &[ChatId]) -> Result<Vec<Option<Subscriptions>>> {
        let mut read = redis::Pipeline::with_capacity(4 * chats.len());
        for chat in chats {
            read.cmd("HGET").arg(self.keys().meta(*chat)).arg("node");
            read.cmd("HGETALL").arg(self.keys().members(*chat));
            read.cmd("HGETALL").arg(self.keys().from(*chat));
            read.cmd("ZRANGE").arg(self.keys().outbox(*chat)).arg(0).arg(0);
        }
        let mut answers = self.bulk().run_all(&read).await?.into_iter();
        let mut found = Vec::with_capacity(chats.len());
        for chat in chats {
            let node = value::some(value::next(&mut answers)?).map(value::text).transpose()?;
            let members = value::pairs(value::next(&mut answers)?)?;
            let devices = value::pairs(value::next(&mut answers)?)?;
            let unconfirmed = value::list(value::next(&mut answers)?)?.into_iter().next();
            let unconfirmed = unconfirmed.map(value::number).transpose()?;
            let Some(node) = node else {
                found.push(None);
                continue;
            };
            let members = members.into_iter().map(|(user, member)| member_from(&user, member));
            let devices = devices
                .into_iter()
                .map(|(device, from)| Ok::<_, StoreError>((value::device(&device)?, value::number(from)?)));
            let (members, devices) = (members.collect::<Result<_>>()?, devices.collect::<Result<_>>()?);
            found.push(Some(Subscriptions { chat: *chat, node, members, devices, unconfirmed }));
        }
        Ok(found)
    }

    /// See [`crate::store::Store::untrimmed`]. These are the conditions of `lua/trim.lua` and `lua/overfull.lua`, which
    /// cost about 30 commands.
    pub async fn untrimmed(&self, chats: &[ChatId]) -> Result<Vec<ChatId>> {
        let batches: Vec<_> = chats.chunks(BATCH).map(|chats| self.untrimmed_in(chats)).collect();
        self.in_time(stream::iter(batches).buffered(BATCHES).try_concat()).await
    }

    async fn untrimmed_in(&self, chats: &[ChatId]) -> Result<Vec<ChatId>> {
        let keys = self.keys();
        let mut read = redis::Pipeline::with_capacity(5 * chats.len());
        for chat in chats {
            read.cmd("HMGET").arg(keys.meta(*chat)).arg("bytes").arg("scanned").arg("keyed");
            read.cmd("EXISTS").arg(keys.segment(*chat));
            read.cmd("XLEN").arg(keys.log(*chat));
            read.cmd("LINDEX").arg(keys.ages(*chat)).arg(0);
            read.cmd("EXISTS").arg(keys.standing(*chat));
        }
        let mut answers = self.bulk().run_all(&read).await?.into_iter();
        let (mut due, mut unsure) = (Vec::new(), Vec::new());
        for chat in chats {
            let found = untrimmed_from(&mut answers)?;
            if self.is_untrimmed(&found) {
                due.push(*chat);
            } else if self.has_old_keys(&found) || self.may_be_overfull(&found, 1) {
                unsure.push((*chat, found));
            }
        }
        if !unsure.is_empty() {
            due.extend(self.untrimmed_of(&unsure).await?);
        }
        Ok(due)
    }

    // Old keys may be gone already, and queues may share what they may hold with few others.
    async fn untrimmed_of(&self, unsure: &[(ChatId, Untrimmed)]) -> Result<Vec<ChatId>> {
        let keys = self.keys();
        let mut read = redis::Pipeline::with_capacity(2 * unsure.len());
        for (chat, _) in unsure {
            read.cmd("EXISTS").arg(keys.message_keys(*chat, 0)).arg(keys.message_keys(*chat, 1));
            read.cmd("HLEN").arg(keys.cursor(*chat));
        }
        let mut answers = self.bulk().run_all(&read).await?.into_iter();
        let mut due = Vec::new();
        for (chat, found) in unsure {
            let kept = value::number(value::next(&mut answers)?)?;
            let queues = value::number(value::next(&mut answers)?)?;
            if (kept > 0 && self.has_old_keys(found)) || (queues > 0 && self.may_be_overfull(found, queues)) {
                due.push(*chat);
            }
        }
        Ok(due)
    }

    fn is_untrimmed(&self, found: &Untrimmed) -> bool {
        let age = self.limits().log_age.as_secs().max(1);
        let is_old = match found.oldest {
            Some(time) => time + age <= self.now_like(time),
            // It was never trimmed.
            None => found.messages > 0,
        };
        is_old || found.is_sent || found.is_standing || found.messages > self.limits().log_keep
    }

    fn has_old_keys(&self, found: &Untrimmed) -> bool {
        let age = self.limits().log_age.max(KEYS_KEPT).as_secs();
        found.keyed.is_some_and(|since| since + 2 * age <= self.now_like(since))
    }

    fn may_be_overfull(&self, found: &Untrimmed, queues: u64) -> bool {
        let limits = self.limits();
        let most = limits.queue_bytes.min((limits.chat_queue_bytes / queues).max(QUEUE_FLOOR));
        let least = if queues == 1 { limits.queue_bytes.min(QUEUE_FLOOR) } else { most };
        found.bytes.saturating_sub(found.scanned) >= least / 8
    }

    /// Returns the present second by the clock by which `time` was written.
    fn now_like(&self, time: u64) -> u64 {
        match self.clock() {
            clock if clock > 0 && time <= WALL_CLOCK => clock,
            _ => now_millis() / 1000,
        }
    }

    /// See [`crate::store::Store::save_sweep`].
    pub async fn save_sweep(&self, name: &str, at: u64) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys().sweep(name)).arg(at);
        self.commands().run(&set).await.map(drop)
    }

    /// See [`crate::store::Store::saved_sweep`].
    pub async fn saved_sweep(&self, name: &str) -> Result<Option<u64>> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys().sweep(name));
        value::some(self.commands().run(&get).await?).map(|at| value::parse(&value::text(at)?)).transpose()
    }
}

fn untrimmed_from(answers: &mut impl Iterator<Item = redis::Value>) -> Result<Untrimmed> {
    let mut meta = value::list(value::next(answers)?)?.into_iter();
    let mut field = || value::some(value::next(&mut meta)?).map(value::text).transpose();
    let number = |text: Option<String>| text.map_or(Ok(0), |text| value::parse(&text));
    let (bytes, scanned) = (number(field()?)?, number(field()?)?);
    // `<which> <since>`
    let keyed = field()?.and_then(|keyed| keyed.split_once(' ')?.1.parse().ok());
    let is_sent = value::number(value::next(answers)?)? == 1;
    let messages = value::number(value::next(answers)?)?;
    // `<upto> <time> <bytes> …`
    let oldest = value::some(value::next(answers)?).map(value::text).transpose()?;
    let oldest = oldest.map(|mark| mark.split(' ').nth(1).and_then(|time| time.parse().ok()).unwrap_or(0));
    let is_standing = value::number(value::next(answers)?)? == 1;
    Ok(Untrimmed { bytes, scanned, keyed, is_sent, messages, oldest, is_standing })
}
