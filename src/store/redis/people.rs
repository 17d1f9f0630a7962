//! What users allow others. Everything of one user shares a slot.

use std::time::Duration;

use super::{RedisStore, chats::Standing, error::corrupt, millis, script, value};
use crate::{
    domain::{
        chat::{Chat, Invitation},
        id::{ChatId, UserId},
    },
    store::{Answered, Block, Count, INVITATION, InvitationLimits, Result, Stance},
};

impl RedisStore {
    /// See [`crate::store::Store::stance`].
    pub async fn stance(&self, user: &UserId, other: &UserId) -> Result<Stance> {
        let keys = self.keys();
        let call = script::STANCE.call().arg(keys.blocks(user)).arg(keys.bar(user, other));
        let call = call.arg(keys.answers(user)).arg(other.as_str());
        let mut answer = value::list(self.commands().eval(&call).await?)?.into_iter();
        let mut number = || value::number(value::next(&mut answer)?);
        let (blocks, barred, version) = (number()? == 1, number()?, number()?);
        Ok(Stance { blocks, barred: (barred > 0).then(|| Duration::from_millis(barred)), version })
    }

    /// See [`crate::store::Store::block`].
    pub async fn block(&self, user: &UserId, whom: &UserId, version: u64, most: u32) -> Result<Answered> {
        let keys = self.keys();
        let call = script::BLOCK.call().arg(keys.blocks(user)).arg(keys.invitations(user));
        let call = call.arg(keys.answers(user)).arg(whom.as_str()).arg(version).arg(most);
        answered(&value::text(self.commands().eval(&call).await?)?)
    }

    /// See [`crate::store::Store::unblock`].
    pub async fn unblock(&self, user: &UserId, whom: &UserId, version: u64) -> Result<bool> {
        let keys = self.keys();
        let call = script::UNBLOCK.call().arg(keys.blocks(user)).arg(keys.answers(user));
        let call = call.arg(whom.as_str()).arg(version);
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::blocks`].
    pub async fn blocks(&self, user: &UserId) -> Result<Vec<Block>> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().blocks(user));
        let found = value::pairs(self.bulk().run(&read).await?)?.into_iter();
        let found = found.map(|(user, at)| Ok(Block { user: value::user(&user)?, at: value::number(at)? }));
        let mut found = found.collect::<Result<Vec<_>>>()?;
        found.sort_by(|one, other| one.user.cmp(&other.user));
        Ok(found)
    }

    /// See [`crate::store::Store::note_invited`].
    pub async fn note_invited(&self, user: &UserId, chat: ChatId, by: &UserId) -> Result<()> {
        let mut note = redis::cmd("HSET");
        note.arg(self.keys().put(user)).arg(chat.hex()).arg(by.as_str());
        self.commands().run(&note).await.map(drop)
    }

    /// See [`crate::store::Store::put_by`].
    pub async fn put_by(&self, user: &UserId, chat: ChatId) -> Result<Option<UserId>> {
        let mut read = redis::cmd("HGET");
        read.arg(self.keys().put(user)).arg(chat.hex());
        let found = value::some(self.commands().run(&read).await?).map(value::text).transpose()?;
        found.map(|by| value::user(&by)).transpose()
    }

    /// See [`crate::store::Store::deny_invites`].
    pub async fn deny_invites(&self, user: &UserId, by: &UserId, long: Duration) -> Result<()> {
        let keys = self.keys();
        let call =
            script::DENY_INVITES.call().arg(keys.bar(user, by)).arg(keys.answers(user)).arg(millis(long));
        self.commands().eval(&call).await.map(drop)
    }

    /// See [`crate::store::Store::allow_invites`].
    pub async fn allow_invites(&self, user: &UserId, by: &UserId, version: u64) -> Result<()> {
        let keys = self.keys();
        let call = script::ALLOW_INVITES.call().arg(keys.bar(user, by)).arg(keys.answers(user)).arg(version);
        self.commands().eval(&call).await.map(drop)
    }

    /// See [`crate::store::Store::invite`].
    pub async fn invite(
        &self,
        user: &UserId,
        chat: ChatId,
        by: &UserId,
        version: u64,
        most: InvitationLimits,
    ) -> Result<Answered> {
        let call = script::INVITE.call().arg(self.keys().invitations(user)).arg(self.keys().answers(user));
        let call = call.arg(chat.hex()).arg(by.as_str()).arg(version);
        let call = call.arg(most.all).arg(most.of_one).arg(millis(INVITATION));
        answered(&value::text(self.commands().eval(&call).await?)?)
    }

    /// See [`crate::store::Store::invitations`].
    pub async fn invitations(&self, user: &UserId) -> Result<Vec<Invitation>> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME");
        pipeline.cmd("HGETALL").arg(self.keys().invitations(user));
        let mut answers = self.bulk().run_all(&pipeline).await?.into_iter();
        let now = super::devices::server_time(value::next(&mut answers)?)?;
        let mut found = Vec::new();
        for (chat, holds) in value::pairs(value::next(&mut answers)?)? {
            let holds = value::text(holds)?;
            let (at, by) = holds.split_once(' ').ok_or_else(|| corrupt("an invitation of another shape"))?;
            let invitation =
                Invitation { chat: value::chat(&chat)?, by: value::user(by)?, at: value::parse(at)? };
            if now < invitation.at.saturating_add(millis(INVITATION)) {
                found.push(invitation);
            }
        }
        found.sort_by_key(|invitation| invitation.chat);
        Ok(found)
    }

    /// See [`crate::store::Store::end_invitation`].
    pub async fn end_invitation(&self, user: &UserId, invitation: &Invitation) -> Result<bool> {
        let keys = self.keys();
        let call = script::END_INVITATION.call().arg(keys.invitations(user)).arg(keys.answers(user));
        let call = call.arg(invitation.chat.hex()).arg(format!("{} {}", invitation.at, invitation.by));
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    /// See [`crate::store::Store::direct`].
    pub async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<Chat>> {
        Ok(match self.in_time(self.standing_of_pair(one, other)).await? {
            Standing::Chat(chat, _) => Some(chat),
            Standing::Nothing | Standing::Deleted => None,
        })
    }

    /// See [`crate::store::Store::counted`].
    pub async fn counted(&self, name: &str, window: Duration) -> Result<(Count, Duration)> {
        let call = script::COUNT.call().arg(self.keys().count(name)).arg(millis(window));
        let mut answer = value::list(self.commands().eval(&call).await?)?.into_iter();
        let count = value::number(value::next(&mut answer)?)?;
        Ok((count, Duration::from_millis(value::number(value::next(&mut answer)?)?)))
    }
}

fn answered(text: &str) -> Result<Answered> {
    match text {
        "done" => Ok(Answered::Done),
        "full" => Ok(Answered::LimitReached),
        "stale" => Ok(Answered::Stale),
        other => Err(corrupt(format!("an answer of {other:?}"))),
    }
}
