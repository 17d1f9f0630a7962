//! What a session makes of what the server says.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{
    Asked, Line, Reading, Session,
    chat::{Arrival, ChatState},
};
use crate::{
    event::{Event, Receipt, Violation},
    frame::{
        ChatEntry, ChatEvent, ChatId, ChatNotice, ClientFrame, DeviceKind, Gap, Message, MessageKey, Problem,
        ReadNotice, Reply, ServerFrame, Welcome,
    },
};

impl Session {
    /// A text frame came.
    pub fn receive(&mut self, text: &str) {
        match ServerFrame::parse(text) {
            Ok(frame) => self.receive_frame(frame),
            Err(error) => self.events.push_back(Event::Violation(Violation::Unreadable(error))),
        }
    }

    /// A frame came that was read already.
    pub fn receive_frame(&mut self, frame: ServerFrame) {
        let is_welcome = matches!(frame, ServerFrame::Welcome(_));
        if is_welcome != (self.line == Line::Opening) {
            return self.violation(Violation::Welcome);
        }
        let event = match frame {
            ServerFrame::Welcome(welcome) => return self.welcome(welcome),
            ServerFrame::Message(message) => return self.message(message),
            ServerFrame::Gap(gap) => return self.gap(gap),
            ServerFrame::Reply(reply) => return self.reply(reply),
            ServerFrame::Read(notice) => return self.read_moved(notice),
            ServerFrame::Chat(notice) => return self.membership(notice),
            ServerFrame::Pong => return,
            ServerFrame::Error(error) => Event::Problem(error),
            ServerFrame::Device(notice) => Event::Device(notice),
            ServerFrame::Presence(presence) => Event::Presence(presence),
            ServerFrame::Typing(typing) => Event::Typing(typing),
            ServerFrame::Invitation(invitation) => Event::Invitation(invitation),
            ServerFrame::LinkRequest(request) => Event::LinkRequest(request),
            ServerFrame::HistoryRequest(request) => Event::HistoryRequest(request),
            ServerFrame::Unknown(frame) => Event::Unknown(frame),
        };
        self.events.push_back(event);
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn violation(&mut self, violation: Violation) {
        self.events.push_back(Event::Violation(violation));
    }

    fn welcome(&mut self, welcome: Box<Welcome>) {
        self.line = Line::Up;
        self.user = Some(welcome.user.clone());
        self.device = Some(welcome.device);
        self.kind = Some(welcome.kind);
        if self.is_ready && welcome.kind == DeviceKind::Sub {
            self.frames.push_back(ClientFrame::Ready { id: None });
        }
        let entries = welcome.chats.clone();
        let there: BTreeSet<ChatId> = entries.iter().map(|entry| entry.id).collect();
        self.events.push_back(Event::Connected(welcome));
        let gone: Vec<ChatId> = self.chats.keys().filter(|chat| !there.contains(chat)).copied().collect();
        gone.into_iter().for_each(|chat| self.leave(chat));
        entries.into_iter().for_each(|entry| self.attach(entry));
    }

    fn attach(&mut self, entry: ChatEntry) {
        let chat = entry.id;
        let before = self.chats.get(&chat).map(ChatState::read);
        let gap = match self.chats.get_mut(&chat) {
            Some(state) => state.attach(entry),
            None => {
                let (state, gap) = ChatState::new(entry, self.known.remove(&chat));
                self.chats.insert(chat, state);
                gap
            }
        };
        self.events.extend(gap.map(Event::Gap));
        let read = self.chats.get(&chat).map_or(0, ChatState::read);
        // Who waits for an offset that the server has already is told, even of a chat that is new here.
        let is_confirmed = self.confirm_read(chat, read);
        if is_confirmed || before.is_some_and(|before| before != read) {
            self.events.push_back(Event::Read(ReadNotice { chat, seq: read, device: None }));
        }
    }

    fn leave(&mut self, chat: ChatId) {
        if self.chats.remove(&chat).is_some() {
            self.reads.remove(&chat);
            self.events.push_back(Event::Left(chat));
        }
    }

    fn message(&mut self, message: Message) {
        let (chat, seq) = (message.chat, message.seq);
        let Some(state) = self.chats.get_mut(&chat) else {
            return self.violation(Violation::UnknownChat(chat));
        };
        let arrival = state.arrive(seq);
        // Stored by an earlier connection, whose acknowledgement got lost.
        if state.ack_due().is_some() {
            self.behind.insert(chat);
        }
        // The reply to an own message may have got lost; the message itself says as much.
        if self.user.as_ref() == Some(&message.from) && self.outbox.settle(chat, message.key) {
            let receipt = Receipt { key: message.key, chat, seq, at: message.at };
            self.events.push_back(Event::Sent(receipt));
        }
        self.events.push_back(match arrival {
            Ok(Arrival::New) => Event::Message(message),
            Ok(Arrival::Duplicate) => Event::Duplicate(message),
            Err(due) => Event::Violation(Violation::OutOfOrder { chat, due, seq }),
        });
    }

    fn gap(&mut self, gap: Gap) {
        let Gap { chat, from, to } = gap;
        let Some(state) = self.chats.get_mut(&chat) else {
            return self.violation(Violation::UnknownChat(chat));
        };
        match state.skip(from, to) {
            Ok(()) => self.events.push_back(Event::Gap(gap)),
            Err(due) => self.violation(Violation::OutOfOrder { chat, due, seq: from }),
        }
    }

    fn read_moved(&mut self, notice: ReadNotice) {
        let ReadNotice { chat, seq, .. } = notice;
        let Some(state) = self.chats.get_mut(&chat) else {
            return self.violation(Violation::UnknownChat(chat));
        };
        let is_news = seq > state.read;
        state.read = state.read.max(seq);
        self.confirm_read(chat, seq);
        if is_news {
            self.events.push_back(Event::Read(notice));
        }
    }

    fn confirm_read(&mut self, chat: ChatId, seq: u64) -> bool {
        let is_there = |reading: &Reading| {
            let (Reading::Due(wanted) | Reading::UnderWay(wanted) | Reading::Held(wanted)) = *reading;
            wanted <= seq
        };
        let confirmed = self.reads.get(&chat).is_some_and(is_there);
        if confirmed {
            self.reads.remove(&chat);
        }
        confirmed
    }

    fn membership(&mut self, notice: ChatNotice) {
        let ChatNotice { event, chat, user, entry } = notice;
        match (event, entry, user) {
            (ChatEvent::Joined, Some(entry), _) => {
                self.attach(entry.clone());
                self.events.push_back(Event::Joined(entry));
            }
            (ChatEvent::Left, ..) => self.leave(chat),
            (ChatEvent::MemberJoined, _, Some(user)) => {
                self.events.push_back(Event::MemberJoined { chat, user });
            }
            (ChatEvent::MemberLeft, _, Some(user)) => {
                self.events.push_back(Event::MemberLeft { chat, user });
            }
            _ => {}
        }
    }

    fn reply(&mut self, reply: Reply) {
        let Reply { id, ok, error } = reply;
        let (asked, result) = match (self.asked.remove(&id), ok, error) {
            (Some(asked), Some(ok), None) => (asked, Ok(ok)),
            (Some(asked), None, Some(error)) => (asked, Err(error)),
            _ => return self.violation(Violation::Reply(id)),
        };
        match asked {
            Asked::Other => self.events.push_back(Event::Reply { id, result }),
            Asked::Send(chat, key) => self.answered(id, chat, key, result.map(|ok| numbers(ok.get()))),
            Asked::Read(chat, seq) => self.read_answered(id, chat, seq, result.map(|ok| numbers(ok.get()))),
        }
    }

    fn answered(&mut self, id: u64, chat: ChatId, key: MessageKey, result: Result<Option<Numbers>, Problem>) {
        match result {
            Ok(Some(Numbers { seq, at })) => {
                if self.outbox.settle(chat, key) {
                    self.events.push_back(Event::Sent(Receipt { key, chat, seq, at }));
                }
            }
            Ok(None) => self.violation(Violation::Reply(id)),
            Err(problem) if problem.retry => {
                self.outbox.hold(chat, key);
                self.events.push_back(Event::Delayed(problem));
            }
            Err(problem) => {
                if self.outbox.settle(chat, key) {
                    self.events.push_back(Event::Refused { key, chat, problem });
                }
            }
        }
    }

    fn read_answered(&mut self, id: u64, chat: ChatId, asked: u64, result: Result<Option<Numbers>, Problem>) {
        let is_current = self.reads.get(&chat) == Some(&Reading::UnderWay(asked));
        match result {
            Ok(Some(Numbers { seq, .. })) => {
                if let Some(state) = self.chats.get_mut(&chat) {
                    state.read = state.read.max(seq);
                }
                self.confirm_read(chat, seq);
                self.events.push_back(Event::Read(ReadNotice { chat, seq, device: self.device }));
            }
            Ok(None) => self.violation(Violation::Reply(id)),
            Err(problem) if problem.retry => {
                if is_current {
                    self.reads.insert(chat, Reading::Held(asked));
                }
                self.events.push_back(Event::Delayed(problem));
            }
            Err(problem) => {
                if is_current {
                    self.reads.remove(&chat);
                }
                self.events.push_back(Event::ReadRefused { chat, seq: asked, problem });
            }
        }
    }
}

#[derive(Deserialize)]
struct Numbers {
    seq: u64,
    #[serde(default)]
    at: u64,
}

fn numbers(ok: &str) -> Option<Numbers> {
    serde_json::from_str(ok).ok()
}
