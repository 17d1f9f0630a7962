//! What others tell a session, and what its own work under way came to.

use super::{Boxed, End, Session, work::Done};
use crate::{
    domain::{device::DeviceKind, id::ChatId},
    hub::{Command, LinkRequest},
    protocol::{ChatEvent, CloseCode, DeviceEvent, ServerFrame},
    store::ReadOffset,
    sync::connect,
};

impl Session {
    pub(super) fn on_command(&mut self, command: Command) -> Result<(), End> {
        match command {
            // The device that read knows it by its reply, which may be on its way; if it gets none, by this.
            Command::Read(chat, offset)
                if offset.device == Some(self.handle.device) && self.busy.is_some() =>
            {
                self.own_reads.retain(|(other, _)| *other != chat);
                self.own_reads.push((chat, offset));
            }
            Command::Read(chat, offset) => self.on_read_moved(chat, offset),
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
            Command::Membership(chats) => self.look_at_memberships(chats),
            Command::Doubtful(chats) => self.look_at_doubtful(chats),
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

    /// Tells the client where the user's read offset stands, if that is news.
    pub(super) fn on_read_moved(&mut self, chat: ChatId, offset: ReadOffset) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if offset.seq > state.read {
            state.read = offset.seq;
            let frame = ServerFrame::Read { chat, seq: offset.seq, device: offset.device };
            self.connection.send(frame.text().into());
        }
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
            Done::Memberships(looked) => self.on_memberships(looked),
            Done::LookAgain(chat, owing) => self.look_again(chat, owing),
            Done::Rejoined(chat, node) => self.on_rejoined(chat, node),
            Done::Renewed => self.renewing = false,
            Done::Found(chat, found) => self.on_found(chat, *found),
        }
        Ok(())
    }

    /// Asks whether the main is (still) there.
    pub(super) fn check_main(&mut self) {
        let (core, user) = (self.core.clone(), self.handle.user.clone());
        self.work.push(Boxed::new(async move { Done::Main(connect::still_has_main(&core, &user).await) }));
    }
}
