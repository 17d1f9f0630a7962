//! A message is serialised once: the same bytes are the log entry, the NSQ body and the socket frame. Only this module
//! knows where in those bytes the chat, the seq and the time are. The delivery path reads them by offset and parses no
//! JSON.

use bytes::Bytes;

use super::{Millis, Seq, id::ChatId};

const HEAD: &str = "{\"type\":\"message\",\"chat\":\"";
const BEFORE_SEQ: &str = "\",\"seq\":";
const CHAT_AT: usize = HEAD.len();
const SEQ_AT: usize = CHAT_AT + 36 + BEFORE_SEQ.len();

/// A message frame without its seq, which only the store can assign: `before` + seq + `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameTemplate {
    /// The frame up to the seq.
    pub before: String,
    /// The frame from the comma behind the seq to the end.
    pub after: String,
}

impl FrameTemplate {
    /// Returns a template. `fields`: the JSON members behind `seq`, without braces, for example
    /// `"key":"…","from":"alice"`.
    #[must_use]
    pub fn new(chat: ChatId, fields: &str) -> Self {
        Self { before: format!("{HEAD}{chat}{BEFORE_SEQ}"), after: format!(",{fields}}}") }
    }

    /// Returns the frame's size in bytes, without the seq's digits.
    #[must_use]
    pub fn size(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Returns the whole frame.
    #[must_use]
    pub fn number(&self, seq: Seq) -> Bytes {
        Bytes::from(format!("{}{seq}{}", self.before, self.after))
    }
}

/// Returns a message body: the frame, followed by a line feed and the chat's membership epoch when the message was
/// appended. An epoch of 0 (no member has left the chat yet) adds nothing: the body is then its frame.
#[must_use]
pub fn body_with_epoch(frame: Bytes, epoch: u64) -> Bytes {
    if epoch == 0 {
        return frame;
    }
    let mut body = Vec::with_capacity(frame.len() + 21);
    body.extend_from_slice(&frame);
    body.extend_from_slice(format!("\n{epoch}").as_bytes());
    Bytes::from(body)
}

/// Splits a message body into the frame, which the client receives, and the membership epoch (0 if it has none). A
/// frame contains no line feed, so anything that isn't `\n` and digits at the end belongs to the frame.
#[must_use]
pub fn split_epoch(body: Bytes) -> (Bytes, u64) {
    // A u64 has at most 20 digits.
    let tail = body.len().saturating_sub(21);
    let Some(at) = body[tail..].iter().rposition(|byte| *byte == b'\n') else { return (body, 0) };
    let digits = std::str::from_utf8(&body[tail + at + 1..]).ok();
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(epoch) => (body.slice(..tail + at), epoch),
        None => (body, 0),
    }
}

/// Returns the chat and seq of a message frame made by [`FrameTemplate`]. Returns none for any other bytes.
#[must_use]
pub fn chat_and_seq(frame: &[u8]) -> Option<(ChatId, Seq)> {
    if !frame.starts_with(HEAD.as_bytes()) || frame.get(CHAT_AT + 36..SEQ_AT)? != BEFORE_SEQ.as_bytes() {
        return None;
    }
    let chat = std::str::from_utf8(&frame[CHAT_AT..CHAT_AT + 36]).ok()?.parse().ok()?;
    let mut seq: Seq = 0;
    for (i, byte) in frame[SEQ_AT..].iter().enumerate() {
        match byte {
            b'0'..=b'9' => seq = seq.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b',' if i > 0 => return Some((chat, seq)),
            _ => return None,
        }
    }
    None
}

/// Returns when a frame made by [`FrameTemplate`] was accepted, by the accepting edge's wall clock. The time follows
/// `"key":"…","from":"…","device":…`, which contain nothing that JSON would escape. Returns none for any other bytes.
#[must_use]
pub fn accepted_at(frame: &[u8]) -> Option<Millis> {
    const UUID: usize = 36;
    const USER: usize = 64;
    let rest = frame.get(SEQ_AT..)?;
    let rest = rest.get(rest.iter().take(21).position(|byte| *byte == b',')?..)?;
    let rest = rest.strip_prefix(b",\"key\":\"")?.get(UUID..)?.strip_prefix(b"\",\"from\":\"")?;
    let rest = rest.get(rest.iter().take(USER + 1).position(|byte| *byte == b'"')?..)?;
    let rest = rest.strip_prefix(b"\",\"device\":")?;
    let rest = match rest.strip_prefix(b"null") {
        Some(rest) => rest,
        None => rest.strip_prefix(b"\"")?.get(UUID..)?.strip_prefix(b"\"")?,
    };
    let rest = rest.strip_prefix(b",\"at\":")?;
    let digits = rest.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
    if rest.get(digits) != Some(&b',') {
        return None;
    }
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "../../tests/unit/domain/message.rs"]
mod tests;
