//! The Rust SDK against a server: its examples as they stand, and devices whose lines break all the time.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::join_all;
use keepstep_client::session::Session;
use keepstep_client::transport::Socket;
use keepstep_client::{
    Api, Builder, Client, Connect, ConnectError, DeviceKind, Draft, Event, MemoryStorage, Receipt,
    Registration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::stories::client::{PATIENCE, soon, user_token};
use crate::support::{Edge, EdgeConfig, wait_until};

#[expect(dead_code, reason = "here it isn't a program")]
#[path = "../../client/examples/phone.rs"]
mod phone;
#[expect(dead_code, reason = "here it isn't a program")]
#[path = "../../client/examples/web.rs"]
mod web;

#[expect(dead_code, reason = "here it isn't a program")]
#[path = "../../client/examples/bot.rs"]
mod bot;

#[tokio::test]
async fn a_bot_sends_without_a_device() {
    let edge = Edge::start(EdgeConfig::embedded()).await;
    edge.ready().await;
    let sent = bot::run(&edge.url(""), &user_token("weather"), "bob", "rain at noon").await;
    assert_eq!(sent.map_err(|error| error.to_string()), Ok(1));
    let api = Api::new(&edge.url("")).expect("an address").with_token(user_token("bob"));
    let chats = api.chats().await.expect("chats");
    assert_eq!(chats.iter().map(|chat| chat.head).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_phone_and_a_web_session_are_in_step() {
    let edge = Edge::start(EdgeConfig::embedded()).await;
    edge.ready().await;
    let (url, token) = (edge.url(""), user_token("alice"));
    let phone = {
        let (url, token) = (url.clone(), token.clone());
        // (What it says of an end is an error of any kind, which can't change threads.)
        async move { phone::run(&url, &token, "bob", "hello Bob").await.map_err(|error| error.to_string()) }
    };
    let web = async {
        // The phone is there when its first message is.
        let api = Api::new(&url).expect("an address").with_token(&token);
        while !api.chats().await.expect("chats").iter().any(|chat| chat.head > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        web::run(&url, &token, "and from the web").await.map_err(|error| error.to_string())
    };
    tokio::select! {
        ended = phone => panic!("the phone stopped: {ended:?}"),
        shown = soon("the web session", web) => {
            assert_eq!(shown, Ok(vec!["#1 alice: hello Bob".to_owned(), "#2 alice: and from the web".to_owned()]));
        }
    }
}

/// A stream that breaks after so many bytes, in the middle of whatever it carries.
struct Frail {
    stream: TcpStream,
    left: usize,
}

impl Frail {
    fn wear(&mut self, bytes: usize) -> io::Result<()> {
        self.left = self.left.saturating_sub(bytes);
        if self.left > 0 { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) }
    }
}

impl AsyncRead for Frail {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // In small pieces, so that it breaks inside of frames.
        let mut piece = [0; 64];
        let mut part = ReadBuf::new(&mut piece[..buffer.remaining().min(64)]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        self.wear(part.filled().len())?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frail {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.wear(written)?;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Opens them, the first of a device sound for as long as its boot takes.
struct Breaking {
    address: String,
    opened: Arc<AtomicUsize>,
}

impl Connect for Breaking {
    type Stream = Frail;

    async fn connect(&mut self, token: &str) -> Result<Socket<Frail>, ConnectError> {
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let turn = self.opened.fetch_add(1, Ordering::Relaxed);
        let left = if turn == 0 { 20_000 } else { rand::random_range(3_000..12_000) };
        let (url, bearer) = (format!("ws://{}/v1/socket", self.address), format!("Bearer {token}"));
        Socket::handshake(Frail { stream, left }, &url, &[("Authorization", &bearer)], None).await
    }
}

/// A device whose lines break: its history, the client, and how many lines it had.
struct Shaky {
    history: MemoryStorage,
    client: Client,
    opened: Arc<AtomicUsize>,
}

impl Shaky {
    async fn of(api: &Api, address: &str, kind: DeviceKind) -> Shaky {
        let token = api.register(&Registration::new(kind, "shaky", "tests")).await.expect("a device").token;
        let (history, opened) = (MemoryStorage::new(16 << 20), Arc::<AtomicUsize>::default());
        let mut session = Session::new();
        // It has no past to boot: it is there from the beginning.
        session.ready();
        let connect = Breaking { address: address.to_owned(), opened: opened.clone() };
        let (client, mut events) = Builder::new(connect, &token)
            .storage(history.clone())
            .session(session)
            .backoff(Duration::from_millis(20), Duration::from_millis(200))
            .start();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                assert!(!matches!(event, Event::Violation(_) | Event::Stopped(_)), "{event:?}");
            }
        });
        Shaky { history, client, opened }
    }
}

#[tokio::test]
async fn devices_whose_lines_break_end_with_the_same_messages() {
    const EACH: u64 = 60;
    let edge = Edge::start(EdgeConfig::embedded()).await;
    edge.ready().await;
    let api = Api::new(&edge.url("")).expect("an address");
    let (alice, bob) = (api.with_token(user_token("alice")), api.with_token(user_token("bob")));
    let address = edge.listen();
    let phone = Shaky::of(&alice, &address, DeviceKind::Main).await;
    let web = Shaky::of(&alice, &address, DeviceKind::Sub).await;
    let other = Shaky::of(&bob, &address, DeviceKind::Main).await;
    let chat = alice.direct_chat("bob").await.expect("a chat").id;

    let devices = [&phone, &web, &other];
    let sends = devices.iter().enumerate().flat_map(|(at, device)| {
        (0..EACH).map(move |n| device.client.send(chat, Draft::text(format!("{at}:{n} {}", "x".repeat(200)))))
    });
    let receipts: Vec<Receipt> = soon("everything to be durable", join_all(sends))
        .await
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("receipts");
    for own in receipts.chunks(EACH as usize) {
        assert!(own.is_sorted_by_key(|receipt| receipt.seq), "in the order of the calls");
    }
    let seqs: BTreeSet<u64> = receipts.iter().map(|receipt| receipt.seq).collect();
    let head = 3 * EACH;
    assert!(seqs.iter().copied().eq(1..=head), "each once: {seqs:?}");
    for device in devices {
        wait_until("the device to have everything", PATIENCE, async || {
            (device.history.count(chat) as u64 == head).then_some(())
        })
        .await;
        assert!((1..=head).all(|seq| device.history.get(chat, seq) == phone.history.get(chat, seq)));
        assert!(device.opened.load(Ordering::Relaxed) > 3, "its lines broke");
    }
}
