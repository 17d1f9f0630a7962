//! A WebSocket by hand: the story sets every bit of a frame, and nothing is answered automatically.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::soon;
use crate::support::schemas;

/// See the module. It reads only on demand.
#[derive(Debug)]
pub struct Wire(TcpStream);

/// The headers of a valid handshake, without the token.
pub const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Wire {
    /// Opens the socket of a device.
    pub async fn open(edge: &str, token: &str) -> Wire {
        let head = format!(
            "GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\n{HANDSHAKE}Authorization: Bearer {token}\r\n\r\n"
        );
        let (wire, head) = Wire::handshake(edge, &head).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        wire
    }

    /// Sends a request head, and returns that of the answer.
    pub async fn handshake(edge: &str, request: &str) -> (Wire, String) {
        let mut stream = TcpStream::connect(edge).await.expect("connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.write_all(request.as_bytes()).await.expect("ask for the upgrade");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: what comes behind the head are frames.
            head.push(soon("the upgrade", stream.read_u8()).await.expect("an answer"));
        }
        (Wire(stream), String::from_utf8_lossy(&head).into_owned())
    }

    /// Sends bytes. No-op if the server has closed.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = soon("the server to take bytes", self.0.write_all(bytes)).await;
    }

    /// Returns the next frame: its first byte and its payload. None: the connection is over.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        soon("a frame", async {
            let first = self.0.read_u8().await.ok()?;
            let length = match self.0.read_u8().await.ok()? {
                126 => usize::from(self.0.read_u16().await.ok()?),
                127 => usize::try_from(self.0.read_u64().await.ok()?).ok()?,
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((first, payload))
        })
        .await
        .inspect(|(first, payload)| match (*first, payload.as_slice()) {
            (TEXT, text) => {
                let text = String::from_utf8_lossy(text);
                schemas::frame(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
            }
            (CLOSE, [high, low, reason @ ..]) => {
                let code = u16::from_be_bytes([*high, *low]);
                let reason = String::from_utf8_lossy(reason);
                schemas::closed(code, &reason).unwrap_or_else(|why| panic!("{why}"));
            }
            _ => {}
        })
    }

    /// Returns the next frame that begins with this byte; drops others.
    pub async fn frame_of(&mut self, first: u8) -> Vec<u8> {
        loop {
            match self.frame().await {
                Some((found, payload)) if found == first => return payload,
                Some(_) => {}
                None => panic!("the connection ended before a frame {first:#x}"),
            }
        }
    }

    /// Reads up to the close frame, and returns its code. None: the connection ended without one.
    pub async fn close_code(mut self) -> Option<u16> {
        while let Some((first, payload)) = self.frame().await {
            if first == CLOSE {
                return Some(u16::from_be_bytes([*payload.first()?, *payload.get(1)?]));
            }
        }
        None
    }
}

/// A whole text frame.
pub const TEXT: u8 = 0x81;
/// A whole close frame.
pub const CLOSE: u8 = 0x88;
/// A ping.
pub const PING: u8 = 0x89;
/// A pong.
pub const PONG: u8 = 0x8a;

/// Returns a frame as a client must send it: masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(first, 0x80, payload.len() as u64);
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

/// Returns the head of a frame: the first byte, the mask bit, the length in its shortest form.
pub fn head(first: u8, mask: u8, length: u64) -> Vec<u8> {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => vec![first, mask | short],
        (_, Ok(length)) => [vec![first, mask | 126], length.to_be_bytes().to_vec()].concat(),
        _ => [vec![first, mask | 127], length.to_be_bytes().to_vec()].concat(),
    }
}
