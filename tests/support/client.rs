//! A minimal client: user tokens, HTTP and WebSocket.
//!
//! It validates every answer and every frame against the published schemas. The stories check the meaning.

use keepstep_client::transport::{self, ConnectError, Incoming, WireMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use crate::support::PATIENCE;
use crate::support::{JWT_SECRET, schemas};

/// Returns a user token of the application's identity provider, valid for an hour.
pub fn user_token(user: &str) -> String {
    sign(&json!({ "sub": user, "exp": in_seconds(3600) }), JWT_SECRET)
}

/// Returns a user token that opens `/admin`.
pub fn admin_token() -> String {
    sign(&json!({ "sub": "root", "exp": in_seconds(3600), "admin": true }), JWT_SECRET)
}

/// Returns a token with any claims, signed with any secret.
pub fn sign(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("sign a token")
}

/// Returns the Unix time in seconds, this far from now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_secs()).expect("a clock before the year 292 billion") + seconds
}

/// Waits for one result, with the common deadline.
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The request, for whoever reads a failed test.
    pub asked: String,
    /// Its status.
    pub status: u16,
    /// Its head in lower case.
    pub head: String,
    /// Its body if that is JSON, else null.
    pub body: Value,
    /// Its raw body.
    pub text: String,
}

impl Answer {
    /// Returns the body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {} {}", self.asked, self.status, self.text);
        self.body
    }

    /// Returns the body of an answer with exactly this status.
    #[track_caller]
    pub fn with(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text);
        self.body
    }

    /// Checks for a refusal in the form of RFC 9457, with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.body["code"].as_str()),
            (status, Some(code)),
            "{}: {}",
            self.asked,
            self.text
        );
        assert!(
            self.head.contains("content-type: application/problem+json"),
            "{}: {}",
            self.asked,
            self.head
        );
        assert_eq!(self.body["status"], status, "{}: {}", self.asked, self.text);
        assert!(
            self.body["title"].is_string() && self.body["detail"].is_string(),
            "{}: {}",
            self.asked,
            self.text
        );
    }
}

/// The HTTP API of one edge, with a token or without.
#[derive(Clone, Debug)]
pub struct Api {
    /// `127.0.0.1:port`
    pub edge: String,
    /// The value after `Authorization: Bearer `, if any.
    pub token: Option<String>,
}

impl Api {
    /// With a token.
    pub fn new(edge: &str, token: &str) -> Api {
        Api { edge: edge.to_owned(), token: Some(token.to_owned()) }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body.to_string())).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    /// Any method, any body.
    pub async fn call(&self, method: &str, path: &str, body: Option<String>) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.edge);
        if let Some(token) = &self.token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = &body {
            let length = body.len();
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body.as_deref().unwrap_or_default());
        let answer = raw_http(&self.edge, request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|why| panic!("{method} {path}: {why}"));
        if let (200..300, Some(body)) = (answer.status, body) {
            schemas::request(method, path, &body);
        }
        answer
    }
}

/// Sends bytes, reads until the server closes, and parses an HTTP answer.
pub async fn raw_http(edge: &str, request: &[u8]) -> std::io::Result<Answer> {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let asked = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let exchange = async {
        let mut stream = TcpStream::connect(edge).await?;
        // A server may answer and close before it has read everything: then what it said counts.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await;
        if answer.is_empty() { end.map(|_| answer) } else { Ok(answer) }
    };
    let answer = soon(&asked, exchange).await?;
    let answer = parse(asked, &answer).ok_or_else(|| {
        std::io::Error::other(format!("not an answer of HTTP: {:?}", String::from_utf8_lossy(&answer)))
    })?;
    schemas::answer(&String::from_utf8_lossy(line), answer.status, &answer.head, &answer.text);
    Ok(answer)
}

fn parse(asked: String, answer: &[u8]) -> Option<Answer> {
    let all = String::from_utf8_lossy(answer);
    let (head, body) = all.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    assert!(!head.contains("transfer-encoding: chunked"), "{asked}: this client knows no chunks");
    let json = serde_json::from_str(body).unwrap_or(Value::Null);
    Some(Answer { asked, status, head, body: json, text: body.to_owned() })
}

/// 1005: a close frame without a code.
const NO_CODE: u16 = 1005;

/// What a socket received.
#[derive(Debug, PartialEq)]
pub enum Came {
    /// A text frame.
    Frame(String),
    /// A close frame: code and reason.
    Closed(u16, String),
    /// The connection ended without a close frame.
    Lost,
}

/// A WebSocket: the SDK's wire, on which a story may say anything.
#[derive(Debug)]
pub struct Socket {
    wire: transport::Socket<TcpStream>,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
}

impl Socket {
    /// Opens `/v1/socket` with a token, as a phone does.
    pub async fn open(edge: &str, token: &str) -> Socket {
        let authorization = format!("Bearer {token}");
        let opened = Socket::handshake(edge, "/v1/socket", &[("Authorization", &authorization)]).await;
        opened.unwrap_or_else(|why| panic!("the socket isn't upgraded: {why}"))
    }

    /// Opens a path with further headers; otherwise returns the status of the refusal, or the error.
    pub async fn handshake(edge: &str, path: &str, headers: &[(&str, &str)]) -> Result<Socket, String> {
        let url = format!("ws://{edge}{path}");
        let connect = async {
            let stream = TcpStream::connect(edge).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            match transport::Socket::handshake(stream, &url, headers, None).await {
                Ok(wire) => Ok(Socket { protocol: wire.protocol().map(str::to_owned), wire }),
                Err(ConnectError::Status { status, .. }) => Err(status.to_string()),
                Err(error) => Err(error.to_string()),
            }
        };
        soon("the upgrade", connect).await
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &Value) {
        self.send_message(WireMessage::text(frame.to_string())).await.expect("send a frame");
    }

    /// Sends anything.
    pub async fn send_message(&mut self, message: WireMessage) -> Result<(), String> {
        let sending = self.wire.send_message(message);
        soon("the socket to take a frame", sending).await.map_err(|error| error.to_string())
    }

    /// Returns what comes next, without a deadline. Safe to drop and call again.
    pub async fn come(&mut self) -> Came {
        loop {
            return match self.wire.next().await {
                Incoming::Lost(_) => Came::Lost,
                Incoming::Text(text) => Came::Frame(text.as_str().to_owned()),
                Incoming::Closed(close) if close.code == NO_CODE => Came::Lost,
                Incoming::Closed(close) => Came::Closed(close.code, close.reason),
                Incoming::Binary(length) => panic!("a binary frame of {length} bytes"),
                Incoming::Other => continue,
            };
        }
    }

    /// Returns the next frame.
    pub async fn frame(&mut self) -> Value {
        match soon("a frame", self.come()).await {
            Came::Frame(text) => {
                schemas::frame(&text).unwrap_or_else(|why| panic!("{why}: {text}"));
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
            }
            other => panic!("expected a frame, but: {other:?}"),
        }
    }

    /// Returns the next frame of this type; drops earlier frames of other types.
    pub async fn frame_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Returns the close frame; drops the frames before it.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon("the close frame", self.come()).await {
                Came::Frame(text) => schemas::frame(&text).unwrap_or_else(|why| panic!("{why}: {text}")),
                Came::Closed(code, reason) => return checked(code, reason),
                Came::Lost => panic!("the connection ended without a close frame"),
            }
        }
    }

    /// Returns the close frame, which must come before any other frame.
    pub async fn refused(&mut self) -> (u16, String) {
        match soon("the close frame", self.come()).await {
            Came::Closed(code, reason) => checked(code, reason),
            other => panic!("expected to be closed at once, but: {other:?}"),
        }
    }

    /// Closes the socket with a close frame.
    pub async fn close(mut self) {
        soon("the server to answer a close frame", self.wire.close()).await;
    }
}

/// Checks a close frame against the documents.
fn checked(code: u16, reason: String) -> (u16, String) {
    schemas::closed(code, &reason).unwrap_or_else(|why| panic!("{why}"));
    (code, reason)
}
