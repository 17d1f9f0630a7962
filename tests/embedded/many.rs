//! A user with very many of something: it costs time, and nobody's connection. As tests/stack/many.rs, over one process; it
//! runs in this one, so that the store can be written behind the edge's back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keepstep::broker::{Broker, embedded::EmbeddedBroker};
use keepstep::config::{Limits, Timing};
use keepstep::domain::chat::ChatKind;
use keepstep::domain::device::DeviceKind;
use keepstep::domain::id::{ChatId, MessageKey, UserId};
use keepstep::domain::message::FrameTemplate;
use keepstep::drain::Drain;
use keepstep::metrics::Metrics;
use keepstep::session::{self, Connection, Wire};
use keepstep::store::{Append, Created, NewChat, Store, StoreLimits, SubscribeFrom, embedded::EmbeddedStore};
use keepstep::sync::{Core, registration};
use keepstep::tokens::DeviceClaims;
use keepstep_client::transport::{Incoming, Socket};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{PATIENCE, stays, wait_until};

/// More than a mailbox has room for.
const MANY: usize = 1500;
/// Many sweeps.
const SWEEPS: Duration = Duration::from_secs(3);

struct Edge {
    core: Arc<Core>,
    store: Store,
}

/// What came on a socket, and how it was closed.
#[derive(Default)]
struct Came {
    frames: Vec<Value>,
    closed: Option<u16>,
}

impl Edge {
    fn start() -> Edge {
        let limits = Limits { chats_per_user: 2 * MANY as u32, ..Limits::default() };
        let often = Duration::from_millis(200);
        let timing = Timing { reads_sweep: often, tail_sweep: often, tail_check: often, ..Timing::default() };
        let store = Store::Embedded(EmbeddedStore::new(StoreLimits::new(
            &limits,
            &keepstep::config::Timing::default(),
        )));
        let broker = Broker::Embedded(EmbeddedBroker::new());
        let metrics = Metrics::new().unwrap();
        let core =
            Core::start(store.clone(), broker, metrics, Drain::default(), limits, timing, "edge".to_owned());
        Edge { core, store }
    }

    async fn phone(&self, user: &UserId) -> DeviceClaims {
        let wish = registration::RegisterDevice {
            id: None,
            kind: DeviceKind::Main,
            name: "phone".into(),
            platform: "tests".into(),
            replace: false,
            history: None,
        };
        registration::register(&self.core, user, wish).await.unwrap().1
    }

    /// Connects a device that reads everything and acknowledges nothing.
    async fn connect(&self, claims: DeviceClaims) -> Arc<Mutex<Came>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, core) = (listener.accept().await.unwrap().0, self.core.clone());
        tokio::spawn(async move {
            let connection = Connection::new(Wire::from(server), Default::default(), 1 << 20).await;
            if let Some(open) = session::open(core, connection, claims).await {
                open.serve().await;
            }
        });
        let came = Arc::new(Mutex::new(Came::default()));
        let told = came.clone();
        tokio::spawn(async move {
            let mut socket = Socket::upgraded(client, None).await;
            loop {
                match socket.next().await {
                    Incoming::Text(text) => {
                        told.lock().unwrap().frames.push(serde_json::from_str(text.as_str()).unwrap());
                    }
                    Incoming::Closed(close) => told.lock().unwrap().closed = Some(close.code),
                    Incoming::Lost(_) => return,
                    _ => {}
                }
            }
        });
        came
    }

    async fn group(&self, owner: &UserId) -> ChatId {
        let new = NewChat {
            id: ChatId::random(),
            kind: ChatKind::Group,
            name: None,
            public: false,
            password_hash: None,
            owner: owner.clone(),
            with: None,
            entry: keepstep::domain::chat::Entry::AtOnce,
            node: self.core.broker.place(ChatId::random()),
            created: 1,
        };
        match self.store.create_chat(&new).await.unwrap() {
            Created::New(chat) => chat.id,
            other => panic!("{other:?}"),
        }
    }
}

async fn counts(came: &Mutex<Came>, what: &str, kind: &str, least: usize) {
    wait_until(what, PATIENCE, async || {
        let came = came.lock().unwrap();
        assert_eq!(came.closed, None, "closed while it waited for: {what}");
        (came.frames.iter().filter(|frame| frame["type"] == kind).count() >= least).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_user_who_is_behind_in_1500_chats_stays_connected() {
    let (edge, alice): (_, UserId) = (Edge::start(), "alice".parse().unwrap());
    let phone = edge.phone(&alice).await;
    let mut chats = Vec::new();
    for _ in 0..MANY {
        chats.push(edge.group(&alice).await);
        edge.store
            .subscribe_device(chats[chats.len() - 1], &alice, phone.device, SubscribeFrom::Joined)
            .await
            .unwrap()
            .unwrap();
    }
    let came = edge.connect(phone).await;
    counts(&came, "welcome", "welcome", 1).await;
    assert_eq!(came.lock().unwrap().frames[0]["chats"].as_array().unwrap().len(), MANY);
    // Nothing is acknowledged, so most of it can't be sent.
    for chat in &chats {
        let frame = FrameTemplate::new(*chat, "\"content\":\"hello\"");
        let (key, user) = (MessageKey::random(), alice.clone());
        let append = Append { chat: *chat, user, key, fingerprint: 1, at: 1, frame, has_room: true };
        edge.store.append(&append).await.unwrap();
        edge.store.move_read(&alice, *chat, 1, None).await.unwrap();
    }
    counts(&came, "all offsets", "read", MANY).await;
    counts(&came, "as many messages as may be unacknowledged", "message", 256).await;
    stays(SWEEPS, async || assert_eq!(came.lock().unwrap().closed, None)).await;
    assert_eq!(came.lock().unwrap().frames.iter().filter(|frame| frame["type"] == "read").count(), MANY);
}

#[tokio::test]
async fn a_user_who_is_in_1500_chats_that_nobody_told_of_finds_them() {
    let (edge, alice): (_, UserId) = (Edge::start(), "alice".parse().unwrap());
    let phone = edge.phone(&alice).await;
    let came = edge.connect(phone.clone()).await;
    counts(&came, "welcome", "welcome", 1).await;
    // In one step of this thread, which is the only one: as when many signals were lost.
    for _ in 0..MANY {
        let chat = edge.group(&alice).await;
        edge.store
            .subscribe_device(chat, &alice, phone.device, SubscribeFrom::Joined)
            .await
            .unwrap()
            .unwrap();
    }
    counts(&came, "all chats", "chat", MANY).await;
    stays(SWEEPS, async || assert_eq!(came.lock().unwrap().closed, None)).await;
    assert_eq!(came.lock().unwrap().frames.iter().filter(|frame| frame["type"] == "chat").count(), MANY);
}
