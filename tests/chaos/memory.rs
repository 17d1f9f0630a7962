//! The stored state of a device of the campaign, which survives connections.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::history::{Entry, Seen, Seq};
use crate::record::hash;

/// A chat on the device.
#[derive(Debug, Default)]
pub struct Chat {
    /// Its `from`.
    pub from: Seq,
    /// The last seq on this socket.
    pub last: Seq,
    /// The highest acknowledgement sent on this socket.
    pub acking: Seq,
    /// The read offset, as far as known.
    pub read: Seq,
    /// Every frame, unchanged.
    pub frames: BTreeMap<Seq, String>,
    /// For a sub: where the next page of history ends; none if it has all of it.
    pub boot: Option<Seq>,
}

/// All chats of the device.
#[derive(Debug, Default)]
pub struct Memory {
    /// By id.
    pub chats: HashMap<String, Chat>,
}

/// Returns the numbers of an entry.
pub fn entry(value: &Value) -> Option<(String, Entry)> {
    let number = |name: &str| value[name].as_u64();
    let entry = Entry {
        head: number("head")?,
        read: number("read")?,
        cursor: number("cursor")?,
        from: number("from")?,
    };
    Some((value["id"].as_str()?.to_owned(), entry))
}

/// Returns the history's record of a message frame.
#[derive(Deserialize)]
struct Short {
    seq: Seq,
    key: String,
}

/// Returns a message frame as the history's record.
pub fn seen(frame: &str) -> Option<Seen> {
    let Short { seq, key } = serde_json::from_str(frame).ok()?;
    Some(Seen { seq, key, frame: hash(frame) })
}

/// Returns the messages of a page, and whether there are older ones.
pub fn page(reply: &str) -> Option<(Vec<Seen>, bool)> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        #[serde(borrow)]
        ok: Page<'a>,
    }
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
        more: bool,
    }
    let Reply { ok } = serde_json::from_str(reply).ok()?;
    let messages = ok.messages.iter().map(|raw| seen(raw.get())).collect::<Option<Vec<_>>>()?;
    Some((messages, ok.more))
}

impl Memory {
    /// Begins a socket, or a chat on it.
    pub fn attach(&mut self, chat: &str, entry: &Entry, is_sub: bool) {
        // A new membership begins anew.
        let fresh = || Chat { from: entry.from, boot: is_sub.then_some(entry.from + 1), ..Chat::default() };
        let chat = self.chats.entry(chat.to_owned()).or_insert_with(fresh);
        if chat.from != entry.from {
            *chat = fresh();
        }
        (chat.last, chat.acking) = (entry.cursor, entry.cursor);
        chat.read = chat.read.max(entry.read);
    }

    /// Returns the highest contiguous seq of each chat.
    pub fn progress(&self) -> HashMap<String, (Seq, Seq)> {
        self.chats.iter().map(|(id, chat)| (id.clone(), (chat.last, chat.read))).collect()
    }

    /// Returns the correct answer to a `history_request`, with each message unchanged.
    pub fn answer(&self, request: &Value) -> String {
        let before = request["before"].as_u64().unwrap_or_default();
        let limit =
            request["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default();
        let chat = self.chats.get(request["chat"].as_str().unwrap_or_default());
        let below: Vec<&str> = chat
            .map(|chat| chat.frames.range(..before).map(|(_, frame)| frame.as_str()).collect())
            .unwrap_or_default();
        let page = &below[below.len().saturating_sub(limit)..];
        let (request, more) = (&request["request"], below.len() > page.len());
        format!(
            r#"{{"type":"history_page","request":{request},"messages":[{}],"more":{more}}}"#,
            page.join(",")
        )
    }

    /// Returns acknowledgements of received messages: chat and seq. Nothing is acknowledged twice on a socket.
    pub fn acks(&mut self) -> Vec<(String, Seq)> {
        let behind = self.chats.iter_mut().filter(|(_, chat)| chat.last > chat.acking);
        behind
            .map(|(id, chat)| {
                chat.acking = chat.last;
                (id.clone(), chat.last)
            })
            .collect()
    }

    /// Returns a sub's remaining requests: chat and `before`.
    pub fn questions(&self) -> Vec<(String, Seq)> {
        self.chats.iter().filter_map(|(id, chat)| Some((id.clone(), chat.boot?))).collect()
    }
}

/// Returns a client's frame.
pub fn frame(kind: &str, id: u64, chat: &str, seq: Seq) -> Value {
    json!({ "type": kind, "id": id, "chat": chat, "seq": seq })
}
