//! What a device is owed in a chat, and what a user has read.

use std::collections::HashMap;

use futures_util::future::try_join_all;

use super::{
    RedisStore,
    chats::chat_from,
    error::{corrupt, later},
    keys::Keys,
    script, value,
};
use crate::{
    domain::{
        Seq,
        chat::Owed,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Attached, CursorMove, CursorMoved, OwedSince, Owing, OwingPage, ReadOffset, Result},
};

/// How many chats' scripts go out together.
const BATCH: usize = 128;
/// How many cursors one script moves: it must not hold Redis long.
const CURSORS: usize = 256;

impl RedisStore {
    /// See [`crate::store::Store::owe`].
    pub async fn owe(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: OwedSince,
    ) -> Result<Option<Owed>> {
        let keys = self.keys();
        let call = script::OWE
            .call()
            .arg(keys.meta(chat))
            .arg(keys.members(chat))
            .arg(keys.from(chat))
            .arg(keys.cursor(chat))
            .arg(user.as_str())
            .arg(device.hex())
            .arg(match since {
                OwedSince::Now => "head",
                OwedSince::Joined => "boundary",
            });
        let Some(answer) = value::some(self.commands().eval(&call).await?) else { return Ok(None) };
        let mut answer = value::list(answer)?.into_iter();
        let from = value::number(value::next(&mut answer)?)?;
        Ok(Some(Owed { from, cursor: value::number(value::next(&mut answer)?)? }))
    }

    /// See [`crate::store::Store::owed`].
    pub async fn owed(&self, chat: ChatId, device: DeviceId) -> Result<Option<Owed>> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HGET").arg(self.keys().from(chat)).arg(device.hex());
        pipeline.cmd("HGET").arg(self.keys().cursor(chat)).arg(device.hex());
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let Some(from) = value::some(value::next(&mut answers)?) else { return Ok(None) };
        let from = value::number(from)?;
        let cursor = value::some(value::next(&mut answers)?).map_or(Ok(from), value::number)?;
        Ok(Some(Owed { from, cursor }))
    }

    /// See [`crate::store::Store::attach`]. Atomic per chat.
    pub async fn attach(
        &self,
        chats: &[ChatId],
        user: &UserId,
        device: DeviceId,
        session: u64,
    ) -> Result<Vec<Option<Attached>>> {
        self.in_time(async {
            let keys = self.keys();
            // All at once: one after the other, many chats would take a slow Redis longer than the time-out.
            let batches = chats.chunks(BATCH).map(|chats| async move {
                let calls = chats.iter().map(|chat| {
                    script::ATTACH
                        .call()
                        .arg(keys.meta(*chat))
                        .arg(keys.members(*chat))
                        .arg(keys.from(*chat))
                        .arg(keys.cursor(*chat))
                        .arg(keys.fence(*chat))
                        .arg(user.as_str())
                        .arg(device.hex())
                        .arg(session)
                });
                let answers = self.bulk().eval_all(&calls.collect::<Vec<_>>()).await;
                let answers = answers.map_err(|err| if chats.len() < BATCH { err } else { later(err) })?;
                let attached = chats.iter().zip(answers).map(|(chat, answer)| {
                    value::some(answer).map(|answer| attached_from(*chat, answer)).transpose()
                });
                attached.collect::<Result<Vec<_>>>()
            });
            let attached = try_join_all(batches.collect::<Vec<_>>()).await?;
            Ok(attached.into_iter().flatten().collect())
        })
        .await
    }

    /// See [`crate::store::Store::move_cursors`]. Atomic for as many as one script moves (256).
    pub async fn move_cursors(&self, chat: ChatId, moves: &[CursorMove]) -> Result<Vec<CursorMoved>> {
        self.in_time(async {
            let mut moved = Vec::with_capacity(moves.len());
            for moves in moves.chunks(CURSORS) {
                let keys = self.keys();
                let call = script::MOVE_CURSORS
                    .call()
                    .arg(keys.meta(chat))
                    .arg(keys.from(chat))
                    .arg(keys.cursor(chat))
                    .arg(keys.fence(chat));
                let call = moves.iter().fold(call, |call, one| {
                    call.arg(one.device.hex()).arg(one.session).arg(one.from).arg(one.seq)
                });
                let answers = self.commands().eval(&call).await;
                let answers = answers.map_err(|err| if moved.is_empty() { err } else { later(err) })?;
                for answer in value::list(answers)? {
                    moved.push(match value::text(answer)?.as_str() {
                        "-1" => CursorMoved::Fenced,
                        at => CursorMoved::At(value::parse(at)?),
                    });
                }
            }
            Ok(moved)
        })
        .await
    }

    /// See [`crate::store::Store::owing`]. A page is one part of the index of chats, whose entries are written before
    /// their chats.
    pub async fn owing(&self, page: u64) -> Result<OwingPage> {
        self.in_time(async {
            let mut part = redis::cmd("SMEMBERS");
            part.arg(self.keys().all_chats(page));
            let ids = value::list(self.bulk().run(&part).await?)?;
            let ids = ids.into_iter().map(|id| value::chat(&value::text(id)?)).collect::<Result<Vec<_>>>()?;
            let mut chats = Vec::with_capacity(ids.len());
            for ids in ids.chunks(BATCH) {
                let mut read = redis::Pipeline::with_capacity(4 * ids.len());
                for chat in ids {
                    read.cmd("HGET").arg(self.keys().meta(*chat)).arg("node");
                    read.cmd("HKEYS").arg(self.keys().members(*chat));
                    read.cmd("HKEYS").arg(self.keys().from(*chat));
                    read.cmd("ZRANGE").arg(self.keys().outbox(*chat)).arg(0).arg(0);
                }
                let mut answers = self.bulk().run_all(&read).await?.into_iter();
                for chat in ids {
                    let node = value::some(value::next(&mut answers)?).map(value::text).transpose()?;
                    let members = value::list(value::next(&mut answers)?)?;
                    let devices = value::list(value::next(&mut answers)?)?;
                    let unconfirmed = value::list(value::next(&mut answers)?)?.into_iter().next();
                    let unconfirmed = unconfirmed.map(value::number).transpose()?;
                    // Being created, or deleted.
                    let Some(node) = node else { continue };
                    let members = members.into_iter().map(|user| value::user(&value::text(user)?));
                    let devices = devices.into_iter().map(|device| value::device(&value::text(device)?));
                    let (members, devices) =
                        (members.collect::<Result<_>>()?, devices.collect::<Result<_>>()?);
                    chats.push(Owing { chat: *chat, node, members, devices, unconfirmed });
                }
            }
            Ok(OwingPage { chats, next: (page + 1 < Keys::CHAT_PARTS).then_some(page + 1) })
        })
        .await
    }

    /// See [`crate::store::Store::disown`].
    pub async fn disown(&self, chat: ChatId, device: DeviceId) -> Result<()> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        self.disown_in(&mut pipeline, chat, device);
        self.commands().run_all(&pipeline).await.map(drop)
    }

    /// The commands that take a device out of a chat. `from` goes first: without it nothing is owed and no cursor moves.
    pub(super) fn disown_in(&self, pipeline: &mut redis::Pipeline, chat: ChatId, device: DeviceId) {
        for key in [self.keys().from(chat), self.keys().cursor(chat), self.keys().fence(chat)] {
            pipeline.cmd("HDEL").arg(key).arg(device.hex());
        }
    }

    /// See [`crate::store::Store::move_read`].
    pub async fn move_read(
        &self,
        user: &UserId,
        chat: ChatId,
        seq: Seq,
        device: Option<DeviceId>,
    ) -> Result<Seq> {
        let device = device.map_or_else(|| "-".to_owned(), DeviceId::hex);
        let call = script::MOVE_READ.call().arg(self.keys().read(user)).arg(chat.hex()).arg(seq).arg(device);
        value::number(self.commands().eval(&call).await?)
    }

    /// See [`crate::store::Store::reads`].
    pub async fn reads(&self, user: &UserId) -> Result<HashMap<ChatId, ReadOffset>> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().read(user));
        let offsets = value::pairs(self.commands().run(&read).await?)?;
        offsets.into_iter().map(|(chat, offset)| Ok((value::chat(&chat)?, offset_from(offset)?))).collect()
    }

    /// See [`crate::store::Store::reads_in`].
    pub async fn reads_in(&self, user: &UserId, chats: &[ChatId]) -> Result<HashMap<ChatId, ReadOffset>> {
        if chats.is_empty() {
            return Ok(HashMap::new());
        }
        let mut read = redis::cmd("HMGET");
        read.arg(self.keys().read(user)).arg(chats.iter().map(|chat| chat.hex()).collect::<Vec<_>>());
        let answers = value::list(self.bulk().run(&read).await?)?;
        let found = chats.iter().zip(answers).filter_map(|(chat, it)| Some((*chat, value::some(it)?)));
        found.map(|(chat, offset)| Ok((chat, offset_from(offset)?))).collect()
    }
}

fn offset_from(offset: redis::Value) -> Result<ReadOffset> {
    let offset = value::text(offset)?;
    let (seq, device) = offset.split_once(' ').ok_or_else(|| corrupt("an offset of another shape"))?;
    let device = if device == "-" { None } else { Some(value::device(device)?) };
    Ok(ReadOffset { seq: value::parse(seq)?, device })
}

fn attached_from(id: ChatId, answer: redis::Value) -> Result<Attached> {
    let mut answer = value::list(answer)?.into_iter();
    let chat = chat_from(id, value::pairs(value::next(&mut answer)?)?)?;
    let chat = chat.ok_or_else(|| corrupt("a chat that has members and no record"))?;
    let from = value::number(value::next(&mut answer)?)?;
    Ok(Attached { chat, owed: Owed { from, cursor: value::number(value::next(&mut answer)?)? }, epoch: 0 })
}
