//! The socket below a [`crate::Client`]: text frames in and out, over any stream.
//!
//! It is public for those who need the wire itself: a simulation gives a pipe, a benchmark reads frames as bytes, a test
//! says what no client should.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, SinkExt, Stream, future::poll_fn};
use tokio::io::{AsyncRead, AsyncWrite};
pub use tokio_tungstenite::tungstenite::{Message as WireMessage, Utf8Bytes, protocol::WebSocketConfig};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
        protocol::Role,
    },
};

use crate::close::{Close, CloseClass, Ended};

mod dial;

pub use dial::{BoxedStream, Connect, Credential, Dial, Duplex};

/// The socket isn't there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The server answered the upgrade with another HTTP status.
    #[error("the upgrade was answered {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// There is no connection, or no upgrade on it.
    #[error("{0}")]
    Unreachable(String),
    /// The address or the token can't be used.
    #[error("{0}")]
    Unusable(String),
}

impl ConnectError {
    /// What a client does about it: 429, 503 and the like are tried again, a 4xx isn't.
    #[must_use]
    pub fn class(&self) -> CloseClass {
        match self {
            Self::Status { status: 408 | 429 | 500.., .. } | Self::Unreachable(_) => CloseClass::Retry,
            Self::Status { status: 401, .. } => CloseClass::Refused,
            Self::Status { .. } | Self::Unusable(_) => CloseClass::Fault,
        }
    }
}

impl From<ConnectError> for Ended {
    fn from(error: ConnectError) -> Self {
        Self { class: error.class(), close: None, text: error.to_string() }
    }
}

/// What came on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which no server of this contract sends; its length in bytes.
    Binary(usize),
    /// A ping or a pong: a sign of life.
    Other,
    /// The server closed the connection.
    Closed(Close),
    /// The connection ended without a close frame.
    Lost(String),
}

/// A WebSocket of a device. Frames that are queued go out while it is read.
#[derive(Debug)]
pub struct Socket<S> {
    wire: WebSocketStream<S>,
    protocol: Option<String>,
    is_unflushed: bool,
}

/// The close code of a close frame without one.
const NO_CODE: u16 = 1005;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Upgrades a stream: `url` is `ws://host:port/v1/socket`, and each header is added as it is.
    ///
    /// # Errors
    /// When the server refuses, or what is asked for can't be written.
    pub async fn handshake(
        stream: S,
        url: &str,
        headers: &[(&str, &str)],
        config: Option<WebSocketConfig>,
    ) -> Result<Self, ConnectError> {
        let unusable = |error: &dyn std::fmt::Display| ConnectError::Unusable(format!("{url}: {error}"));
        let mut request = url.into_client_request().map_err(|error| unusable(&error))?;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).map_err(|error| unusable(&error))?;
            let value = HeaderValue::try_from(*value).map_err(|error| unusable(&error))?;
            request.headers_mut().append(name, value);
        }
        match client_async_with_config(request, stream, config).await {
            Ok((wire, answer)) => {
                let protocol = text_of(answer.headers(), &header::SEC_WEBSOCKET_PROTOCOL);
                Ok(Self { wire, protocol, is_unflushed: false })
            }
            Err(Error::Http(answer)) => {
                let retry_after = text_of(answer.headers(), &header::RETRY_AFTER);
                Err(ConnectError::Status {
                    status: StatusCode::as_u16(&answer.status()),
                    retry_after: retry_after.and_then(|text| text.parse().ok()),
                })
            }
            Err(error) => Err(ConnectError::Unreachable(error.to_string())),
        }
    }

    /// Takes a stream that is upgraded already, such as a pipe of a simulation.
    pub async fn upgraded(stream: S, config: Option<WebSocketConfig>) -> Self {
        let wire = WebSocketStream::from_raw_socket(stream, Role::Client, config).await;
        Self { wire, protocol: None, is_unflushed: false }
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Whether something that was queued hasn't gone out.
    #[must_use]
    pub fn is_unflushed(&self) -> bool {
        self.is_unflushed
    }

    /// Queues a text frame. It goes out with [`Socket::next`] or [`Socket::flush`]. A connection that is over takes
    /// nothing more; [`Socket::next`] tells how it ended.
    pub fn queue(&mut self, text: impl Into<Utf8Bytes>) {
        let message = WireMessage::Text(text.into());
        self.is_unflushed |= Pin::new(&mut self.wire).start_send(message).is_ok();
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn flush(&mut self) -> Result<(), Ended> {
        self.wire.flush().await.map_err(|error| Ended::lost(error.to_string()))?;
        self.is_unflushed = false;
        Ok(())
    }

    /// Queues a text frame and writes it.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Ended> {
        self.send_message(WireMessage::Text(text.into())).await
    }

    /// Writes a WebSocket message of any kind.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn send_message(&mut self, message: WireMessage) -> Result<(), Ended> {
        self.wire.send(message).await.map_err(|error| Ended::lost(error.to_string()))
    }

    /// Returns what comes next, and writes meanwhile. Nothing is lost when it is dropped and called again.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|context| self.poll(context)).await
    }

    /// The same, if something is there already: for those who take all that came at once.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        // A failed write is no end yet: a close frame may be there to be read.
        if self.is_unflushed && Pin::new(&mut self.wire).poll_flush(context).is_ready() {
            self.is_unflushed = false;
        }
        let came = std::task::ready!(Pin::new(&mut self.wire).poll_next(context));
        Poll::Ready(match came {
            Some(Ok(WireMessage::Text(text))) => Incoming::Text(text),
            Some(Ok(WireMessage::Close(Some(frame)))) => {
                // What the library owes the server: its own close frame.
                self.is_unflushed = true;
                Incoming::Closed(Close { code: frame.code.into(), reason: frame.reason.to_string() })
            }
            Some(Ok(WireMessage::Close(None))) => {
                Incoming::Closed(Close { code: NO_CODE, reason: String::new() })
            }
            Some(Ok(WireMessage::Binary(bytes))) => Incoming::Binary(bytes.len()),
            Some(Ok(_)) => Incoming::Other,
            Some(Err(error)) => Incoming::Lost(error.to_string()),
            None => Incoming::Lost("the connection ended".to_owned()),
        })
    }

    /// Says goodbye and waits for the server's answer. Call it with a deadline.
    pub async fn close(&mut self) -> Option<Close> {
        let _ = self.wire.close(None).await;
        loop {
            match self.next().await {
                Incoming::Closed(close) => {
                    let _ = self.wire.flush().await;
                    return Some(close);
                }
                Incoming::Lost(_) => return None,
                _ => {}
            }
        }
    }
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
