//! What others tell a session, and what its own work under way came to.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{Boxed, End, Session, work::Done};
use crate::{
    domain::{
        Seq,
        device::DeviceKind,
        id::{ChatId, UserId},
    },
    hub::{Command, LinkRequest},
    protocol::{ChatEvent, CloseCode, DeviceEvent, ServerFrame},
    store::{Attached, Result as Stored},
    sync::{
        connect::{self, Membership},
        presence,
    },
};

/// After which a chat is looked at again in which nothing is owed to the device of a member.
const NOT_YET: Duration = Duration::from_secs(1);
/// After which it is asked again whether a member still is one.
const CHECKED_AGAIN: Duration = Duration::from_millis(500);

impl Session {
    pub(super) fn on_command(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Read(chat, offset) => {
                let Some(state) = self.chats.get_mut(&chat) else { return Ok(()) };
                if offset.seq > state.read {
                    state.read = offset.seq;
                    // The device that read knows it by its reply, which came before this; if it got none, by this.
                    let frame = ServerFrame::Read { chat, seq: offset.seq, device: offset.device };
                    self.connection.send(frame.text().into());
                }
            }
            Command::Device(event, device, at) => {
                self.connection.send(ServerFrame::Device { event, device, at }.text().into());
                // Whether it was the main, and whether it is back already, only the store knows.
                if matches!(event, DeviceEvent::Offline | DeviceEvent::Terminated)
                    && self.handle.kind == DeviceKind::Sub
                    && (!self.ready || !self.asked.is_empty() || self.core.timing.main_required)
                {
                    self.check_main();
                }
            }
            Command::Membership(chat) => self.look_at_membership(chat),
            Command::Member(event, chat, user) => {
                let frame = ServerFrame::Chat { event, chat, user: Some(&user), entry: None };
                self.connection.send(frame.text().into());
                if event == ChatEvent::MemberLeft {
                    self.recheck_watched(Some(user));
                }
            }
            // The first to be left out.
            Command::Typing(chat, user) => {
                if self.chats.contains_key(&chat) && self.connection.stuck_since().is_none() {
                    self.connection.send(ServerFrame::Typing { chat, user: &user }.text().into());
                }
            }
            Command::Presence(round, presence) => {
                if round == self.watch_round {
                    self.connection.send(ServerFrame::Presence(&presence).text().into());
                }
            }
            Command::Tail(chat, seq) => self.on_tail(chat, seq),
            Command::Placed(chat, node) => self.on_placed(chat, node),
            Command::Moved(chat, moved) => self.on_moved(chat, moved),
            Command::HistoryAsk(ask) => self.on_question(ask),
            Command::LinkRequest(request) => {
                let LinkRequest { code, name, platform } = &*request;
                self.connection.send(ServerFrame::LinkRequest { code, name, platform }.text().into());
            }
            Command::HistoryAnswer(answer) => return self.on_history_answer(&answer),
        }
        Ok(())
    }

    pub(super) fn on_done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Log(chat, reserved, page) => self.on_log(chat, reserved, page),
            Done::Main(Ok(())) | Done::Nothing => {}
            Done::Main(Err(refusal)) => {
                // Only what is sure ends the session: a store that doesn't answer isn't a main that has gone.
                if refusal.code == CloseCode::MainOffline {
                    if !self.ready || self.core.timing.main_required {
                        return Err(End::MainOffline(refusal.last_seen));
                    }
                    return self.main_went(refusal.last_seen);
                }
            }
            Done::Membership(chat, epoch, membership) => return self.on_membership(chat, epoch, membership),
            Done::LookAgain(chat) => {
                if let Some(state) = self.chats.get_mut(&chat) {
                    state.looks_again = false;
                    self.look_at_membership(chat);
                }
            }
            Done::Resubscribe(chat, Some(node)) => self.resubscribe(chat, node),
            // It wasn't an accident.
            Done::Resubscribe(chat, None) => self.look_at_membership(chat),
            Done::Found(chat, found) => self.on_found(chat, *found),
        }
        Ok(())
    }

    fn on_membership(&mut self, chat: ChatId, epoch: u64, membership: Stored<Membership>) -> Result<(), End> {
        if let Some(state) = self.chats.get_mut(&chat) {
            state.checking = false;
        }
        match membership {
            Ok(Membership::Attached(attached, read)) => self.on_joined(chat, &attached, read, epoch),
            // What it takes part in here may be an earlier membership: nothing else would tell when the new one is owed.
            Ok(Membership::NotYet) => {
                if let Some(state) = self.chats.get_mut(&chat)
                    && !std::mem::replace(&mut state.looks_again, true)
                {
                    self.work.push(Boxed::new(async move {
                        tokio::time::sleep(NOT_YET).await;
                        Done::LookAgain(chat)
                    }));
                }
            }
            Ok(Membership::Out) => self.on_left(chat),
            // What is held waits on.
            Err(error) if self.chats.get(&chat).is_some_and(|state| state.feed.is_fenced()) => {
                tracing::debug!(%chat, %error, "whether the user still is a member isn't known yet");
                self.look_at(chat, Instant::now() + CHECKED_AGAIN);
            }
            Err(error) => {
                // The client would never know of the chat; reconnecting, it does.
                tracing::warn!(%chat, %error, "a joined chat can't be attached: closing the socket");
                return Err(End::Close(CloseCode::BackendUnavailable));
            }
        }
        Ok(())
    }

    pub(super) fn look_at_membership(&mut self, chat: ChatId) {
        let (core, handle) = (self.core.clone(), self.handle.clone());
        // Whoever is a member after these came was one when they were written: a new membership begins behind them.
        let epoch = self.chats.get(&chat).map_or(0, |state| state.feed.highest_epoch());
        self.work.push(Boxed::new(async move {
            Done::Membership(chat, epoch, connect::look(&core, &handle, chat).await)
        }));
    }

    /// A message was written after somebody had left the chat: perhaps this user.
    pub(super) fn check_epoch(&mut self, chat: ChatId) {
        if let Some(state) = self.chats.get_mut(&chat)
            && !std::mem::replace(&mut state.checking, true)
        {
            self.look_at_membership(chat);
        }
    }

    fn on_joined(&mut self, chat: ChatId, attached: &Attached, read: Seq, epoch: u64) {
        match self.chats.get_mut(&chat) {
            // Told twice, or known from `welcome`.
            Some(state) if state.from == attached.owed.from => {
                state.feed.validate(attached.epoch.max(epoch));
                let (fenced, gone) = (state.feed.is_fenced(), state.subscription.is_none());
                if gone {
                    self.rejoin(chat);
                }
                // Something came after the question, perhaps.
                if fenced {
                    self.check_epoch(chat);
                } else {
                    self.send_early(chat);
                }
                // What was acknowledged while the user was out of it was refused. (They left and came back, and nobody
                // has said anything meanwhile: it begins where it began before.)
                self.move_cursor(chat);
                return;
            }
            // A new membership begins anew.
            Some(_) => self.on_left(chat),
            None => {}
        }
        let followed = HashMap::from([(chat, self.add_chat(attached, read))]);
        let entry = Some(connect::entry(attached, read));
        let frame = ServerFrame::Chat { event: ChatEvent::Joined, chat, user: None, entry };
        self.connection.send(frame.text().into());
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.push(Boxed::new(async move {
            connect::unfollow(&core, &handle, &[chat]).await;
            if let Err(error) = connect::follow(&core, &handle, &followed).await {
                tracing::warn!(%chat, %error, "doorbells can't be heard; the sweep will do");
            }
            Done::Nothing
        }));
    }

    fn on_left(&mut self, chat: ChatId) {
        // Dropping it stops the consumer, which the removal of the queue waits for.
        if !self.drop_chat(chat) {
            return;
        }
        let frame = ServerFrame::Chat { event: ChatEvent::Left, chat, user: None, entry: None };
        self.connection.send(frame.text().into());
        self.recheck_watched(None);
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.push(Boxed::new(async move {
            connect::unfollow(&core, &handle, &[chat]).await;
            Done::Nothing
        }));
    }

    /// Whom the user shares no chat with any more isn't watched any more.
    fn recheck_watched(&mut self, who: Option<UserId>) {
        if self.watch_round == 0 {
            return;
        }
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.push(Boxed::new(async move {
            if let Err(error) = presence::recheck(&core, &handle, who.as_ref()).await {
                tracing::debug!(%error, "who is watched can't be looked at again now");
            }
            Done::Nothing
        }));
    }

    /// Asks whether the main is (still) there.
    pub(super) fn check_main(&mut self) {
        let (core, user) = (self.core.clone(), self.handle.user.clone());
        self.work.push(Boxed::new(async move { Done::Main(connect::still_has_main(&core, &user).await) }));
    }
}
