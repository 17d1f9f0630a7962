//! The socket of one session: reads and writes in one task, with a bounded queue of outgoing frames. Not splitting the
//! stream saves a lock and a task per device.

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode as Code},
    },
};

use super::wire::Wire;
use crate::protocol::CloseCode;

/// Bytes that may wait for the socket before the session stops reading its queues and its client.
const HIGH_WATERMARK: usize = 1 << 20;
/// The largest head of a frame.
const HEAD: usize = 10;
/// Input that is read of one client per turn, as [`Wire::weight`] counts.
const TURN: u64 = 4 << 10;
/// Input accepted beyond the largest message, as [`Wire::weight`] counts.
const NOISE: u64 = 64 << 10;
/// Bytes a second that a client must take while any wait for it.
const LEAST: f64 = 256.0;
/// Time for a client to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Input from the client.
#[derive(Debug)]
pub enum Inbound {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which this protocol doesn't have.
    Binary,
    /// A ping or a pong.
    Alive,
    /// More input than any message has, with no message in it: empty fragments, for example. As [`Wire::weight`] counts.
    Noise(u64),
    /// No input, but the socket is no longer backpressured.
    BackpressureCleared,
    /// The beginning of a message that is too large; the rest isn't read.
    TooLarge,
    /// The connection is over: closed by the client, lost, or the client violated the WebSocket protocol.
    Over(Option<Code>),
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: WebSocketStream<Wire>,
    out: VecDeque<Message>,
    out_bytes: usize,
    unflushed: bool,
    // Bytes given to the library, with its own pongs. Bytes that the wire hasn't taken wait in its buffer.
    given: u64,
    // Since when bytes wait, and how much the wire had taken by then.
    waits: Option<(Instant, u64)>,
    // The input allowed until the next message; and the input at the last one.
    most_weight: u64,
    framed: u64,
    // Input that arrived before anybody took it.
    early: Option<Inbound>,
}

/// Whether the client's frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// They are.
    Open,
    /// What comes waits in the socket.
    Paused,
}

impl Connection {
    /// Takes over an upgraded connection; `read` is what followed the request. A frame over `most_bytes` ends it. The read
    /// buffer is small, because most devices are idle.
    pub async fn new(mut wire: Wire, read: Bytes, most_bytes: usize) -> Self {
        wire.came(&read);
        let config = WebSocketConfig::default()
            .read_buffer_size(1 << 10)
            .write_buffer_size(16 << 10)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(most_bytes))
            .max_frame_size(Some(most_bytes));
        let stream =
            WebSocketStream::from_partially_read(wire, read.to_vec(), Role::Server, Some(config)).await;
        Self {
            stream,
            out: VecDeque::new(),
            out_bytes: 0,
            unflushed: false,
            given: 0,
            waits: None,
            most_weight: most_bytes as u64 + NOISE,
            framed: 0,
            early: None,
        }
    }

    /// Returns whether the client has hung up, without waiting. Other input is kept.
    pub async fn is_over(&mut self) -> bool {
        if self.early.is_none() {
            self.early = poll_fn(|cx| match self.next(cx) {
                Poll::Ready(inbound) => Poll::Ready(Some(inbound)),
                Poll::Pending => Poll::Ready(None),
            })
            .await;
        }
        matches!(self.early, Some(Inbound::Over(_)))
    }

    /// Queues a frame for the next [`Connection::drive`].
    pub fn send(&mut self, text: Utf8Bytes) {
        self.out_bytes += text.len();
        self.out.push_back(Message::Text(text));
    }

    /// Queues a ping.
    pub fn ping(&mut self) {
        self.out.push_back(Message::Ping(Bytes::new()));
    }

    /// Returns whether so much waits that neither the queues nor the client should be read.
    #[must_use]
    pub fn backpressured(&self) -> bool {
        let buffered = self.given.saturating_sub(self.written());
        self.out_bytes as u64 + buffered > HIGH_WATERMARK as u64
    }

    /// Returns since when the client hasn't taken everything, as of the last check.
    #[must_use]
    pub fn waits_since(&self) -> Option<Instant> {
        self.waits.map(|(since, _)| since)
    }

    /// Returns whether the client took too little for `patience`. If not, a new period begins.
    pub fn is_stuck(&mut self, now: Instant, patience: Duration) -> bool {
        let Some((since, then)) = self.waits.filter(|(since, _)| now >= *since + patience) else {
            return false;
        };
        let took = self.written() - then;
        self.waits = Some((now, self.written()));
        (took as f64) < LEAST * now.duration_since(since).as_secs_f64()
    }

    /// See [`Wire::weight`].
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.stream.get_ref().weight()
    }

    fn written(&self) -> u64 {
        self.stream.get_ref().written()
    }

    /// Writes pending frames, and returns the next input if reading is open. Cancel-safe.
    pub async fn drive(&mut self, reading: Reading) -> Inbound {
        let read = reading == Reading::Open;
        poll_fn(|cx| {
            let backpressured = self.backpressured();
            if let Err(error) = self.write(cx) {
                return Poll::Ready(over(&error));
            }
            if backpressured && !self.backpressured() {
                return Poll::Ready(Inbound::BackpressureCleared);
            }
            match self.early.take_if(|_| read) {
                Some(inbound) => Poll::Ready(inbound),
                None if read => self.next(cx),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        self.stream.get_mut().turn(TURN);
        let came = self.stream.poll_next_unpin(cx);
        let weight = self.weight();
        let noise = weight - self.framed;
        if came.is_ready() || noise > self.most_weight {
            self.framed = weight;
        }
        match came {
            Poll::Pending if noise > self.most_weight => Poll::Ready(Inbound::Noise(noise)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Inbound::Over(None)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(over(&error)),
            Poll::Ready(Some(Ok(message))) => Poll::Ready(match message {
                Message::Text(text) => Inbound::Text(text),
                Message::Binary(_) => Inbound::Binary,
                // The library has queued its pong; the next write flushes it.
                Message::Ping(what) => {
                    self.given += (what.len() + HEAD) as u64;
                    self.unflushed = true;
                    Inbound::Alive
                }
                Message::Pong(_) | Message::Frame(_) => Inbound::Alive,
                Message::Close(_) => Inbound::Over(None),
            }),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        while let Some(message) = self.out.front() {
            let size = message.len();
            match self.stream.poll_ready_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            if let Some(message) = self.out.pop_front() {
                self.stream.start_send_unpin(message)?;
                self.out_bytes = self.out_bytes.saturating_sub(size);
                self.given += (size + HEAD) as u64;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            match self.stream.poll_flush_unpin(cx) {
                Poll::Pending => {
                    let written = self.written();
                    self.waits.get_or_insert_with(|| (Instant::now(), written));
                }
                Poll::Ready(flushed) => {
                    flushed?;
                    (self.unflushed, self.waits) = (false, None);
                    // The library answers only the last of several pings.
                    self.given = self.written();
                }
            }
        }
        Ok(())
    }

    /// Closes the connection: pending frames go out first (not to a stuck client, nor from a session that may have lost its
    /// device), then the close frame; then the client has a moment to answer.
    pub async fn close(mut self, code: CloseCode, reason: &str) {
        if matches!(code, CloseCode::SlowConsumer | CloseCode::BackendUnavailable) {
            self.out.clear();
        }
        self.close_with(Code::from(code.number()), reason).await;
    }

    /// Closes it with one of WebSocket's own codes.
    pub async fn close_protocol(mut self, code: Code) {
        self.close_with(code, "").await;
    }

    /// The client has closed it: flushes the library's answer to the close frame, so that an orderly close doesn't look like a
    /// lost connection.
    pub async fn goodbye(mut self) {
        self.flush_answer().await;
    }

    async fn flush_answer(&mut self) {
        // An error ends it, too.
        let flushed = poll_fn(|cx| self.stream.poll_flush_unpin(cx));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, flushed).await;
    }

    async fn close_with(&mut self, code: Code, reason: &str) {
        // The reason of a close frame has at most 123 bytes.
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame { code, reason: Utf8Bytes::from(&reason[..end]) };
        self.out.push_back(Message::Close(Some(frame)));
        let goodbye = async {
            loop {
                if let Inbound::Over(_) = self.drive(Reading::Open).await {
                    return;
                }
            }
        };
        // No answer in time counts as closed. A client that closed at the same moment expects an answer.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
        self.flush_answer().await;
    }
}

fn over(error: &tungstenite::Error) -> Inbound {
    match error {
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. }) => Inbound::TooLarge,
        tungstenite::Error::Utf8(_) => Inbound::Over(Some(Code::Invalid)),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Inbound::Over(None)
        }
        tungstenite::Error::Protocol(_) => Inbound::Over(Some(Code::Protocol)),
        _ => Inbound::Over(None),
    }
}
