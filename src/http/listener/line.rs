//! A client's HTTP connection. The client must read at a least rate, and the close lets it read the last response.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Least bytes a second that a client reads of a waiting response: the slowest mobile network.
const MIN_RATE: f64 = 4_096.0;
/// Time and bytes for which the rest of a request is read at the end. If it stayed unread, the system would send a reset, and
/// the client would lose the response.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    patience: Duration,
    unread: Unread,
    // Until when the client must have read more; none while nothing waits.
    due: Option<Instant>,
    // The client has closed its side.
    ended: bool,
    lingered: Option<usize>,
    // Made at its first use: most clients need none.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Whether a request was answered before its body was read. Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Sets the flag.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Line {
    /// Returns a connection. `patience`: time for the client to read anything.
    pub(super) fn new(stream: TcpStream, patience: Duration, unread: Unread) -> Self {
        Self { stream, patience, unread, due: None, ended: false, lingered: None, timer: None }
    }

    /// Returns the stream after an upgrade.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn wait(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// Checks the result of a write. Each byte that was read extends the time, up to `patience`.
    fn wrote(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        match wrote {
            Poll::Pending => {
                let due = *self.due.get_or_insert(now + self.patience);
                ready!(self.wait(cx, due));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client takes its answer too slowly",
                )))
            }
            Poll::Ready(Ok(count)) => {
                if let Some(due) = &mut self.due {
                    let bought = Duration::from_secs_f64(count as f64 / MIN_RATE);
                    *due = (*due + bought).min(now + self.patience);
                }
                wrote
            }
            Poll::Ready(Err(_)) => wrote,
        }
    }

    /// Reads and discards what comes, for a while.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = match self.lingered {
            Some(_) => self.due.unwrap_or_else(Instant::now),
            None => {
                self.lingered = Some(0);
                *self.due.insert(Instant::now() + LINGER)
            }
        };
        let mut space = [0; 4_096];
        while self.lingered.is_some_and(|bytes| bytes < LINGER_BYTES) {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return self.wait(cx, until),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered = self.lingered.map(|bytes| bytes + buffer.filled().len());
                }
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(Pin::new(&mut this.stream).poll_read(cx, buf));
        this.ended |= read.is_err() || (room > 0 && buf.filled().len() == before);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper flushes after the last write: the response is complete.
        this.due = None;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingered.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.ended && this.unread.0.load(Ordering::Relaxed) {
            ready!(this.linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/http/listener/line.rs"]
mod tests;
