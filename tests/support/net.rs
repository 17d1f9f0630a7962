//! Ports, and a plain HTTP GET without a client.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// Returns a port on which nobody listens, and which this test binary hasn't returned before.
///
/// Below the kernel's range for outgoing connections: a client that tries again and again to reach a killed daemon
/// would sooner or later get the daemon's own port as its source, connect to itself, and block the restart.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    for _ in 0..1000 {
        let port = rand::random_range(12_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && GIVEN.lock().unwrap().get_or_insert_with(HashSet::new).insert(port)
        {
            return port;
        }
    }
    panic!("found no free port between 12000 and 32000");
}

/// `GET http://{addr}{path}`: returns status and body. Gives up after 2 s: for a check that is repeated, or may fail.
pub async fn http_get(addr: &str, path: &str) -> io::Result<(u16, String)> {
    http(addr, "GET", path, "", Duration::from_secs(2)).await
}

/// The same for a server that must answer; panics if it doesn't in time. (nsqd delays `/stats` while it writes its
/// metadata, for as long as the disk takes.)
pub async fn http_ask(addr: &str, path: &str) -> (u16, String) {
    http(addr, "GET", path, "", PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("ask http://{addr}{path}: {error}"))
}

/// A POST; the same.
pub async fn http_post(addr: &str, path: &str, body: &str) -> (u16, String) {
    http(addr, "POST", path, body, PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("POST http://{addr}{path}: {error}"))
}

async fn http(
    addr: &str,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        parse_http(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))
    };
    timeout(limit, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn parse_http(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    Some((status, if chunked { unchunk(body)? } else { body.to_owned() }))
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, tail) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.push_str(tail.get(..size)?);
        rest = tail.get(size..)?.strip_prefix("\r\n")?;
    }
}
