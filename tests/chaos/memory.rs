//! The stored state of a device of the campaign, which survives connections. Its progress is in the SDK's session.

use std::collections::{BTreeMap, HashMap};

use keepstep_client::frame::HistoryRequest;
use keepstep_client::{ChatEntry, ChatId, Message, Page};

use crate::history::{Entry, Seen, Seq};
use crate::record::hash;

/// A chat on the device.
#[derive(Debug, Default)]
pub struct Chat {
    /// Its `from`.
    pub from: Seq,
    /// Every message, unchanged.
    pub messages: BTreeMap<Seq, Message>,
    /// For a sub: where the next page of history ends; none if it has all of it.
    pub boot: Option<Seq>,
}

/// All chats of the device.
#[derive(Debug, Default)]
pub struct Memory {
    /// By id.
    pub chats: HashMap<ChatId, Chat>,
}

/// Returns an entry as the history's record.
pub fn entry(entry: &ChatEntry) -> (String, Entry) {
    let ChatEntry { id, head, read, cursor, from, .. } = *entry;
    (id.to_string(), Entry { head, read, cursor, from })
}

/// Returns a message as the history's record.
pub fn seen(message: &Message) -> Seen {
    Seen { seq: message.seq, key: message.key.to_string(), frame: hash(message.raw()) }
}

impl Memory {
    /// Begins a socket, or a chat on it.
    pub fn attach(&mut self, entry: &ChatEntry, is_sub: bool) {
        // A new membership begins anew.
        let fresh = || Chat { from: entry.from, boot: is_sub.then_some(entry.from + 1), ..Chat::default() };
        let chat = self.chats.entry(entry.id).or_insert_with(fresh);
        if chat.from != entry.from {
            *chat = fresh();
        }
    }

    /// Returns the correct answer to a `history_request`, with each message unchanged.
    pub fn answer(&self, request: &HistoryRequest) -> Page {
        let Some(chat) = self.chats.get(&request.chat) else { return Page::default() };
        let mut below = chat.messages.range(..request.before).rev().map(|(_, message)| message.clone());
        let mut messages: Vec<Message> = below.by_ref().take(request.limit).collect();
        messages.reverse();
        Page { messages, more: below.next().is_some() }
    }

    /// Returns the pages a sub still needs: chat and `before`.
    pub fn questions(&self) -> Vec<(ChatId, Seq)> {
        self.chats.iter().filter_map(|(id, chat)| Some((*id, chat.boot?))).collect()
    }
}
