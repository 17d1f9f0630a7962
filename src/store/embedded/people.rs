//! What users allow others.

use std::time::Duration;

use super::{EmbeddedStore, User, chats::pair, millis};
use crate::{
    domain::{
        chat::{Chat, Invitation},
        id::{ChatId, UserId},
    },
    store::{Answered, Block, Count, INVITATION, InvitationLimits, Result, Stance},
};

impl EmbeddedStore {
    /// See [`crate::store::Store::stance`].
    pub async fn stance(&self, user: &UserId, other: &UserId) -> Result<Stance> {
        let (state, now) = (self.state(), self.now());
        let Some(user) = state.users.get(user) else {
            return Ok(Stance { blocks: false, barred: None, version: 0 });
        };
        let barred = user.bars.get(other).filter(|until| **until > now);
        Ok(Stance {
            blocks: user.blocks.contains_key(other),
            barred: barred.map(|until| Duration::from_millis(until - now)),
            version: user.answers,
        })
    }

    /// See [`crate::store::Store::block`].
    pub async fn block(&self, user: &UserId, whom: &UserId, version: u64, most: u32) -> Result<Answered> {
        let (mut state, now) = (self.state(), self.now());
        let user = state.user(user);
        if user.blocks.contains_key(whom) {
            return Ok(Answered::Done);
        }
        if user.answers != version {
            return Ok(Answered::Stale);
        }
        if user.blocks.len() >= most as usize {
            return Ok(Answered::LimitReached);
        }
        user.blocks.insert(whom.clone(), now);
        user.answers += 1;
        user.invitations.retain(|_, invitation| invitation.by != *whom);
        Ok(Answered::Done)
    }

    /// See [`crate::store::Store::unblock`].
    pub async fn unblock(&self, user: &UserId, whom: &UserId, version: u64) -> Result<bool> {
        let mut state = self.state();
        let user = state.user(user);
        if !user.blocks.contains_key(whom) {
            return Ok(true);
        }
        if user.answers != version {
            return Ok(false);
        }
        user.blocks.remove(whom);
        user.answers += 1;
        Ok(true)
    }

    /// See [`crate::store::Store::blocks`].
    pub async fn blocks(&self, user: &UserId) -> Result<Vec<Block>> {
        let state = self.state();
        let blocks = state.users.get(user).into_iter().flat_map(|user| &user.blocks);
        Ok(blocks.map(|(user, at)| Block { user: user.clone(), at: *at }).collect())
    }

    /// See [`crate::store::Store::note_invited`].
    pub async fn note_invited(&self, user: &UserId, chat: ChatId, by: &UserId) -> Result<()> {
        self.state().user(user).put.insert(chat, by.clone());
        Ok(())
    }

    /// See [`crate::store::Store::put_by`].
    pub async fn put_by(&self, user: &UserId, chat: ChatId) -> Result<Option<UserId>> {
        Ok(self.state().users.get(user).and_then(|user| user.put.get(&chat)).cloned())
    }

    /// See [`crate::store::Store::deny_invites`].
    pub async fn deny_invites(&self, user: &UserId, by: &UserId, long: Duration) -> Result<()> {
        let (mut state, now) = (self.state(), self.now());
        let user = state.user(user);
        user.bars.retain(|_, until| *until > now);
        user.bars.insert(by.clone(), now.saturating_add(millis(long)));
        user.answers += 1;
        Ok(())
    }

    /// See [`crate::store::Store::allow_invites`].
    pub async fn allow_invites(&self, user: &UserId, by: &UserId, version: u64) -> Result<()> {
        let mut state = self.state();
        let user = state.user(user);
        if user.answers == version {
            user.bars.remove(by);
        }
        Ok(())
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
        let (mut state, now) = (self.state(), self.now());
        let user = state.user(user);
        user.invitations.retain(|_, invitation| is_good(invitation, now));
        if user.invitations.contains_key(&chat) {
            return Ok(Answered::Done);
        }
        if user.answers != version {
            return Ok(Answered::Stale);
        }
        let own = user.invitations.values().filter(|invitation| invitation.by == *by).count();
        if user.invitations.len() >= most.all as usize || own >= most.of_one as usize {
            return Ok(Answered::LimitReached);
        }
        user.invitations.insert(chat, Invitation { chat, by: by.clone(), at: now });
        Ok(Answered::Done)
    }

    /// See [`crate::store::Store::invitations`].
    pub async fn invitations(&self, user: &UserId) -> Result<Vec<Invitation>> {
        let (state, now) = (self.state(), self.now());
        let all = state.users.get(user).into_iter().flat_map(|user| user.invitations.values());
        Ok(all.filter(|invitation| is_good(invitation, now)).cloned().collect())
    }

    /// See [`crate::store::Store::end_invitation`].
    pub async fn end_invitation(&self, user: &UserId, invitation: &Invitation) -> Result<bool> {
        let mut state = self.state();
        let user: &mut User = state.user(user);
        if user.invitations.get(&invitation.chat) != Some(invitation) {
            return Ok(false);
        }
        user.invitations.remove(&invitation.chat);
        user.answers += 1;
        Ok(true)
    }

    /// See [`crate::store::Store::direct`].
    pub async fn direct(&self, one: &UserId, other: &UserId) -> Result<Option<Chat>> {
        let state = self.state();
        let room = state.pairs.get(&pair(one, other)).and_then(|id| state.chats.get(id));
        Ok(room.map(|room| room.chat.clone()))
    }

    /// See [`crate::store::Store::counted`].
    pub async fn counted(&self, name: &str, window: Duration) -> Result<(Count, Duration)> {
        let (mut state, now) = (self.state(), self.now());
        state.sweep(now);
        let end = now.saturating_add(millis(window));
        let (count, until) = state.counts.entry(name.to_owned()).or_insert((0, end));
        if now >= *until {
            (*count, *until) = (0, end);
        }
        // The clock was set back since.
        *until = end.min(*until);
        *count += 1;
        Ok((*count, Duration::from_millis(until.saturating_sub(now))))
    }
}

fn is_good(invitation: &Invitation, now: u64) -> bool {
    now < invitation.at.saturating_add(millis(INVITATION))
}
