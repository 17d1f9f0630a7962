//! A sub fetches its history from the main: the request goes to the main's session on any edge, and the checked answer comes
//! back page by page. This module checks; the sessions hold the open requests.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Core, connect,
    signal::{self, Signal},
};
use crate::{
    domain::{
        Seq,
        id::{ChatId, DeviceId, UserId},
    },
    hub::{HistoryAnswer, HistoryAsk},
    protocol::{ErrorCode, Problem, compact, parse_object},
    store::MAX_SIGNAL,
};

/// Upper bound of a signal without its page.
const FRAME: usize = 1 << 10;

/// The request of a sub.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Of this chat.
    pub chat: ChatId,
    /// Messages below this …
    pub before: Seq,
    /// … at most this many …
    pub limit: u64,
    /// … and above this.
    pub floor: Seq,
}

/// Asks the main. The answer comes as a command to the asking session, which knows it by `request` and keeps the
/// deadline.
///
/// # Errors
/// `main_offline`, `unavailable`.
pub async fn ask(
    core: &Core,
    user: &UserId,
    device: DeviceId,
    request: &str,
    page: Page,
) -> Result<(), Problem> {
    let Page { chat, before, limit, floor } = page;
    match connect::main_of(core, user).await? {
        Some(main) if main.online => {
            let ask = HistoryAsk {
                to: main.device,
                device,
                request: request.to_owned(),
                chat,
                before,
                limit,
                floor,
            };
            // Otherwise the sub would wait for an answer that can't come.
            Ok(signal::send(core, user, &Signal::HistoryAsk(ask)).await?)
        }
        other => Err(offline(other.map(|main| main.last_seen))),
    }
}

/// Returns the refusal when the main isn't connected.
#[must_use]
pub fn offline(last_seen: Option<u64>) -> Problem {
    let detail = "the phone is offline: open it, then try again";
    Problem { last_seen, ..Problem::new(ErrorCode::MainOffline, detail) }
}

/// Sends the main's answer (or the error) to the asking session.
pub async fn answer(core: &Core, user: &UserId, ask: &HistoryAsk, result: Result<String, ErrorCode>) {
    let answer = HistoryAnswer { to: ask.device, request: ask.request.clone(), result };
    signal::publish(core, user, &Signal::HistoryAnswer(answer)).await;
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    chat: ChatId,
    seq: Seq,
}

/// Checks a page against its request: only message frames of that chat, ascending, below `before`, within the requested count
/// and the size of a page. Items are relayed unchanged, in JSON's shortest form, except those below the sub's `floor`: the
/// main may send them, and they are removed here.
///
/// # Errors
/// `bad_field`, `bad_range` or `too_large`, for the main; the sub gets `bad_main`.
pub fn check(
    ask: &HistoryAsk,
    messages: &[Box<RawValue>],
    more: bool,
    most_bytes: usize,
) -> Result<String, Problem> {
    let range = |detail: String| Err(Problem::new(ErrorCode::BadRange, detail));
    if messages.len() as u64 > ask.limit {
        return range(format!("{} messages, but {} were asked for", messages.len(), ask.limit));
    }
    // Independent of the main's encoder.
    let messages: Vec<String> = messages.iter().map(|item| compact(item.get())).collect();
    let bytes: usize = messages.iter().map(String::len).sum();
    // A single message may be larger than a page; then it comes alone.
    if bytes > most_bytes && messages.len() > 1 {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!("a page has at most {most_bytes} bytes of messages"),
        ));
    }
    let (mut last, mut items, mut more) = (0, Vec::with_capacity(messages.len()), more);
    if more && messages.is_empty() {
        return range("an empty page can't have more behind it".to_owned());
    }
    for raw in &messages {
        let item: Item<'_> = parse_object(raw.as_bytes()).map_err(|problem| {
            Problem::new(ErrorCode::BadField, format!("an item isn't a message frame: {}", problem.detail))
        })?;
        if item.kind != "message" || item.chat != ask.chat {
            return Err(Problem::new(
                ErrorCode::BadField,
                "an item isn't a message of the chat that was asked for",
            ));
        }
        if item.seq <= last || item.seq >= ask.before {
            return range(format!("seq {} is out of order, or not below {}", item.seq, ask.before));
        }
        last = item.seq;
        if item.seq > ask.floor {
            items.push(raw.as_str());
        }
        // Older messages aren't for this sub.
        more &= item.seq > ask.floor + 1;
    }
    let page = format!("{{\"messages\":[{}],\"more\":{more}}}", items.join(","));
    // A message of the server always fits; one to which the main has added much may not.
    if !fits(&page) {
        let most = MAX_SIGNAL - FRAME;
        let detail =
            format!("a page has at most {most} bytes, each quotation mark and backslash counted twice");
        return Err(Problem::new(ErrorCode::TooLarge, detail));
    }
    Ok(page)
}

/// Returns whether a page fits into a signal to the asking session: as a JSON string, in which quotation marks and backslashes
/// are escaped once more.
fn fits(page: &str) -> bool {
    let escaped = page.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    page.len() + escaped <= MAX_SIGNAL - FRAME
}
