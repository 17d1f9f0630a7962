//! The wire: what nsqd sends as frames, what we send as commands. Pure: bytes in, values out, no I/O.
//!
//! A frame is `[size: u32][type: u32][data: size - 4 bytes]`, big endian. A message's data is
//! `[timestamp: i64 ns][attempts: u16][id: 16 bytes][body]`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The first bytes of a connection, before any command.
pub(crate) const MAGIC: &[u8] = b"  V2";

/// The largest accepted frame, in bytes. nsqd's `--max-msg-size` is 1 MiB by default; a frame near this limit doesn't
/// come from nsqd.
pub(crate) const MAX_FRAME_BYTES: usize = 64 << 20;

/// Smaller bodies are copied out of the read buffer: a slice would pin the whole buffer for as long as the owner keeps
/// the message.
const COPY_BELOW_BYTES: usize = 32 << 10;

/// Up to this size the room for a split frame is reserved at once; beyond, it grows with what really arrives, so that a
/// forged length costs nothing.
const RESERVE_AT_ONCE_BYTES: usize = 2 << 20;

const MESSAGE_HEADER_BYTES: usize = 8 + 2 + 16;

/// An nsqd message id: 16 bytes, in practice hexadecimal digits.
pub(crate) type MessageId = [u8; 16];

/// One frame from nsqd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// `OK`: the oldest unanswered command succeeded.
    Ok,
    /// `_heartbeat_`: answer it with any command, `NOP` if there is none.
    Heartbeat,
    /// `CLOSE_WAIT`: the answer to `CLS`.
    CloseWait,
    /// Any other response; the one to `IDENTIFY` is JSON.
    Response(Bytes),
    /// An error in nsqd's words: a code, a space, details.
    Error(String),
    /// A message of the channel subscribed to.
    Message(RawMessage),
}

/// A message as read from the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawMessage {
    /// Nanoseconds since 1970 on nsqd's clock, when the message was published.
    pub(crate) timestamp: i64,
    pub(crate) attempts: u16,
    pub(crate) id: MessageId,
    pub(crate) body: Bytes,
}

/// Bytes that aren't a frame. The connection can't be used further: the frame borders are lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes isn't NSQ; check that the address is nsqd's TCP port")]
    Size(usize),
    #[error("frame type {0} isn't known to this client")]
    Type(u32),
    #[error("a message of {0} bytes is shorter than its header")]
    Message(usize),
}

/// Splits a stream of bytes into frames, however it is divided. Holds memory only while a frame is incomplete.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    partial: BytesMut,
}

impl Decoder {
    /// Returns the next whole frame of `input`, and advances `input` past the used bytes. Returns `None` when all of
    /// the input is used.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty() {
            if let Some(total) = frame_len(input)?
                && input.len() >= total
            {
                let (frame, rest) = input.split_at(total);
                *input = rest;
                return parse(&frame[4..], None).map(Some);
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        loop {
            let wanted = frame_len(&self.partial)?.unwrap_or(4);
            let missing = wanted - self.partial.len();
            if missing == 0 && wanted > 4 {
                break;
            }
            if input.is_empty() {
                return Ok(None);
            }
            if self.partial.capacity() < wanted && wanted <= RESERVE_AT_ONCE_BYTES {
                self.partial.reserve(missing);
            }
            let take = missing.min(input.len());
            self.partial.put_slice(&input[..take]);
            input.advance(take);
        }
        // Taking the buffer itself frees the memory as soon as the body's owner is done.
        let whole = std::mem::take(&mut self.partial).freeze();
        parse(&whole[4..], Some(&whole)).map(Some)
    }
}

/// Returns the whole length of the frame that `bytes` begins with, once its size field is there.
fn frame_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(size) = bytes.first_chunk::<4>() else { return Ok(None) };
    let size = u32::from_be_bytes(*size) as usize;
    if (4..=MAX_FRAME_BYTES).contains(&size) { Ok(Some(4 + size)) } else { Err(FrameError::Size(size)) }
}

/// Parses a frame from its type on. `whole` is given if the frame has its own buffer: a big body is then a slice of it
/// instead of a copy.
fn parse(mut bytes: &[u8], whole: Option<&Bytes>) -> Result<Frame, FrameError> {
    match bytes.get_u32() {
        0 => Ok(match bytes {
            b"OK" => Frame::Ok,
            b"_heartbeat_" => Frame::Heartbeat,
            b"CLOSE_WAIT" => Frame::CloseWait,
            other => Frame::Response(Bytes::copy_from_slice(other)),
        }),
        1 => Ok(Frame::Error(String::from_utf8_lossy(bytes).into_owned())),
        2 if bytes.len() < MESSAGE_HEADER_BYTES => Err(FrameError::Message(bytes.len())),
        2 => {
            let timestamp = bytes.get_i64();
            let attempts = bytes.get_u16();
            let mut id = MessageId::default();
            bytes.copy_to_slice(&mut id);
            let body = match whole {
                Some(whole) if bytes.len() >= COPY_BELOW_BYTES => whole.slice_ref(bytes),
                _ => Bytes::copy_from_slice(bytes),
            };
            Ok(Frame::Message(RawMessage { timestamp, attempts, id, body }))
        }
        other => Err(FrameError::Type(other)),
    }
}

/// Returns the code of an error's text: its first word, for example `E_FIN_FAILED`.
pub(crate) fn error_code(text: &str) -> &str {
    text.split_ascii_whitespace().next().unwrap_or("")
}

/// Returns whether nsqd keeps the connection after this error: nsqd answers a late FIN, REQ or TOUCH with such an
/// error, which means only that the message has timed out and is redelivered.
pub(crate) fn is_answerable(text: &str) -> bool {
    matches!(error_code(text), "E_FIN_FAILED" | "E_REQ_FAILED" | "E_TOUCH_FAILED")
}

/// Returns whether such an error answers a TOUCH.
pub(crate) fn is_of_touch(text: &str) -> bool {
    error_code(text) == "E_TOUCH_FAILED"
}

/// Returns whether `name` is a valid name of a topic or a channel: 1 to 64 characters of `.a-zA-Z0-9_-`, the last ten
/// of which may be `#ephemeral`.
///
/// ```
/// assert!(keepstep_nsq::valid_name("chat.42"));
/// assert!(keepstep_nsq::valid_name("watch#ephemeral"));
/// assert!(!keepstep_nsq::valid_name("no spaces"));
/// ```
pub fn valid_name(name: &str) -> bool {
    let base = name.strip_suffix("#ephemeral").unwrap_or(name);
    !base.is_empty()
        && name.len() <= 64
        && base.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    // nsqd reads lengths as i32; bodies above 64 MiB are refused before they get here.
    out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(body);
}

pub(crate) fn put_identify(out: &mut Vec<u8>, json: &[u8]) {
    out.put_slice(b"IDENTIFY\n");
    put_body(out, json);
}

pub(crate) fn put_auth(out: &mut Vec<u8>, secret: &[u8]) {
    out.put_slice(b"AUTH\n");
    put_body(out, secret);
}

pub(crate) fn put_sub(out: &mut Vec<u8>, topic: &str, channel: &str) {
    for part in ["SUB ", topic, " ", channel, "\n"] {
        out.put_slice(part.as_bytes());
    }
}

pub(crate) fn put_pub(out: &mut Vec<u8>, topic: &str, body: &[u8]) {
    for part in ["PUB ", topic, "\n"] {
        out.put_slice(part.as_bytes());
    }
    put_body(out, body);
}

/// Writes the beginning of a message of this many bytes, without the message.
pub(crate) fn put_pub_of(out: &mut Vec<u8>, topic: &str, bytes: usize) {
    for part in ["PUB ", topic, "\n"] {
        out.put_slice(part.as_bytes());
    }
    out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
}

pub(crate) fn put_mpub(out: &mut Vec<u8>, topic: &str, bodies: &[Bytes]) {
    for part in ["MPUB ", topic, "\n"] {
        out.put_slice(part.as_bytes());
    }
    let size = 4 + bodies.iter().map(|b| 4 + b.len()).sum::<usize>();
    out.put_u32(u32::try_from(size).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(bodies.len()).unwrap_or(u32::MAX));
    for body in bodies {
        put_body(out, body);
    }
}

pub(crate) fn put_rdy(out: &mut Vec<u8>, count: u32) {
    out.put_slice(b"RDY ");
    put_decimal(out, count);
    out.put_u8(b'\n');
}

pub(crate) fn put_fin(out: &mut Vec<u8>, id: &MessageId) {
    out.put_slice(b"FIN ");
    out.put_slice(id);
    out.put_u8(b'\n');
}

pub(crate) fn put_req(out: &mut Vec<u8>, id: &MessageId, delay_ms: u32) {
    out.put_slice(b"REQ ");
    out.put_slice(id);
    out.put_u8(b' ');
    put_decimal(out, delay_ms);
    out.put_u8(b'\n');
}

pub(crate) fn put_touch(out: &mut Vec<u8>, id: &MessageId) {
    out.put_slice(b"TOUCH ");
    out.put_slice(id);
    out.put_u8(b'\n');
}

pub(crate) fn put_cls(out: &mut Vec<u8>) {
    out.put_slice(b"CLS\n");
}

pub(crate) fn put_nop(out: &mut Vec<u8>) {
    out.put_slice(b"NOP\n");
}

/// Writes digits without an allocation: RDY is sent once per message.
fn put_decimal(out: &mut Vec<u8>, number: u32) {
    let mut digits = [0_u8; 10];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
#[path = "../tests/unit/frame.rs"]
mod tests;
