//! Positions of devices in chats, and read offsets of users.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};

use super::{
    RedisStore,
    chats::chat_from,
    error::{corrupt, later},
    script, value,
};
use crate::{
    domain::{
        Seq,
        chat::DevicePosition,
        device::DeviceState,
        id::{ChatId, DeviceId, UserId},
    },
    store::{Attached, CursorMove, CursorMoved, ReadOffset, Result, SubscribeFrom},
};

/// How many chats' scripts are sent together.
const BATCH: usize = 128;
/// How many such batches wait concurrently, when there may be very many: one after the other they would take a slow
/// Redis longer than the time-out.
const BATCHES: usize = 8;
/// How many cursors one script moves: it must not hold Redis long.
const CURSORS: usize = 256;

impl RedisStore {
    /// See [`crate::store::Store::subscribe_device`].
    pub async fn subscribe_device(
        &self,
        chat: ChatId,
        user: &UserId,
        device: DeviceId,
        since: SubscribeFrom,
    ) -> Result<Option<DevicePosition>> {
        let keys = self.keys();
        let call = script::SUBSCRIBE_DEVICE
            .call()
            .arg(keys.meta(chat))
            .arg(keys.members(chat))
            .arg(keys.from(chat))
            .arg(keys.cursor(chat))
            .arg(user.as_str())
            .arg(device.hex())
            .arg(match since {
                SubscribeFrom::Head(seen) => seen.to_string(),
                SubscribeFrom::Joined => "boundary".to_owned(),
            });
        let Some(answer) = value::some(self.commands().eval(&call).await?) else { return Ok(None) };
        let mut answer = value::list(answer)?.into_iter();
        let from = value::number(value::next(&mut answer)?)?;
        Ok(Some(DevicePosition { from, cursor: value::number(value::next(&mut answer)?)? }))
    }

    /// See [`crate::store::Store::position`].
    pub async fn position(&self, chat: ChatId, device: DeviceId) -> Result<Option<DevicePosition>> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.cmd("HGET").arg(self.keys().from(chat)).arg(device.hex());
        pipeline.cmd("HGET").arg(self.keys().cursor(chat)).arg(device.hex());
        let mut answers = self.commands().run_all(&pipeline).await?.into_iter();
        let Some(from) = value::some(value::next(&mut answers)?) else { return Ok(None) };
        let from = value::number(from)?;
        let cursor = value::some(value::next(&mut answers)?).map_or(Ok(from), value::number)?;
        Ok(Some(DevicePosition { from, cursor }))
    }

    /// See [`crate::store::Store::attach`]. Atomic per chat.
    pub async fn attach(
        &self,
        chats: &[ChatId],
        user: &UserId,
        device: DeviceId,
        session: u64,
    ) -> Result<Vec<Option<Attached>>> {
        let seq_offset = self.inner.identity.seq_offset();
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
                    value::some(answer).map(|answer| attached_from(*chat, seq_offset, answer)).transpose()
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

    /// See [`crate::store::Store::unsubscribe_device`].
    pub async fn unsubscribe_device(
        &self,
        chat: ChatId,
        user: Option<&UserId>,
        device: DeviceId,
    ) -> Result<bool> {
        let keys = self.keys();
        let call = script::UNSUBSCRIBE_DEVICE
            .call()
            .arg(keys.members(chat))
            .arg(keys.from(chat))
            .arg(keys.cursor(chat))
            .arg(keys.fence(chat))
            .arg(keys.behind(chat))
            .arg(user.map_or("", UserId::as_str))
            .arg(device.hex());
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// Adds the commands that unsubscribe a terminated device from a chat, for any members. `from` goes first: without
    /// it the device isn't subscribed and no cursor moves.
    pub(super) fn disown_in(&self, pipeline: &mut redis::Pipeline, chat: ChatId, device: DeviceId) {
        let keys = self.keys();
        for key in [keys.from(chat), keys.cursor(chat), keys.fence(chat), keys.behind(chat)] {
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
        let (read, chats) = (self.keys().read(user), self.keys().chats(user));
        let call = script::MOVE_READ.call().arg(read).arg(chats).arg(chat.hex()).arg(seq).arg(device);
        value::number(self.commands().eval(&call).await?)
    }

    /// See [`crate::store::Store::reads`].
    pub async fn reads(&self, user: &UserId) -> Result<HashMap<ChatId, ReadOffset>> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(self.keys().read(user));
        read.cmd("HLEN").arg(self.keys().chats(user));
        let mut answers = self.commands().run_all(&read).await?.into_iter();
        let (mut found, chats) =
            (value::pairs(value::next(&mut answers)?)?, value::number(value::next(&mut answers)?)?);
        if found.len() as u64 > chats {
            // Earlier builds left them there. If the deletion fails, the next read repeats it.
            let prune = script::PRUNE_READS.call().arg(self.keys().read(user)).arg(self.keys().chats(user));
            match self.bulk().eval(&prune).await {
                Err(error) => {
                    tracing::debug!(%user, %error, "read offsets of chats that were left stay for now")
                }
                Ok(_) => {
                    let mut left = redis::cmd("HGETALL");
                    left.arg(self.keys().read(user));
                    found = value::pairs(self.commands().run(&left).await?)?;
                }
            }
        }
        found.into_iter().map(|(chat, offset)| Ok((value::chat(&chat)?, offset_from(offset)?))).collect()
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

    /// See [`crate::store::Store::device_states`]. Reads only the states: a device has many more fields.
    pub async fn device_states(&self, users: &[UserId]) -> Result<Vec<Vec<(DeviceId, DeviceState)>>> {
        let batches: Vec<_> = users.chunks(BATCH).map(|users| self.states_in(users)).collect();
        self.in_time(stream::iter(batches).buffered(BATCHES).try_concat()).await
    }

    async fn states_in(&self, users: &[UserId]) -> Result<Vec<Vec<(DeviceId, DeviceState)>>> {
        let mut scan = redis::Pipeline::with_capacity(users.len());
        for user in users {
            let devices = self.keys().devices(user);
            scan.cmd("HSCAN").arg(devices).arg(0).arg("MATCH").arg("*.state").arg("COUNT").arg(1000);
        }
        let mut all = Vec::with_capacity(users.len());
        for (user, answer) in users.iter().zip(self.bulk().run_all(&scan).await?) {
            let mut answer = value::list(answer)?.into_iter();
            if value::number(value::next(&mut answer)?)? == 0 {
                all.push(states_from(value::pairs(value::next(&mut answer)?)?)?);
                continue;
            }
            // This user has more devices than any user may have.
            let devices = self.devices(user).await?;
            all.push(devices.into_iter().map(|device| (device.id, device.state)).collect());
        }
        Ok(all)
    }
}

fn states_from(fields: Vec<(String, redis::Value)>) -> Result<Vec<(DeviceId, DeviceState)>> {
    let one = |(field, state): (String, redis::Value)| {
        let device = field.strip_suffix(".state").ok_or_else(|| corrupt("a device's field without a dot"))?;
        Ok((value::device(device)?, value::state(&value::text(state)?)?))
    };
    fields.into_iter().map(one).collect()
}

fn offset_from(offset: redis::Value) -> Result<ReadOffset> {
    let offset = value::text(offset)?;
    let (seq, device) = offset.split_once(' ').ok_or_else(|| corrupt("an offset of another shape"))?;
    let device = if device == "-" { None } else { Some(value::device(device)?) };
    Ok(ReadOffset { seq: value::parse(seq)?, device })
}

// `seq_offset`: the store's; the chat has the one that was in force at its last message.
fn attached_from(id: ChatId, seq_offset: u64, answer: redis::Value) -> Result<Attached> {
    let mut answer = value::list(answer)?.into_iter();
    let fields = value::pairs(value::next(&mut answer)?)?;
    let lift = fields.iter().find(|(field, _)| field == "lift").map(|(_, lift)| value::number(lift.clone()));
    let restored = lift.transpose()?.unwrap_or(0) < seq_offset;
    let chat = chat_from(id, fields)?;
    let chat = chat.ok_or_else(|| corrupt("a chat that has members and no record"))?;
    let from = value::number(value::next(&mut answer)?)?;
    let position = DevicePosition { from, cursor: value::number(value::next(&mut answer)?)? };
    let (boundary, epoch) = (value::number(value::next(&mut answer)?)?, chat.epoch);
    Ok(Attached { chat, position, boundary, epoch, restored })
}
