//! The relay from the log to NSQ, when a part of it hangs or is late: nobody else is affected, and accepted messages
//! arrive.

use std::{sync::Arc, time::Duration};

use keepstep::{
    broker::Broker,
    config::{Limits, Timing},
    domain::{
        chat::ChatKind,
        id::{ChatId, DeviceId, MessageKey, UserId},
        message::{FrameTemplate, chat_and_seq},
    },
    drain::Drain,
    metrics::Metrics,
    protocol::Send,
    store::{Append, Appended, Created, NewChat, Store, StoreLimits, embedded::EmbeddedStore},
    sync::{
        Core,
        send::{Sender, send},
    },
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::{
    broker::{contract::inbox::Inbox, start},
    stories::{client::Api, client::PATIENCE, client::user_token, user::id, world::topic},
    support::{Edge, Nsqd, Stack, wait_until},
};

/// An edge in this process, over a store in memory and a real NSQ.
struct Inside {
    core: Arc<Core>,
    store: EmbeddedStore,
    alice: UserId,
}

impl Inside {
    fn over(broker: &Broker) -> Self {
        let store = EmbeddedStore::new(StoreLimits::default());
        let core = Core::start(
            Store::Embedded(store.clone()),
            broker.clone(),
            Metrics::new().expect("good names"),
            Drain::default(),
            Limits::default(),
            Timing::default(),
            "edge-1".to_owned(),
        );
        Self { core, store, alice: "alice".parse().expect("a user id") }
    }

    /// A group of Alice's that this nsqd carries.
    async fn chat_at(&self, nsqd: &Nsqd) -> ChatId {
        let new = NewChat {
            id: ChatId::random(),
            kind: ChatKind::Group,
            name: None,
            public: false,
            password_hash: None,
            owner: self.alice.clone(),
            with: None,
            entry: keepstep::domain::chat::Entry::AtOnce,
            node: nsqd.http(),
            created: 1,
        };
        match self.store.create_chat(&new).await.expect("created") {
            Created::New(chat) => chat.id,
            other => panic!("{other:?}"),
        }
    }

    async fn says(&self, chat: ChatId, key: MessageKey) -> u64 {
        let said = json!({ "chat": chat, "key": key, "kind": "text", "content": "hello" });
        let said: Send = serde_json::from_str(&said.to_string()).expect("a send");
        let sender = Sender { user: &self.alice, device: None };
        send(&self.core, sender, chat, &said).await.expect("accepted").0
    }

    async fn unconfirmed(&self, chats: &[ChatId]) -> usize {
        let mut sum = 0;
        for chat in chats {
            sum += self.store.outbox(*chat, 10_000).await.expect("the truth").messages.len();
        }
        sum
    }

    /// How long each of so many took from here to its queue, one after the other; the longest.
    async fn delays(&self, chat: ChatId, inbox: &mut Inbox, count: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..count {
            let begun = Instant::now();
            let seq = self.says(chat, MessageKey::random()).await;
            let (body, receipt) = inbox.delivery().await;
            assert_eq!(chat_and_seq(body.as_bytes()), Some((chat, seq)));
            receipt.finish();
            longest = longest.max(begun.elapsed());
        }
        longest
    }
}

/// By which a second try is known for the same message.
fn fingerprint(body: &str) -> u64 {
    let digest = Sha256::digest(body.as_bytes());
    u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nsqd_that_hangs_under_load_delays_no_other() {
    let (broker, (_lookupd, nsqd)) = start().await;
    let edge = Inside::over(&broker);
    let (stuck, well) = (edge.chat_at(&nsqd[0]).await, edge.chat_at(&nsqd[1]).await);
    let device = DeviceId::random();
    broker
        .provision(&keepstep::broker::Flow::of("test", "all"), device, &[(well, nsqd[1].http())])
        .await
        .expect("provisioned");
    let mut inbox = Inbox::new(16);
    let _subscription = inbox.attach_at(&broker, &nsqd[1].http(), well, device).await;
    edge.says(stuck, MessageKey::random()).await;
    let before = edge.delays(well, &mut inbox, 50).await;

    // On a machine that is busy it may be known to hang before there is enough: then once more.
    for _ in 0..5 {
        let down = || broker.down_for(&nsqd[0].http()).is_some();
        nsqd[0].sigstop();
        // More than may be under way at once.
        for _ in 0..2_000 {
            edge.says(stuck, MessageKey::random()).await;
        }
        let in_time = !down();
        let meanwhile = edge.delays(well, &mut inbox, 50).await;
        let waiting = edge.unconfirmed(&[stuck]).await;
        println!(
            "to a well nsqd: {before:?}; beside one that hangs: {meanwhile:?} ({waiting} wait for that)"
        );
        // (It takes a moment until all of its threads stand still.)
        assert!(waiting > 1_024, "the frozen nsqd took messages");
        assert!(meanwhile < before + Duration::from_millis(250), "{before:?} became {meanwhile:?}");
        nsqd[0].sigcont();
        if in_time {
            return;
        }
        wait_until("all to be as it was", PATIENCE, async || {
            (!down() && edge.unconfirmed(&[stuck]).await == 0).then_some(())
        })
        .await;
    }
    panic!("this machine is too slow to show anything");
}

/// Chats whose outboxes must be looked at: in half of them NSQ hangs, and nobody knows that yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_hangs_holds_up_the_healing_of_no_other() {
    let (broker, (_lookupd, nsqd)) = start().await;
    let edge = Inside::over(&broker);
    let (mut stuck, mut well, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..20 {
        for (nsqd, chats) in nsqd.iter().zip([&mut stuck, &mut well]) {
            let chat = edge.chat_at(nsqd).await;
            // As by an edge that died behind the append.
            let key = MessageKey::random();
            let frame = FrameTemplate::new(chat, &format!("\"key\":\"{key}\""));
            let user = edge.alice.clone();
            let fingerprint = fingerprint(r#"{"kind":"text","content":"hello"}"#);
            let append = Append { chat, user, key, fingerprint, at: 1, frame, has_room: true };
            assert!(matches!(edge.store.append(&append).await, Ok(Appended::New { .. })));
            chats.push(chat);
            keys.push((chat, key));
        }
    }
    nsqd[0].sigstop();
    let begun = Instant::now();
    // Asked for again: whether anyone published it isn't known.
    for (chat, key) in keys {
        assert_eq!(edge.says(chat, key).await, 1);
    }
    wait_until("the others' outboxes to be empty", PATIENCE, async || {
        (edge.unconfirmed(&well).await == 0).then_some(())
    })
    .await;
    println!("the others took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(2_900), "they waited {:?}", begun.elapsed());
    assert_eq!(edge.unconfirmed(&stuck).await, 20);
    nsqd[0].sigcont();
    wait_until("all outboxes to be empty", PATIENCE, async || {
        (edge.unconfirmed(&stuck).await == 0).then_some(())
    })
    .await;
}

/// A link to Redis whose old connections can be held: what was said on them arrives later, though whoever said it has gone.
struct Held {
    port: u16,
    hold: watch::Sender<bool>,
}

impl Held {
    async fn before(redis: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its port").port();
        let (hold, held) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&redis).await else { continue };
                let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                // One that is made while others are held isn't.
                let mut held = (!*held.borrow()).then(|| held.clone());
                tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
                tokio::spawn(async move {
                    let mut chunk = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                        if let Some(held) = &mut held
                            && held.wait_for(|held| !*held).await.is_err()
                        {
                            return;
                        }
                        if to_server.write_all(&chunk[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, hold }
    }
}

#[tokio::test]
async fn an_append_that_is_done_long_after_its_sender_gave_up_is_published() {
    let stack = Stack::start().await;
    let link = Held::before(stack.redis.addr()).await;
    // Nobody else looks.
    let config = stack.edge().set("KEEPSTEP_RECONCILE", "1h");
    let edge =
        Edge::start(config.set("KEEPSTEP_REDIS_URL", format!("redis://127.0.0.1:{}/", link.port))).await;
    edge.ready().await;
    let api = Api::new(&edge.listen(), &user_token("alice"));
    let chat = id(&api.post("/v1/chats", json!({ "kind": "group" })).await.with(201));
    let path = format!("/v1/chats/{chat}/messages");
    let message =
        |text: &str| json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": text });
    api.post(&path, message("before")).await.ok();
    let outbox = format!("ks:{{{}}}:outbox", topic(&chat));
    let unconfirmed = async || stack.redis.command(&["ZCARD", &outbox]).await.expect("Redis is there");
    wait_until("the first to be published", PATIENCE, async || (unconfirmed().await == "0").then_some(()))
        .await;

    link.hold.send_replace(true);
    assert_eq!(api.post(&path, message("late")).await.status, 503);
    // On other connections all is well, for so long that one look would have found nothing.
    edge.ready().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api.get(&format!("/v1/chats/{chat}")).await.ok()["head"], 1);
    link.hold.send_replace(false);
    wait_until("the late append", PATIENCE, async || (unconfirmed().await == "1").then_some(())).await;
    let begun = Instant::now();
    wait_until("NSQ to have it", Duration::from_secs(40), async || {
        (unconfirmed().await == "0").then_some(())
    })
    .await;
    println!("it was found {:?} after it was done", begun.elapsed());
}
