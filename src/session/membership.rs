//! In which chats a session takes part. Events are hints, so it checks them against the store: all hinted chats together,
//! and one batch after the other, because of two concurrent checks of a chat the older could come last.

use std::{collections::BTreeSet, time::Duration};

use super::{Boxed, Session, attaching::Stage, pending::Done};
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
    },
    hub::{Followed, Readings},
    protocol::{ChatEvent, ServerFrame},
    store::{Attached, Result as Stored},
    sync::{
        connect::{self, CheckedMemberships, Membership, Subscribing},
        presence,
    },
};

/// Pause before a chat is checked again in which the device of a member isn't subscribed.
const NOT_YET: Duration = Duration::from_secs(1);
/// Pause before chats are checked again that the store didn't answer for.
const AGAIN: Duration = Duration::from_millis(500);

/// Chats to check. Bounded as the mailbox is.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    wanted: BTreeSet<ChatId>,
    // Chats under check, ascending, each with the highest epoch that is held of it: a user who is a member after that message
    // came was one when it was written, because a new membership begins above it.
    checking: Option<Vec<(ChatId, u64)>>,
    // Chats in which the device wasn't subscribed, and that wait for another check.
    not_yet: BTreeSet<ChatId>,
}

impl Session {
    pub(super) fn check_membership(&mut self, chat: ChatId) {
        self.check_memberships([chat]);
    }

    pub(super) fn check_memberships(&mut self, chats: impl IntoIterator<Item = ChatId>) {
        self.memberships.wanted.extend(chats);
        self.check_after(Duration::ZERO);
    }

    /// A comparison found that these may have changed. For chats under check that is no news.
    pub(super) fn check_doubtful(&mut self, mut chats: Vec<ChatId>) {
        if let Some(checking) = &self.memberships.checking {
            chats.retain(|chat| checking.binary_search_by_key(chat, |(chat, _)| *chat).is_err());
        }
        self.check_memberships(chats);
    }

    /// A message was written after somebody had left the chat: perhaps this user.
    pub(super) fn check_epoch(&mut self, chat: ChatId) {
        if let Some(state) = self.chats.get_mut(&chat)
            && !std::mem::replace(&mut state.checking, true)
        {
            self.check_membership(chat);
        }
    }

    fn check_after(&mut self, pause: Duration) {
        if self.memberships.checking.is_some() || self.memberships.wanted.is_empty() {
            return;
        }
        let chats: Vec<ChatId> = std::mem::take(&mut self.memberships.wanted).into_iter().collect();
        let epoch = |chat| self.chats.get(chat).map_or(0, |state| state.feed.highest_epoch());
        self.memberships.checking = Some(chats.iter().map(|chat| (*chat, epoch(chat))).collect());
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.pending.push(Boxed::new(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Done::Memberships(connect::check_memberships(&core, &handle, &chats).await)
        }));
    }

    pub(super) fn on_memberships(&mut self, checked: Stored<CheckedMemberships>) {
        let checking = self.memberships.checking.take().unwrap_or_default();
        let pause = match checked {
            Ok(mut checked) => {
                let unknown = std::mem::take(&mut checked.unknown);
                self.on_checked(checked, &checking);
                let pause = if unknown.is_empty() { Duration::ZERO } else { AGAIN };
                self.memberships.wanted.extend(unknown);
                pause
            }
            Err(error) => {
                // While the lease lasts there is time for a retry; held messages wait.
                let device = self.handle.device;
                tracing::warn!(%device, %error, "reading memberships failed; will retry");
                self.memberships.wanted.extend(checking.into_iter().map(|(chat, _)| chat));
                AGAIN
            }
        };
        self.check_after(pause);
    }

    fn on_checked(
        &mut self,
        CheckedMemberships { chats, readings, .. }: CheckedMemberships,
        checking: &[(ChatId, u64)],
    ) {
        let (mut joined, mut left) = (Vec::new(), 0);
        // Some have newer events: their results may be outdated, and they are checked next.
        let wanted = std::mem::take(&mut self.memberships.wanted);
        for (chat, membership) in chats.into_iter().filter(|(chat, _)| !wanted.contains(chat)) {
            if let Some(state) = self.chats.get_mut(&chat) {
                state.checking = false;
            }
            let epoch =
                checking.binary_search_by_key(&chat, |(chat, _)| *chat).map_or(0, |at| checking[at].1);
            match membership {
                Membership::Attached(attached, read) => {
                    joined.extend(self.on_joined(chat, &attached, read, epoch));
                }
                Membership::NotYet => self.on_not_yet(chat),
                Membership::Out => left += usize::from(self.on_left(chat)),
            }
        }
        self.memberships.wanted.extend(wanted);
        self.follow(joined, readings);
        if left > 0 {
            self.recheck_watched(None);
        }
    }

    /// Follows these chats from now on.
    pub(super) fn follow(&mut self, joined: Vec<(ChatId, Followed, Seq)>, readings: Readings) {
        if joined.is_empty() {
            return;
        }
        let chats = joined.iter().map(|(chat, ..)| *chat).collect();
        connect::follow(&self.core, &self.handle, joined, readings);
        let (core, device) = (self.core.clone(), self.handle.device);
        self.work.pending.push(Boxed::new(async move {
            if let Err(error) = connect::subscribe_chats(&core, chats).await {
                tracing::warn!(%device, %error, "subscribing to doorbells failed: the sweep covers them");
            }
            Done::Nothing
        }));
    }

    /// How to follow the chat, if it isn't followed yet.
    fn on_joined(
        &mut self,
        chat: ChatId,
        attached: &Attached,
        read: Seq,
        epoch: u64,
    ) -> Option<(ChatId, Followed, Seq)> {
        match self.chats.get_mut(&chat) {
            // Reported twice, or known from `welcome`.
            Some(state) if state.position.from == attached.position.from => {
                state.feed.validate(attached.epoch.max(epoch));
                let (fenced, gone) = (state.feed.is_fenced(), matches!(state.place.stage, Stage::Gone));
                if gone {
                    self.rejoin(chat);
                }
                // A new event may have come after the check.
                if fenced {
                    self.check_epoch(chat);
                } else {
                    self.send_early(chat);
                }
                // Acknowledgements while the user was out of the chat were refused. (They left and came back, and nobody has sent
                // anything meanwhile: `from` is the same.)
                self.move_cursor(chat);
                return None;
            }
            // A new membership starts again.
            Some(_) => {
                self.on_left(chat);
            }
            None => {}
        }
        let followed = self.add_chat(attached, read);
        let entry = Some(connect::entry(attached, read));
        let frame = ServerFrame::Chat { event: ChatEvent::Joined, chat, user: None, entry };
        self.connection.send(frame.text().into());
        Some((chat, followed, read))
    }

    // The member is just being added, or the adding edge died: the session completes it after a moment. The followed chat may
    // also belong to an earlier membership: nothing else would report the new subscription.
    fn on_not_yet(&mut self, chat: ChatId) {
        if !self.memberships.not_yet.insert(chat) {
            return;
        }
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.pending.push(Boxed::new(async move {
            tokio::time::sleep(NOT_YET).await;
            Done::CheckAgain(chat, connect::complete(&core, &handle, chat).await)
        }));
    }

    pub(super) fn check_again(&mut self, chat: ChatId, subscribing: Subscribing) {
        self.memberships.not_yet.remove(&chat);
        // The sweep reports others again.
        if subscribing == Subscribing::Fixed || self.chats.contains_key(&chat) {
            self.check_membership(chat);
        }
    }

    /// True: it was followed.
    fn on_left(&mut self, chat: ChatId) -> bool {
        connect::unfollow(&self.core, &self.handle, chat);
        // Dropping it stops the consumer, for which the removal of the queue waits.
        if !self.drop_chat(chat) {
            return false;
        }
        let frame = ServerFrame::Chat { event: ChatEvent::Left, chat, user: None, entry: None };
        self.connection.send(frame.text().into());
        true
    }

    /// Stops watching users who share no chat with this one any more.
    pub(super) fn recheck_watched(&mut self, who: Option<UserId>) {
        if self.requests.watch_round == 0 {
            return;
        }
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.pending.push(Boxed::new(async move {
            if let Err(error) = presence::recheck(&core, &handle, who.as_ref()).await {
                tracing::debug!(%error, "who is watched can't be checked at again now");
            }
            Done::Nothing
        }));
    }
}
