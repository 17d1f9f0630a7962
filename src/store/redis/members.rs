//! Membership. The chat's slot holds the truth. The user's list of chats is an index that contains every chat whose
//! join has been answered, and may contain one too many.
//!
//! A join adds the chat to the list, then the user to the chat, then the chat to the list again. A leave reads the
//! entry's token, removes the user from the chat, and then the entry from the list if it still has that token. So a
//! leave can't undo the list entry of a join in between: the join's second write has another token, or comes after.
//!
//! Each of these may be executed long after its caller gave up. A leave names the version of the membership that it
//! ends, and a join the chat's epoch as its caller read it: neither undoes later changes.

use std::collections::HashMap;

use redis::Value;

use super::{RedisStore, error::later, script, value};
use crate::{
    domain::{
        chat::Member,
        id::{ChatId, UserId},
    },
    store::{Departure, JoinBy, Joined, Result, bounds::LEFT},
};

/// How many commands are sent together.
const BATCH: usize = 256;

impl RedisStore {
    /// See [`crate::store::Store::members`].
    pub async fn members(&self, chat: ChatId) -> Result<Vec<Member>> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().members(chat));
        members_from(self.bulk().run(&read).await?)
    }

    /// See [`crate::store::Store::chats_of`].
    pub async fn chats_of(&self, user: &UserId) -> Result<Vec<ChatId>> {
        let mut read = redis::cmd("HKEYS");
        read.arg(self.keys().chats(user));
        let chats = value::list(self.bulk().run(&read).await?)?.into_iter();
        let mut chats = chats.map(|chat| value::chat(&value::text(chat)?)).collect::<Result<Vec<_>>>()?;
        chats.sort_unstable();
        Ok(chats)
    }

    /// See [`crate::store::Store::add_member`].
    pub async fn add_member(&self, chat: ChatId, user: &UserId, by: JoinBy, epoch: u64) -> Result<Joined> {
        self.in_time(async {
            let token = token();
            if !self.list_with(user, chat, &token, self.limits().chats_per_user).await? {
                self.tidy(user).await?;
                if !self.list_with(user, chat, &token, self.limits().chats_per_user).await? {
                    return Ok(Joined::LimitReached);
                }
            }
            let by = match by {
                JoinBy::Themselves => "themselves",
                JoinBy::Invitation => "invitation",
            };
            let keys = self.keys();
            let call = script::JOIN
                .call()
                .arg(keys.meta(chat))
                .arg(keys.members(chat))
                .arg(keys.banned(chat))
                .arg(keys.left(chat))
                .arg(keys.arriving(chat))
                .arg(user.as_str())
                .arg(by)
                .arg(self.limits().members_per_group)
                .arg(epoch)
                .arg(LEFT);
            let mut answer = value::list(self.commands().eval(&call).await.map_err(later)?)?.into_iter();
            let joined = match value::text(value::next(&mut answer)?)?.as_str() {
                "new" => Joined::New(value::number(value::next(&mut answer)?)?),
                "already" => Joined::Already(value::number(value::next(&mut answer)?)?),
                "full" => Joined::LimitReached,
                "stale" => Joined::Stale,
                _ => Joined::Refused,
            };
            match joined {
                Joined::New(boundary) | Joined::Already(boundary) => {
                    self.list_chat(user, chat, u32::MAX).await.map_err(later)?;
                    self.move_read(user, chat, boundary, None).await.map_err(later)?;
                }
                Joined::Refused | Joined::LimitReached | Joined::Stale => {
                    self.unlist(user, chat, &token).await.map_err(later)?;
                }
            }
            Ok(joined)
        })
        .await
    }

    /// See [`crate::store::Store::remove_member`].
    pub async fn remove_member(&self, chat: ChatId, member: &Member, how: Departure) -> Result<Option<u64>> {
        self.in_time(async {
            let (keys, user) = (self.keys(), &member.user);
            let mut read = redis::cmd("HGET");
            read.arg(keys.chats(user)).arg(chat.hex());
            let token = value::some(self.commands().run(&read).await?).map(value::text).transpose()?;
            let call = script::LEAVE
                .call()
                .arg(keys.members(chat))
                .arg(keys.banned(chat))
                .arg(keys.meta(chat))
                .arg(keys.left(chat))
                .arg(keys.arriving(chat))
                .arg(user.as_str())
                .arg(match how {
                    Departure::Removed => "ban",
                    Departure::Left => "",
                })
                .arg(member.version)
                .arg(self.inner.identity.seq_offset())
                .arg(LEFT);
            let stay = match value::some(self.commands().eval(&call).await?) {
                // The user has rejoined since: the entry on their list belongs to the new membership.
                Some(Value::Int(-1)) => return Ok(None),
                stay => stay.map(value::number).transpose()?,
            };
            if let Some(token) = token {
                self.unlist(user, chat, &token).await.map_err(later)?;
            }
            Ok(stay)
        })
        .await
    }

    /// See [`crate::store::Store::arriving`].
    pub async fn arriving(&self, chat: ChatId) -> Result<Vec<(UserId, u64)>> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().arriving(chat));
        let found = value::pairs(self.commands().run(&read).await?)?.into_iter();
        found.map(|(user, version)| Ok((value::user(&user)?, value::number(version)?))).collect()
    }

    /// See [`crate::store::Store::arrived`].
    pub async fn arrived(&self, chat: ChatId, user: &UserId, version: u64) -> Result<()> {
        let call = script::ARRIVED.call().arg(self.keys().arriving(chat)).arg(user.as_str()).arg(version);
        self.commands().eval(&call).await.map(drop)
    }

    /// Adds a chat to a user's list. Returns false if the list is full.
    pub(super) async fn list_chat(&self, user: &UserId, chat: ChatId, most: u32) -> Result<bool> {
        self.list_with(user, chat, &token(), most).await
    }

    /// Returns whether one more chat doesn't fit on a user's list, even after a tidy-up.
    pub(super) async fn list_is_full(&self, user: &UserId) -> Result<bool> {
        let mut length = redis::cmd("HLEN");
        length.arg(self.keys().chats(user));
        let most = u64::from(self.limits().chats_per_user);
        if value::number(self.commands().run(&length).await?)? < most {
            return Ok(false);
        }
        self.tidy(user).await?;
        Ok(value::number(self.commands().run(&length).await?)? >= most)
    }

    async fn list_with(&self, user: &UserId, chat: ChatId, token: &str, most: u32) -> Result<bool> {
        let call =
            script::INDEX_CHAT.call().arg(self.keys().chats(user)).arg(chat.hex()).arg(token).arg(most);
        Ok(value::number(self.commands().eval(&call).await?)? == 1)
    }

    async fn unlist(&self, user: &UserId, chat: ChatId, token: &str) -> Result<()> {
        let (chats, read) = (self.keys().chats(user), self.keys().read(user));
        let call = script::UNINDEX_CHAT.call().arg(chats).arg(read).arg(self.keys().put(user));
        let call = call.arg(chat.hex()).arg(token);
        self.commands().eval(&call).await.map(drop)
    }

    // Removes the chats from the list that the user isn't a member of: a crash, or a race, left them there. Runs only
    // when the list is full.
    async fn tidy(&self, user: &UserId) -> Result<()> {
        let mut read = redis::cmd("HGETALL");
        read.arg(self.keys().chats(user));
        let tokens: HashMap<String, Value> =
            value::pairs(self.bulk().run(&read).await?)?.into_iter().collect();
        let chats: Vec<_> = tokens.into_iter().collect();
        for chats in chats.chunks(BATCH) {
            let mut pipeline = redis::Pipeline::with_capacity(chats.len());
            for (chat, _) in chats {
                pipeline.cmd("HEXISTS").arg(self.keys().members(value::chat(chat)?)).arg(user.as_str());
            }
            for ((chat, token), member) in chats.iter().zip(self.bulk().run_all(&pipeline).await?) {
                if value::number(member)? == 0 {
                    self.unlist(user, value::chat(chat)?, &value::text(token.clone())?).await?;
                }
            }
        }
        Ok(())
    }
}

/// Returns a chat's members, by name.
pub(super) fn members_from(answer: Value) -> Result<Vec<Member>> {
    let members = value::pairs(answer)?.into_iter();
    let members = members.map(|(user, membership)| member_from(&user, membership));
    let mut members = members.collect::<Result<Vec<_>>>()?;
    members.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(members)
}

/// Returns a member from an entry of a chat's members.
pub(super) fn member_from(user: &str, membership: Value) -> Result<Member> {
    let (boundary, version) = value::membership(&value::text(membership)?)?;
    Ok(Member { user: value::user(user)?, boundary, version })
}

// A new token for each write allows the check "unchanged since I read it".
fn token() -> String {
    format!("{:016x}", rand::random::<u64>())
}
