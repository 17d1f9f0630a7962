//! How a device handles the frames it receives.

use std::time::Duration;

use keepstep_client::frame::{ChatEvent, ServerFrame};
use keepstep_client::{ChatId, Event, Page, Problem, Violation};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::{Asked, Life};
use crate::client::Socket;
use crate::gaps::Told;
use crate::history::{Seq, What};
use crate::memory::{entry, seen};
use crate::record::count;

impl Life {
    /// Handles a frame. None: the connection is over.
    pub(super) async fn hears(&mut self, socket: &mut Socket, text: &str) -> Option<()> {
        self.heard = Instant::now();
        let frame = ServerFrame::parse(text).ok()?;
        self.notes(&frame).await;
        let is_reply = matches!(frame, ServerFrame::Reply(_));
        self.session.receive_frame(frame);
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Reply { id, result } => self.replied(id, result).await,
                Event::Read(notice) if is_reply => self.marked(notice.chat, notice.seq),
                Event::ReadRefused { chat, .. } => drop(self.marking.remove(&chat)),
                Event::Delayed(problem) => self.refused(&problem),
                Event::HistoryRequest(request) => {
                    let page = self.memory.answer(&request);
                    self.session.serve(request.request, page);
                }
                event => self.doubts(&event),
            }
        }
        self.device.sight.lock().unwrap().chats = self.progress();
        self.speaks(socket).await
    }

    /// Records and stores a frame, before the session handles it.
    async fn notes(&mut self, frame: &ServerFrame) {
        let (device, number) = (self.device.id.clone(), self.socket);
        match frame {
            ServerFrame::Message(message) => {
                if let Some(stored) = self.memory.chats.get_mut(&message.chat) {
                    stored.messages.insert(message.seq, message.clone());
                }
                let (chat, seen) = (message.chat.to_string(), seen(message));
                self.record.write(What::Message { device, socket: number, chat, seen });
            }
            ServerFrame::Gap(gap) => {
                let (at, of) = (self.record.now(), gap.chat.to_string());
                let (from, to) = (gap.from, gap.to);
                let (held, head) = self.around.witness.looks(&of, &device).await;
                self.record.write(What::Gap {
                    device: device.clone(),
                    socket: number,
                    chat: of.clone(),
                    from,
                    to,
                    held: Vec::new(),
                });
                self.record.gaps.lock().unwrap().push(Told { at, device, chat: of, from, to, held, head });
            }
            ServerFrame::Read(notice) => {
                let (chat, seq) = (notice.chat.to_string(), notice.seq);
                self.record.write(What::Read { device, socket: number, chat, seq });
            }
            ServerFrame::Chat(notice) => match (notice.event, &notice.entry) {
                (ChatEvent::Joined, Some(joined)) => {
                    self.memory.attach(joined, !self.device.main);
                    let (chat, entry) = entry(joined);
                    self.device.sight.lock().unwrap().entries.insert(chat.clone(), entry.clone());
                    self.record.write(What::Attached { device, socket: number, chat, entry });
                }
                (ChatEvent::Left, _) => {
                    self.memory.chats.remove(&notice.chat);
                    let chat = notice.chat.to_string();
                    self.device.sight.lock().unwrap().entries.remove(&chat);
                    self.record.write(What::Detached { device, socket: number, chat });
                }
                _ => self.record.write(What::Frame { device, socket: number, kind: "chat".to_owned() }),
            },
            ServerFrame::Reply(_) | ServerFrame::HistoryRequest(_) | ServerFrame::Pong => {}
            other => {
                let kind = other.kind().to_owned();
                self.record.write(What::Frame { device, socket: number, kind });
            }
        }
    }

    /// Records a violation that the SDK's core reports; it fails the run. The checker judges frames of a chat just left.
    pub(super) fn doubts(&self, event: &Event) {
        if let Event::Violation(violation) = event
            && !matches!(violation, Violation::UnknownChat(_))
        {
            let (id, socket) = (&self.device.id, self.socket);
            self.record.doubts.lock().unwrap().push(format!("{id}, socket {socket}: {violation}"));
        }
    }

    fn marked(&mut self, chat: ChatId, seq: Seq) {
        let Some(asked) = self.marking.remove(&chat) else { return };
        let (device, socket, chat) = (self.device.id.clone(), self.socket, chat.to_string());
        self.record.marked(&self.device.user, &chat, seq);
        self.record.write(What::Marked { device, socket, chat, asked, seq });
    }

    fn refused(&self, problem: &Problem) {
        if matches!(problem.code.as_str(), "unavailable" | "draining") {
            count(&self.record.tally.unavailable);
        }
    }

    async fn replied(&mut self, id: u64, result: Result<Box<RawValue>, Problem>) {
        #[derive(Deserialize)]
        struct Numbered {
            seq: Seq,
        }
        let Some(asked) = self.asked.remove(&id) else { return };
        let (device, number) = (self.device.id.clone(), self.socket);
        if let Err(problem) = &result {
            self.refused(problem);
        }
        let refusal = result.as_ref().err().cloned();
        let (code, retry) = refusal.map(|problem| (problem.code, problem.retry)).unwrap_or_default();
        match asked {
            Asked::Send(letter) => {
                let done = result.ok().and_then(|ok| serde_json::from_str::<Numbered>(ok.get()).ok());
                let (chat, key) = (letter.chat.to_string(), letter.key.to_string());
                if let Some(Numbered { seq }) = done {
                    self.record.write(What::Sent { chat, key, seq });
                } else if retry {
                    if !self.gives_up() {
                        self.outbox.push_front(letter);
                    }
                    sleep(Duration::from_millis(20)).await;
                } else {
                    self.record.write(What::Refused { chat, key, code });
                }
            }
            Asked::Ack(chat, seq) => {
                if result.is_ok() {
                    self.record.write(What::Acked { device, socket: number, chat: chat.to_string(), seq });
                }
            }
            Asked::Page(of, before) => {
                let page = result.ok().and_then(|ok| serde_json::from_str::<Page>(ok.get()).ok());
                let chat = of.to_string();
                if let Some(Page { messages, more }) = page {
                    let next = messages.first().map(|first| first.seq).filter(|_| more);
                    let asked = |chat: &&mut crate::memory::Chat| chat.boot == Some(before);
                    if let Some(stored) = self.memory.chats.get_mut(&of).filter(asked) {
                        stored.boot = next;
                    }
                    let messages = messages.iter().map(seen).collect();
                    self.record.write(What::Page { device, socket: number, chat, before, messages, more });
                } else {
                    if let Some(stored) = self.memory.chats.get_mut(&of).filter(|_| !retry) {
                        stored.boot = None;
                    }
                    self.record.write(What::NoPage { device, socket: number, chat, before, code });
                }
                self.says_ready();
            }
        }
    }
}
