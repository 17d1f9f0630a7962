//! The frames that come, as far as a simulated client reads them.

use keepstep::domain::id::ChatId;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::history::Entry;

#[derive(Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: Option<u64>,
    pub(super) chat: Option<ChatId>,
    pub(super) seq: Option<u64>,
    pub(super) key: Option<String>,
    pub(super) from: Option<Value>,
    pub(super) to: Option<u64>,
    pub(super) session: Option<u64>,
    pub(super) event: Option<String>,
    pub(super) request: Option<String>,
    pub(super) before: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) entry: Option<WireEntry>,
    pub(super) chats: Option<Vec<WireEntry>>,
    #[serde(borrow)]
    pub(super) ok: Option<&'a RawValue>,
    pub(super) error: Option<Refusal>,
}

#[derive(Deserialize)]
pub(super) struct WireEntry {
    pub(super) id: ChatId,
    pub(super) head: u64,
    pub(super) read: u64,
    pub(super) cursor: u64,
    pub(super) from: u64,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    pub(super) code: String,
}

#[derive(Deserialize)]
pub(super) struct Done {
    pub(super) seq: u64,
}

#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(borrow)]
    pub(super) messages: Vec<&'a RawValue>,
    pub(super) more: bool,
}

#[derive(Deserialize)]
pub(super) struct Item {
    pub(super) seq: u64,
    pub(super) key: String,
}

impl WireEntry {
    pub(super) fn entry(&self) -> Entry {
        Entry { head: self.head, read: self.read, cursor: self.cursor, from: self.from }
    }
}

pub(super) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
