//! A client that keeps to nothing: sockets from an address of its own, frames by hand.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Where attackers are; the pair is at 127.0.0.1.
const ATTACKER: &str = "127.0.0.66:0";
/// Whatever takes longer has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// A whole text frame; a binary one; the beginning of one; a piece in the middle; a ping.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const BEGIN: u8 = 0x01;
pub const PIECE: u8 = 0x00;
pub const PING: u8 = 0x89;

/// Connects as an attacker.
pub async fn connect(edge: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(ATTACKER.parse().map_err(std::io::Error::other)?)?;
    timeout(LIMIT, socket.connect(edge)).await.map_err(std::io::Error::other)?
}

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(0x80 | short),
        (_, Ok(length)) => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        _ => frame.extend([&[0x80 | 127][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    // A mask of zeros is a mask.
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Opens the socket of whatever this token is; the status of the answer.
pub async fn upgrade(edge: SocketAddr, token: &str) -> std::io::Result<(TcpStream, u16)> {
    let mut stream = connect(edge).await?;
    stream.set_nodelay(true)?;
    let head = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LIMIT, stream.read_u8()).await.map_err(std::io::Error::other)??);
    }
    let status = String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((stream, status.unwrap_or(0)))
}

/// The head of a call, with a body of such a length behind it.
pub fn head(edge: SocketAddr, method: &str, path: &str, token: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {edge}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// A call on a connection that is kept; the status, and the body as JSON.
pub async fn call(
    stream: &mut TcpStream,
    edge: SocketAddr,
    (method, path, token): (&str, &str, &str),
    body: &str,
) -> std::io::Result<(u16, Value)> {
    let request = format!("{}{body}", head(edge, method, path, token, body.len()));
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    timeout(LIMIT, exchange).await.map_err(std::io::Error::other)?
}
