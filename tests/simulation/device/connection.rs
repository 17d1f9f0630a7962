//! One connection of a device.

use std::collections::BTreeMap;

use keepstep::domain::id::ChatId;
use keepstep_client::transport;
use tokio::io::DuplexStream;

use super::Chat;
use crate::history::{Entry, Socket};

pub(super) type Line = transport::Socket<DuplexStream>;

pub(super) enum Asked {
    Send(ChatId, String),
    Ack(ChatId, u64),
    Read(ChatId, u64),
    History(ChatId, u64),
}

/// One connection.
pub(super) struct Session {
    pub(super) line: Line,
    pub(super) socket: Socket,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) next_id: u64,
    // Chats whose history isn't complete: the next page is below this.
    pub(super) boot: BTreeMap<ChatId, u64>,
    pub(super) chats: BTreeMap<ChatId, Chat>,
    pub(super) main_device: bool,
    pub(super) place: usize,
    // The device has another connection by now.
    pub(super) old: bool,
    // Pages in a row that it made up.
    pub(super) lies: u32,
}

/// How a connection ended.
pub(super) enum End {
    Closed(Option<u16>),
    Left,
}

impl Session {
    pub(super) fn asks(&mut self, asked: Asked) -> u64 {
        self.next_id += 1;
        self.asked.insert(self.next_id, asked);
        self.next_id
    }

    pub(super) fn add(&mut self, id: ChatId, entry: Entry) {
        if !self.main_device && entry.from > 0 {
            self.boot.insert(id, entry.from + 1);
        }
        let (last, at) = (entry.cursor, tokio::time::Instant::now());
        let chat = Chat { last, at, asked: last, acked: last, read: entry.read, entry };
        self.chats.insert(id, chat);
    }

    // An answer may come when the chat isn't the user's any more.
    pub(super) fn chat(&mut self, id: ChatId, change: impl FnOnce(&mut Chat)) {
        if let Some(chat) = self.chats.get_mut(&id) {
            change(chat);
        }
    }
}
