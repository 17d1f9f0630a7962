//! One TCP (or TLS) connection to nsqd: opened and identified under one deadline, then driven by polling, so that
//! reading never waits for writing (nsqd may stop reading while it writes, and the reverse).

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frame::{self, Decoder, Frame, FrameError};
use crate::identify::{ConnectOptions, Identified, Wishes, identify_json};

/// Bytes per read. One such buffer per thread serves all connections, so an idle connection owns no buffer.
const READ_BYTES: usize = 64 << 10;

/// An output buffer that grew beyond this is freed once it is written.
const KEEP_OUT_BYTES: usize = 4 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// Why a connection failed to open, or was lost.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("nsqd's TCP address isn't known yet; it is asked for at its HTTP address")]
    NoAddress,
    #[error("can't connect to nsqd at {addr}: {error}; check that it runs and is reachable")]
    Connect { addr: String, error: String },
    #[error("nsqd at {addr} didn't finish the handshake within {timeout:?}; it may be frozen or overloaded")]
    Timeout { addr: String, timeout: Duration },
    #[error("nsqd offers no TLS; start it with --tls-cert and --tls-key, or leave TLS out of the options")]
    NoTls,
    #[error("nsqd requires a secret; set auth_secret")]
    NoSecret,
    #[error("TLS to nsqd failed: {0}; check the certificate's names and the trusted roots")]
    Tls(String),
    #[error("nsqd refused: {0}")]
    Refused(String),
    #[error("nsqd gave out a message twice and counts it as in flight for ever; connecting anew")]
    Miscounted,
    #[error("nsqd closed the connection")]
    Closed,
    #[error("the connection to nsqd broke: {0}")]
    Broken(String),
    #[error("nsqd was silent for {0:?}, more than two heartbeats; it may be frozen or cut off")]
    Silent(Duration),
    #[error("not NSQ: {0}")]
    Frame(#[from] FrameError),
    #[error("unexpected answer from nsqd: {0}; check that the address is an nsqd's TCP port")]
    Unexpected(String),
}

impl From<std::io::Error> for ConnectionError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            // TcpStream has nothing to flush.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// An identified connection.
pub(crate) struct Connection {
    stream: Stream,
    decoder: Decoder,
    /// Commands to be written; `out[..out_at]` is written already.
    pub(crate) out: Vec<u8>,
    out_at: usize,
    /// Bytes that the socket accepted since the connection was opened.
    written: u64,
}

impl Connection {
    /// Connects, identifies, upgrades to TLS and authenticates, all within `options.connect_timeout`.
    pub(crate) async fn open(
        addr: &str,
        options: &ConnectOptions,
        wishes: Wishes,
    ) -> Result<(Self, Identified), ConnectionError> {
        let timeout = options.connect_timeout;
        tokio::time::timeout(timeout, Self::handshake(addr, options, wishes))
            .await
            .unwrap_or_else(|_| Err(ConnectionError::Timeout { addr: addr.to_owned(), timeout }))
    }

    async fn handshake(
        addr: &str,
        options: &ConnectOptions,
        wishes: Wishes,
    ) -> Result<(Self, Identified), ConnectionError> {
        let unreachable = |error: std::io::Error| ConnectionError::Connect {
            addr: addr.to_owned(),
            error: error.to_string(),
        };
        let stream = TcpStream::connect(addr).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut connection = Self {
            stream: Stream::Plain(stream),
            decoder: Decoder::default(),
            out: frame::MAGIC.to_vec(),
            out_at: 0,
            written: 0,
        };
        let json = identify_json(options, wishes).map_err(|e| ConnectionError::Unexpected(e.to_string()))?;
        frame::put_identify(&mut connection.out, &json);
        let answer = connection.answer().await?;
        let identified: Identified = serde_json::from_slice(&answer)
            .map_err(|_| ConnectionError::Unexpected(String::from_utf8_lossy(&answer).into_owned()))?;
        if let Some(tls) = &options.tls {
            if !identified.tls_v1 {
                return Err(ConnectionError::NoTls);
            }
            connection = connection.upgrade(addr, tls).await?;
        }
        match &options.auth_secret {
            Some(secret) if identified.auth_required => {
                frame::put_auth(&mut connection.out, secret.as_bytes());
                connection.answer().await?;
            }
            None if identified.auth_required => return Err(ConnectionError::NoSecret),
            _ => {}
        }
        Ok((connection, identified))
    }

    async fn upgrade(self, addr: &str, tls: &Arc<rustls::ClientConfig>) -> Result<Self, ConnectionError> {
        let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| ConnectionError::Tls(e.to_string()))?;
        let Stream::Plain(stream) = self.stream else {
            return Err(ConnectionError::Tls("already in use".to_owned()));
        };
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .map_err(|e| ConnectionError::Tls(e.to_string()))?;
        let mut connection = Self { stream: Stream::Tls(Box::new(stream)), ..self };
        connection.expect_ok().await?;
        Ok(connection)
    }

    /// Writes pending output and takes the next frame. Only for handshakes, where one answer comes at a time.
    async fn next(&mut self) -> Result<Frame, ConnectionError> {
        let mut got = None;
        loop {
            std::future::poll_fn(|cx| {
                let _ = self.poll_write_out(cx)?;
                self.poll_frames(cx, |frame| {
                    if frame != Frame::Heartbeat {
                        got = Some(frame);
                    }
                })
            })
            .await?;
            if let Some(frame) = got.take() {
                return Ok(frame);
            }
        }
    }

    async fn answer(&mut self) -> Result<bytes::Bytes, ConnectionError> {
        match self.next().await? {
            Frame::Response(bytes) => Ok(bytes),
            Frame::Error(text) => Err(ConnectionError::Refused(text)),
            other => Err(ConnectionError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Waits for `OK`, after writing what is in `out`.
    pub(crate) async fn expect_ok(&mut self) -> Result<(), ConnectionError> {
        match self.next().await? {
            Frame::Ok => Ok(()),
            Frame::Error(text) => Err(ConnectionError::Refused(text)),
            other => Err(ConnectionError::Unexpected(format!("{other:?}"))),
        }
    }

    /// Returns where in the stream of all written bytes the next command begins.
    pub(crate) fn position(&self) -> u64 {
        self.written + (self.out.len() - self.out_at) as u64
    }

    /// Returns how many bytes the socket accepted. nsqd can't have all of a command that ends beyond.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes `out` to the socket. `Ready(true)`: something was written and nothing is left.
    pub(crate) fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ConnectionError>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(false));
        }
        while self.out_at < self.out.len() {
            let n = ready!(self.stream.poll_write(cx, &self.out[self.out_at..]))?;
            if n == 0 {
                return Poll::Ready(Err(ConnectionError::Closed));
            }
            self.out_at += n;
            self.written += n as u64;
        }
        ready!(self.stream.poll_flush(cx))?;
        self.out_at = 0;
        self.out.clear();
        if self.out.capacity() > KEEP_OUT_BYTES {
            self.out = Vec::new();
        }
        Poll::Ready(Ok(true))
    }

    /// Writes all of `out` to the socket.
    pub(crate) async fn flush(&mut self) -> Result<(), ConnectionError> {
        std::future::poll_fn(|cx| self.poll_write_out(cx)).await.map(drop)
    }

    /// Reads once and passes each whole frame to `sink`. Ready when bytes came, even if they complete no frame.
    pub(crate) fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Frame),
    ) -> Poll<Result<(), ConnectionError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(self.stream.poll_read(cx, &mut buf))?;
            let mut bytes = buf.filled();
            if bytes.is_empty() {
                return Poll::Ready(Err(ConnectionError::Closed));
            }
            while let Some(frame) = self.decoder.next(&mut bytes)? {
                sink(frame);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Signals nsqd that nothing more follows. Best effort: the socket closes anyway when the connection is dropped.
    pub(crate) async fn shutdown(&mut self) {
        let _ = std::future::poll_fn(|cx| self.stream.poll_shutdown(cx)).await;
    }
}
