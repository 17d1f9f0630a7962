//! Commands from other tasks, and results of the session's own futures.

use tokio::time::Instant;

use super::{Boxed, End, Session, pending::Done};
use crate::{
    domain::{
        Millis,
        device::DeviceKind,
        id::{ChatId, DeviceId},
    },
    hub::{Command, InvitationNews, LinkRequest},
    protocol::{ChatEvent, CloseCode, DeviceEvent, InvitationDetails, InvitationEvent, ServerFrame},
    store::ReadOffset,
    sync::connect,
};

impl Session {
    pub(super) fn on_command(&mut self, command: Command) -> Result<(), End> {
        match command {
            // The reading device learns it from its reply, which may be on its way; without a reply, from this.
            Command::Read(chat, offset)
                if offset.device == Some(self.handle.device) && self.requests.busy.is_some() =>
            {
                self.requests.own_reads.retain(|(other, _)| *other != chat);
                self.requests.own_reads.push((chat, offset));
            }
            Command::Read(chat, offset) => self.on_read_moved(chat, offset),
            Command::Device(event, device, at) => {
                self.on_device(event, device, at);
                // Only the store knows whether it was the main, and whether it is back already.
                if matches!(event, DeviceEvent::Offline | DeviceEvent::Terminated)
                    && self.handle.kind == DeviceKind::Sub
                    && (!self.history.ready
                        || !self.history.asked.is_empty()
                        || self.core.timing.main_required)
                {
                    self.check_main();
                }
            }
            Command::Membership(chats) => self.check_memberships(chats),
            Command::CheckMemberships(chats) => self.check_doubtful(chats),
            Command::Member(event, chat, user) => {
                let frame = ServerFrame::Chat { event, chat, user: Some(&user), entry: None };
                self.connection.send(frame.text().into());
                if event == ChatEvent::MemberLeft {
                    self.recheck_watched(Some(user));
                }
            }
            // Dropped first under load.
            Command::Typing(chat, user) => {
                if self.chats.contains_key(&chat) && self.connection.waits_since().is_none() {
                    self.connection.send(ServerFrame::Typing { chat, user: &user }.text().into());
                }
            }
            Command::Presence(round, presence) => {
                if round == self.requests.watch_round {
                    self.connection.send(ServerFrame::Presence(&presence).text().into());
                }
            }
            Command::Doorbell(chat, seq) => self.on_doorbell(chat, seq),
            Command::Tail(chat, seq) => self.on_tail(chat, seq),
            Command::ChatRelocated(chat, node) => self.on_chat_relocated(chat, node),
            Command::CursorPersisted(chat, moved) => self.on_cursor_persisted(chat, moved),
            Command::HistoryAsk(ask) => self.on_question(ask),
            Command::LinkRequest(request) => {
                let LinkRequest { code, name, platform } = &*request;
                self.connection.send(ServerFrame::LinkRequest { code, name, platform }.text().into());
            }
            Command::Invitation(news) => {
                let frame = match &*news {
                    InvitationNews::Pending { chat, kind, name, by, at } => ServerFrame::Invitation {
                        event: InvitationEvent::Pending,
                        chat: *chat,
                        details: Some(InvitationDetails { kind: *kind, name: name.as_deref(), by, at: *at }),
                    },
                    InvitationNews::Over(chat) => {
                        ServerFrame::Invitation { event: InvitationEvent::Over, chat: *chat, details: None }
                    }
                };
                self.connection.send(frame.text().into());
            }
            Command::Apart(user) => self.recheck_watched(Some(user)),
            Command::HistoryAnswer(answer) => return self.on_history_answer(&answer),
        }
        Ok(())
    }

    /// Reports an event of another device to the client; `offline` only later, if the device isn't back by then.
    fn on_device(&mut self, event: DeviceEvent, device: DeviceId, at: Millis) {
        let before = self.absent.len();
        self.absent.retain(|(absent, _, _)| *absent != device);
        let was_absent = self.absent.len() < before;
        match event {
            DeviceEvent::Offline if !self.core.timing.offline_grace.is_zero() => {
                self.absent.push((device, at, Instant::now() + self.core.timing.offline_grace));
            }
            DeviceEvent::Online if was_absent => {}
            _ => self.connection.send(ServerFrame::Device { event, device, at }.text().into()),
        }
    }

    /// Reports the devices that have been offline for long enough.
    pub(super) fn notify_absent(&mut self, now: Instant) {
        let (due, absent) = std::mem::take(&mut self.absent).into_iter().partition(|(_, _, due)| *due <= now);
        self.absent = absent;
        let due: Vec<(DeviceId, Millis, Instant)> = due;
        for (device, at, _) in due {
            let event = DeviceEvent::Offline;
            self.connection.send(ServerFrame::Device { event, device, at }.text().into());
        }
    }

    /// Reports the user's read offset to the client, if it is new.
    pub(super) fn on_read_moved(&mut self, chat: ChatId, offset: ReadOffset) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if offset.seq > state.position.read {
            state.position.read = offset.seq;
            let frame = ServerFrame::Read { chat, seq: offset.seq, device: offset.device };
            self.connection.send(frame.text().into());
        }
    }

    pub(super) fn on_done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Log(chat, reserved, page) => self.on_log(chat, reserved, page),
            Done::Main(Ok(())) | Done::Nothing => {}
            Done::Main(Err(refusal)) => {
                // Only certainty ends the session: a store that doesn't answer doesn't mean that the main is offline.
                if refusal.code == CloseCode::MainOffline {
                    if !self.history.ready || self.core.timing.main_required {
                        return Err(End::MainOffline(refusal.last_seen));
                    }
                    return self.main_went(refusal.last_seen);
                }
            }
            Done::Memberships(checked) => self.on_memberships(checked),
            Done::CheckAgain(chat, subscribing) => self.check_again(chat, subscribing),
            Done::Rejoined(chat, node) => self.on_rejoined(chat, node),
            Done::Checked => self.liveness.checking = false,
            Done::Found(chat, found) => self.on_found(chat, *found),
        }
        Ok(())
    }

    /// Checks whether the main is (still) connected.
    pub(super) fn check_main(&mut self) {
        let (core, user) = (self.core.clone(), self.handle.user.clone());
        self.work
            .pending
            .push(Boxed::new(async move { Done::Main(connect::still_has_main(&core, &user).await) }));
    }
}
