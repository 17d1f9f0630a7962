//! How a device handles the frames it receives.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Asked, Life};
use crate::client::Socket;
use crate::gaps::Told;
use crate::history::What;
use crate::memory::{entry, page, seen};
use crate::record::count;

impl Life {
    /// Handles a frame. None: the connection is over.
    pub(super) async fn hears(&mut self, socket: &mut Socket, text: &str) -> Option<()> {
        self.heard = Instant::now();
        let value: Value = serde_json::from_str(text).ok()?;
        let (device, number) = (self.device.id.clone(), self.socket);
        let chat = || value["chat"].as_str().unwrap_or_default().to_owned();
        match value["type"].as_str()? {
            "message" => {
                let (chat, seen) = (chat(), seen(text)?);
                let seq = seen.seq;
                if let Some(stored) = self.memory.chats.get_mut(&chat) {
                    stored.last = stored.last.max(seq);
                    stored.frames.insert(seq, text.to_owned());
                }
                self.record.write(What::Message { device, socket: number, chat, seen });
            }
            "gap" => {
                let (from, to) = (value["from"].as_u64()?, value["to"].as_u64()?);
                if let Some(stored) = self.memory.chats.get_mut(&chat()) {
                    stored.last = stored.last.max(to);
                }
                let (at, of) = (self.record.now(), chat());
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
            "read" => {
                let (chat, seq) = (chat(), value["seq"].as_u64()?);
                if let Some(stored) = self.memory.chats.get_mut(&chat) {
                    stored.read = stored.read.max(seq);
                }
                self.record.write(What::Read { device, socket: number, chat, seq });
            }
            "chat" if value["event"] == "joined" => {
                let (chat, entry) = entry(&value["entry"])?;
                self.memory.attach(&chat, &entry, !self.device.main);
                self.device.sight.lock().unwrap().entries.insert(chat.clone(), entry.clone());
                self.record.write(What::Attached { device, socket: number, chat, entry });
            }
            "chat" if value["event"] == "left" => {
                self.memory.chats.remove(&chat());
                self.device.sight.lock().unwrap().entries.remove(&chat());
                self.record.write(What::Detached { device, socket: number, chat: chat() });
            }
            "history_request" => {
                let page = self.memory.answer(&value);
                self.puts(socket, page).await?;
            }
            "reply" => self.replied(socket, &value, text).await?,
            "pong" => {}
            kind => {
                let kind = kind.to_owned();
                self.record.write(What::Frame { device, socket: number, kind });
            }
        }
        self.device.sight.lock().unwrap().chats = self.memory.progress();
        Some(())
    }

    async fn replied(&mut self, socket: &mut Socket, value: &Value, text: &str) -> Option<()> {
        let asked = self.asked.remove(&value["id"].as_u64()?)?;
        let (device, number) = (self.device.id.clone(), self.socket);
        let (ok, error) = (&value["ok"], &value["error"]);
        let code = error["code"].as_str().unwrap_or_default().to_owned();
        if matches!(code.as_str(), "unavailable" | "draining") {
            count(&self.record.tally.unavailable);
        }
        match asked {
            Asked::Send(letter) => {
                if let Some(seq) = ok["seq"].as_u64() {
                    self.record.write(What::Sent { chat: letter.chat, key: letter.key, seq });
                } else if error["retry"] == true {
                    if !self.gives_up() {
                        self.outbox.push_front(letter);
                    }
                    sleep(Duration::from_millis(20)).await;
                } else {
                    self.record.write(What::Refused { chat: letter.chat, key: letter.key, code });
                }
            }
            Asked::Ack(chat, seq) => {
                if ok.is_object() {
                    self.record.write(What::Acked { device, socket: number, chat, seq });
                } else if let Some(stored) = self.memory.chats.get_mut(&chat) {
                    stored.acking = stored.acking.min(seq - 1);
                }
            }
            Asked::Mark(chat, asked) => {
                if let Some(seq) = ok["seq"].as_u64() {
                    self.record.marked(&self.device.user, &chat, seq);
                    if let Some(stored) = self.memory.chats.get_mut(&chat) {
                        stored.read = stored.read.max(seq);
                    }
                    self.record.write(What::Marked { device, socket: number, chat, asked, seq });
                }
            }
            Asked::Page(chat, before) => {
                let Some((messages, more)) = page(text) else {
                    let retry = error["retry"] == true;
                    if let Some(stored) = self.memory.chats.get_mut(&chat).filter(|_| !retry) {
                        stored.boot = None;
                    }
                    self.record.write(What::NoPage { device, socket: number, chat, before, code });
                    return self.boot_goes_on(socket).await;
                };
                let next = messages.first().map(|first| first.seq).filter(|_| more);
                if let Some(stored) =
                    self.memory.chats.get_mut(&chat).filter(|chat| chat.boot == Some(before))
                {
                    stored.boot = next;
                }
                self.record.write(What::Page { device, socket: number, chat, before, messages, more });
                return self.boot_goes_on(socket).await;
            }
        }
        Some(())
    }

    async fn boot_goes_on(&mut self, socket: &mut Socket) -> Option<()> {
        if self.memory.questions().is_empty() {
            self.put(socket, &json!({ "type": "ready" })).await
        } else {
            Some(())
        }
    }
}
