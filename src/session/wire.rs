//! The transport of a session's frames: a TCP connection, or a pipe in memory. It counts what has passed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};

use super::heads::Heads;

/// Weight of a frame besides its bytes: taking one, however small, costs as much as copying so many.
const FRAME: u64 = 512;

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    // Input that may come in this turn.
    turn: u64,
    read: u64,
    heads: Heads,
    written: u64,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Pipe(DuplexStream),
}

impl Wire {
    /// Allows `weight` of input until the next call: a thousand empty fragments take a while, and others wait.
    pub fn turn(&mut self, weight: u64) {
        self.turn = weight;
    }

    /// These bytes came, but not through this.
    pub fn came(&mut self, bytes: &[u8]) {
        self.read += bytes.len() as u64;
        self.heads.take(bytes);
    }

    /// How much came so far: the bytes, and what each frame weighs besides.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.read + self.heads.count() * FRAME
    }

    /// How many bytes the other end's side has taken so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }
}

impl From<TcpStream> for Wire {
    /// A client's connection.
    fn from(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), turn: u64::MAX, read: 0, heads: Heads::default(), written: 0 }
    }
}

impl From<DuplexStream> for Wire {
    /// A pipe to a client in this process.
    fn from(stream: DuplexStream) -> Self {
        Self { stream: Stream::Pipe(stream), turn: u64::MAX, read: 0, heads: Heads::default(), written: 0 }
    }
}

macro_rules! each {
    ($self:ident, $wire:ident => $work:expr) => {
        match &mut $self.stream {
            Stream::Tcp($wire) => $work,
            Stream::Pipe($wire) => $work,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (filled, weight) = (buf.filled().len(), this.weight());
        let read = each!(this, wire => Pin::new(wire).poll_read(cx, buf));
        this.came(buf.filled().get(filled..).unwrap_or_default());
        this.turn = this.turn.saturating_sub(this.weight() - weight);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = each!(this, wire => Pin::new(wire).poll_write(cx, buf));
        if let Poll::Ready(Ok(count)) = wrote {
            this.written += count as u64;
        }
        wrote
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        each!(this, wire => Pin::new(wire).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        each!(this, wire => Pin::new(wire).poll_shutdown(cx))
    }
}
