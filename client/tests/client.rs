//! The client over pipes: a server that the test plays frame by frame, and a clock that jumps.

use std::{sync::mpsc as std_mpsc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use keepstep_client::{
    Client, Close, CloseClass, Connect, ConnectError, Draft, Error, Event, Events, MemoryStorage, Reconnect,
    frame::ChatId, session::Session, transport::Socket,
};
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use uuid::Uuid;

const CHAT: ChatId = Uuid::from_u128(0xc);

/// Opens pipes; the other ends go to the test.
struct Pipes(mpsc::UnboundedSender<DuplexStream>);

impl Connect for Pipes {
    type Stream = DuplexStream;

    async fn connect(&mut self, token: &str) -> Result<Socket<DuplexStream>, ConnectError> {
        assert_eq!(token, "secret");
        let (near, far) = tokio::io::duplex(1 << 20);
        self.0.send(far).map_err(|_| ConnectError::Unreachable("the test is over".to_owned()))?;
        Ok(Socket::upgraded(near, None).await)
    }
}

struct Server {
    pipes: mpsc::UnboundedReceiver<DuplexStream>,
    line: Option<WebSocketStream<DuplexStream>>,
}

impl Server {
    fn new() -> (Server, Pipes) {
        let (pipe, pipes) = mpsc::unbounded_channel();
        (Server { pipes, line: None }, Pipes(pipe))
    }

    async fn accepts(&mut self) {
        let pipe = timeout(Duration::from_secs(100), self.pipes.recv()).await.expect("a connection").unwrap();
        self.line = Some(WebSocketStream::from_raw_socket(pipe, Role::Server, None).await);
    }

    async fn welcomes(&mut self, kind: &str, cursor: u64, from: u64) {
        self.accepts().await;
        self.says(
            json!({"type": "welcome", "user": "alice", "device": Uuid::nil(), "kind": kind, "session": 1,
            "heartbeat_s": 25.0, "chats": [{"id": CHAT, "kind": "direct", "name": null, "head": cursor,
            "read": 0, "cursor": cursor, "from": from}]}),
        )
        .await;
    }

    async fn says(&mut self, frame: Value) {
        self.line.as_mut().unwrap().send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn message(&mut self, seq: u64) {
        self.says(
            json!({"type": "message", "chat": CHAT, "seq": seq, "key": Uuid::nil(), "from": "bob", "at": 1,
            "kind": "text", "content": format!("#{seq}")}),
        )
        .await;
    }

    async fn hears(&mut self) -> Value {
        loop {
            let line = self.line.as_mut().unwrap();
            match timeout(Duration::from_secs(100), line.next()).await.expect("a frame") {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(_)) => {}
                other => panic!("instead of a frame: {other:?}"),
            }
        }
    }

    async fn closes(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.line.as_mut().unwrap().send(Message::Close(Some(frame))).await.unwrap();
    }
}

async fn event(events: &mut Events) -> Event {
    timeout(Duration::from_secs(100), events.next()).await.expect("an event").expect("not at its end")
}

fn builder(pipes: Pipes) -> keepstep_client::Builder<Pipes> {
    keepstep_client::Builder::new(pipes, "secret").jitter(|| 0.5)
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_taken_up_where_it_was() {
    let (mut server, pipes) = Server::new();
    let storage = MemoryStorage::new(1 << 20);
    let (client, mut events) = builder(pipes).storage(storage.clone()).start();
    server.welcomes("main", 0, 0).await;
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    server.message(1).await;
    assert_eq!(server.hears().await, json!({"type": "ack", "chat": CHAT, "seq": 1}));
    assert!(matches!(event(&mut events).await, Event::Message(message) if message.seq == 1));
    assert_eq!(storage.count(CHAT), 1, "stored before it is acknowledged");

    let sending = client.send(CHAT, Draft::text("hello"));
    let first = server.hears().await;
    let begun = Instant::now();
    server.line = None;
    let Event::Disconnected { ended, retry_in } = event(&mut events).await else { panic!() };
    assert_eq!((ended.class, ended.close), (CloseClass::Retry, None));
    assert_eq!(retry_in, Duration::from_secs(1), "the middle of the jitter");
    server.welcomes("main", 1, 0).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    let again = server.hears().await;
    assert_eq!((&again["key"], &again["content"]), (&first["key"], &first["content"]));
    server.says(json!({"type": "reply", "id": again["id"], "ok": {"seq": 2, "at": 9}})).await;
    let receipt = sending.await.unwrap();
    assert_eq!((receipt.seq, receipt.at), (2, 9));
}

#[tokio::test(start_paused = true)]
async fn pauses_double_until_a_welcome() {
    let (mut server, pipes) = Server::new();
    let (_client, mut events) = builder(pipes).start();
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        server.accepts().await;
        server.closes(4303, r#"{"code":"main_offline","last_seen":77}"#).await;
        let Event::Disconnected { ended, retry_in } = event(&mut events).await else { panic!() };
        assert_eq!(ended.class, CloseClass::RetryLater);
        assert_eq!(ended.close.unwrap().main_last_seen(), Some(77));
        assert_eq!(retry_in.as_secs(), pause);
    }
    server.welcomes("sub", 0, 0).await;
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    server.closes(4300, "shutting_down").await;
    assert!(
        matches!(event(&mut events).await, Event::Disconnected { retry_in, .. } if retry_in.as_secs() == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_code_that_forbids_it_ends_the_client() {
    for (code, class) in [
        (4400, CloseClass::Fault),
        (4401, CloseClass::Refused),
        (4403, CloseClass::Terminated),
        (4409, CloseClass::Replaced),
        (4410, CloseClass::Kicked),
        (4429, CloseClass::Fault),
        (4499, CloseClass::Fault),
        (1007, CloseClass::Fault),
    ] {
        let (mut server, pipes) = Server::new();
        let (client, mut events) = builder(pipes).start();
        let sending = client.send(CHAT, Draft::text("hello"));
        server.accepts().await;
        server.closes(code, "so").await;
        let Event::Stopped(ended) = event(&mut events).await else { panic!("{code}") };
        assert_eq!(
            (ended.class, ended.close.as_ref()),
            (class, Some(&Close { code, reason: "so".to_owned() }))
        );
        assert!(events.next().await.is_none());
        assert_eq!(sending.await, Err(Error::Stopped(ended)));
        assert!(client.ack(CHAT, 1).is_err());
    }
    for code in [None, Some(1006), Some(4300), Some(4301), Some(4302), Some(4304), Some(4305), Some(4399)] {
        assert_eq!(CloseClass::of(code), CloseClass::Retry, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_says_nothing_is_asked_and_then_given_up() {
    let (mut server, pipes) = Server::new();
    let (_client, mut events) = builder(pipes).reconnect(Reconnect::Never).start();
    server.welcomes("sub", 0, 0).await;
    let begun = Instant::now();
    assert_eq!(server.hears().await, json!({"type": "ping"}));
    assert_eq!(begun.elapsed().as_secs(), 30, "a heartbeat, and 5 s");
    server.says(json!({"type": "pong"})).await;
    assert_eq!(server.hears().await, json!({"type": "ping"}));
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    assert!(matches!(event(&mut events).await, Event::Stopped(ended) if ended.class == CloseClass::Retry));
    assert_eq!(begun.elapsed().as_secs(), 65);
}

#[tokio::test(start_paused = true)]
async fn a_main_serves_its_storage_and_keeps_nothing_back() {
    let (mut server, pipes) = Server::new();
    let (_client, _events) = builder(pipes).storage(MemoryStorage::new(1 << 20)).start();
    server.welcomes("main", 0, 0).await;
    for seq in 1..=5 {
        server.message(seq).await;
    }
    while server.hears().await["seq"] != 5 {}
    server
        .says(json!({"type": "history_request", "request": "r", "chat": CHAT, "before": 5, "limit": 3,
        "device": Uuid::nil()}))
        .await;
    let page = server.hears().await;
    let seqs: Vec<u64> =
        page["messages"].as_array().unwrap().iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert_eq!((&page["request"], seqs, &page["more"]), (&json!("r"), vec![2, 3, 4], &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn a_sub_boots_by_pages_and_acknowledges_when_it_is_told() {
    let (mut server, pipes) = Server::new();
    let (client, mut events) = builder(pipes).start();
    server.welcomes("sub", 3, 3).await;
    let Event::Connected(welcome) = event(&mut events).await else { panic!() };
    let booting = tokio::spawn({
        let client = client.clone();
        async move {
            let mut seqs = Vec::new();
            let on_page =
                |_, page: &keepstep_client::Page| seqs.extend(page.messages.iter().map(|it| it.seq));
            client.bootstrap(&welcome.chats, 500, on_page).await.map(|()| seqs)
        }
    });
    let past = |seq: u64| json!({"type": "message", "chat": CHAT, "seq": seq});
    let asked = server.hears().await;
    assert_eq!((&asked["before"], &asked["limit"]), (&Value::Null, &json!(100)));
    let busy = json!({"code": "main_busy", "message": "", "retry": true});
    server.says(json!({"type": "reply", "id": asked["id"], "error": busy})).await;
    let asked = server.hears().await;
    let page = json!({"messages": [past(2), past(3)], "more": true});
    server.says(json!({"type": "reply", "id": asked["id"], "ok": page})).await;
    let asked = server.hears().await;
    assert_eq!(asked["before"], 2);
    let page = json!({"messages": [past(1)], "more": false});
    server.says(json!({"type": "reply", "id": asked["id"], "ok": page})).await;
    assert_eq!(server.hears().await, json!({"type": "ready"}));
    assert_eq!(booting.await.unwrap(), Ok(vec![2, 3, 1]));

    server.message(4).await;
    assert!(matches!(event(&mut events).await, Event::Message(message) if message.seq == 4));
    client.ack(CHAT, 4).unwrap();
    assert_eq!(server.hears().await, json!({"type": "ack", "chat": CHAT, "seq": 4}));
}

/// A storage that fails when it is told to.
struct Failing(MemoryStorage, std_mpsc::Receiver<()>);

impl keepstep_client::Storage for Failing {
    async fn append(
        &mut self,
        messages: &[keepstep_client::Message],
    ) -> Result<(), keepstep_client::StorageError> {
        if self.1.try_recv().is_ok() {
            return Err(keepstep_client::StorageError::from(Box::from("the disk is full")));
        }
        self.0.append(messages).await
    }

    async fn before(
        &mut self,
        chat: ChatId,
        before: u64,
        limit: usize,
    ) -> Result<keepstep_client::Page, keepstep_client::StorageError> {
        self.0.before(chat, before, limit).await
    }

    async fn after(
        &mut self,
        chat: ChatId,
        after: u64,
        limit: usize,
    ) -> Result<keepstep_client::Page, keepstep_client::StorageError> {
        self.0.after(chat, after, limit).await
    }

    async fn bounds(
        &mut self,
        chat: ChatId,
    ) -> Result<Option<keepstep_client::Bounds>, keepstep_client::StorageError> {
        self.0.bounds(chat).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_stored_is_neither_told_nor_acknowledged() {
    let (mut server, pipes) = Server::new();
    let (fail, failing) = std_mpsc::channel();
    let storage = Failing(MemoryStorage::new(1 << 20), failing);
    let (_client, mut events) = builder(pipes).storage(storage).start();
    server.welcomes("main", 0, 0).await;
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    fail.send(()).unwrap();
    server.message(1).await;
    let Event::Disconnected { ended, .. } = event(&mut events).await else { panic!() };
    assert!(ended.text.contains("the disk is full"), "{ended}");
    server.welcomes("main", 0, 0).await;
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    server.message(1).await;
    assert!(matches!(event(&mut events).await, Event::Message(message) if message.seq == 1));
    assert_eq!(server.hears().await, json!({"type": "ack", "chat": CHAT, "seq": 1}));
}

#[tokio::test(start_paused = true)]
async fn goodbye_is_said_and_a_cut_is_silent() {
    let (mut server, pipes) = Server::new();
    let (client, mut events) = builder(pipes).start();
    server.welcomes("sub", 0, 0).await;
    assert!(matches!(event(&mut events).await, Event::Connected(_)));
    let closing = tokio::spawn(async move { client.close().await });
    assert!(matches!(server.line.as_mut().unwrap().next().await, Some(Ok(Message::Close(_)))));
    assert!(matches!(event(&mut events).await, Event::Stopped(ended) if ended.class == CloseClass::Closed));
    closing.await.unwrap();

    let (mut server, pipes) = Server::new();
    let (client, events) = builder(pipes).start();
    server.welcomes("sub", 0, 0).await;
    client.cut().await;
    drop(events);
    assert!(!matches!(server.line.as_mut().unwrap().next().await, Some(Ok(Message::Close(_)))));
}

#[tokio::test(start_paused = true)]
async fn nobody_left_to_use_it_ends_it() {
    let (mut server, pipes) = Server::new();
    let mut session = Session::new();
    session.ready();
    let (client, events) = builder(pipes).session(session).start();
    server.welcomes("sub", 0, 0).await;
    assert_eq!(server.hears().await, json!({"type": "ready"}), "it was prepared");
    drop((client, events));
    assert!(matches!(server.line.as_mut().unwrap().next().await, Some(Ok(Message::Close(_)))));
}

#[test]
fn an_address_that_can_not_be_used_is_refused() {
    for url in ["", "127.0.0.1:8080", "ftp://a", "http://"] {
        assert!(Client::builder(url, "t").is_err(), "{url}");
    }
    assert!(Client::builder("https://chat.example", "t").is_ok());
}
