//! Reads for lists: everything at once, in as few round trips as one item would cost.

use super::{
    RedisStore,
    chats::chat_from,
    members::{member_from, members_from},
    messages::page_from,
    script::{self, Call},
    value,
};
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
    },
    store::{ChatWithMembers, LogPage, Reader, Result},
};

impl RedisStore {
    /// See [`crate::store::Store::chats_with_members`]. Two round trips: the number of members of each chat, so that no
    /// more is read than is wanted; then the chats.
    pub async fn chats_with_members(
        &self,
        user: &UserId,
        chats: &[ChatId],
        most: usize,
    ) -> Result<Vec<Option<ChatWithMembers>>> {
        let keys = self.keys();
        let mut sizes = redis::Pipeline::with_capacity(chats.len());
        for chat in chats {
            sizes.cmd("HLEN").arg(keys.members(*chat));
        }
        let mut all = 0;
        let mut fitting = 0;
        for size in self.bulk().run_all(&sizes).await? {
            all += value::number(size)?;
            if all > most as u64 && fitting > 0 {
                break;
            }
            fitting += 1;
        }
        let chats = &chats[..fitting];
        let calls: Vec<Call> = chats
            .iter()
            .map(|chat| {
                let call = script::CHAT_OF_MEMBER.call().arg(keys.meta(*chat)).arg(keys.members(*chat));
                call.arg(user.as_str())
            })
            .collect();
        let mut members = redis::Pipeline::with_capacity(chats.len());
        for chat in chats {
            members.cmd("HGETALL").arg(keys.members(*chat));
        }
        let (seen, members) = tokio::try_join!(self.bulk().eval_all(&calls), self.bulk().run_all(&members))?;
        let one = |((id, answer), members)| {
            let Some(answer) = value::some(answer) else { return Ok(None) };
            let mut answer = value::list(answer)?.into_iter();
            let fields = value::pairs(value::next(&mut answer)?)?;
            let Some(chat) = chat_from(id, fields)? else { return Ok(None) };
            let member = member_from(user.as_str(), value::next(&mut answer)?)?;
            Ok(Some(ChatWithMembers { chat, member, members: members_from(members)? }))
        };
        chats.iter().copied().zip(seen).zip(members).map(one).collect()
    }

    /// See [`crate::store::Store::log_before`].
    pub async fn log_before(
        &self,
        chat: ChatId,
        reader: &Reader,
        before: Seq,
        lowest: Seq,
        count: usize,
        bytes: usize,
    ) -> Result<Option<LogPage>> {
        let (keys, call) = (self.keys(), script::LOG_BEFORE.call());
        let call = call.arg(keys.meta(chat)).arg(keys.log(chat)).arg(keys.members(chat));
        let call = call.arg(before).arg(lowest).arg(count).arg(bytes);
        let call = call.arg(reader.user.as_str()).arg(reader.since);
        let page = value::some(self.bulk().eval(&call).await?).map(page_from).transpose()?;
        Ok(page.map(|mut page| {
            page.messages.reverse();
            page
        }))
    }
}
