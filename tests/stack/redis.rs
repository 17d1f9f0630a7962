//! Faults that only a real Redis can have: it dies, freezes, forgets its settings and scripts, drops a connection, or
//! can't be trusted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use keepstep::{
    domain::{
        chat::{ChatKind, DevicePosition},
        device::DeviceKind,
        id::{ChatId, DeviceId, MessageKey, TerminationId, UserId},
        message::FrameTemplate,
        termination::{Receipt, Termination, TerminationState},
    },
    store::{
        Append, Appended, Created, CursorMove, CursorMoved, Departure, Incarnation, JoinBy, NewChat,
        NewDevice, Opened, Read, StoreError, StoreEvent, SubscribeFrom,
        redis::{RedisOptions, RedisStore, StartupError, Trust},
    },
};
use tokio::{sync::mpsc, time::timeout};

use crate::support::{Aof, Redis, RedisOptions as Server, wait_until};

mod events;
mod leftovers;
mod names;
mod older;
mod slow;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connect(redis: &Redis) -> RedisStore {
    RedisStore::connect(&redis.url(), RedisOptions::default()).await.unwrap()
}

/// The first incarnation of a process.
fn process(edge: &str, process: &str) -> Incarnation {
    Incarnation { edge: edge.to_owned(), process: process.to_owned(), term: 0 }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

async fn leave(store: &RedisStore, chat: ChatId, who: &UserId, how: Departure) {
    let (_, member) = store.chat_of_member(chat, who).await.unwrap().unwrap();
    store.remove_member(chat, &member, how).await.unwrap().unwrap();
}

async fn group(store: &RedisStore, owner: &UserId) -> ChatId {
    create(store, owner, Some("{braces} and {c.x}")).await
}

async fn private_group(store: &RedisStore, owner: &UserId) -> ChatId {
    create(store, owner, None).await
}

async fn create(store: &RedisStore, owner: &UserId, public: Option<&str>) -> ChatId {
    let new = new_chat(owner, public);
    assert!(matches!(store.create_chat(&new).await.unwrap(), Created::New(_)));
    new.id
}

fn new_chat(owner: &UserId, public: Option<&str>) -> NewChat {
    NewChat {
        id: ChatId::random(),
        kind: ChatKind::Group,
        name: public.map(str::to_owned),
        public: public.is_some(),
        password_hash: None,
        owner: owner.clone(),
        with: None,
        entry: keepstep::domain::chat::Entry::AtOnce,
        node: "nsqd-1:4150".into(),
        created: 1,
    }
}

async fn device(store: &RedisStore, owner: &UserId) -> DeviceId {
    let id = DeviceId::random();
    let new = NewDevice {
        id,
        user: owner.clone(),
        kind: DeviceKind::Sub,
        name: "n".into(),
        platform: "p".into(),
        history: None,
        created: 1,
    };
    store.register_device(&new).await.unwrap();
    assert!(store.activate_device(owner, id).await.unwrap());
    id
}

fn message(chat: ChatId, from: &UserId) -> Append {
    Append {
        chat,
        user: from.clone(),
        key: MessageKey::random(),
        fingerprint: 1,
        at: 2,
        frame: FrameTemplate::new(chat, "\"content\":\"hi\""),
        has_room: true,
    }
}

async fn healed(store: &RedisStore) {
    wait_until("the store to answer again", PATIENCE, || async { store.ping().await.ok() }).await;
}

async fn until(events: &mut mpsc::Receiver<StoreEvent>, wanted: StoreEvent) {
    timeout(PATIENCE, async { while events.recv().await.expect("the store lives") != wanted {} })
        .await
        .unwrap_or_else(|_| panic!("no {wanted:?} in time"));
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let mut redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let (chat, id) = (group(&store, &alice).await, device(&store, &alice).await);
    store.subscribe_device(chat, &alice, id, SubscribeFrom::Joined).await.unwrap();
    let sent: Vec<_> = (0..50).map(|_| message(chat, &alice)).collect();
    for append in &sent {
        store.append(append).await.unwrap();
    }
    let moved = CursorMove { device: id, session: 1, from: 0, seq: 30 };
    assert_eq!(store.move_cursors(chat, &[moved]).await.unwrap(), [CursorMoved::At(30)]);
    store.move_read(&alice, chat, 20, Some(id)).await.unwrap();
    store.published(chat, &(1..=48).collect::<Vec<_>>()).await.unwrap();
    redis.restart().await;
    healed(&store).await;

    let page = store.log(chat, 1, 100, 1 << 20).await.unwrap();
    let frames: Vec<_> = (1..).zip(&sent).map(|(seq, append)| (seq, append.frame.number(seq))).collect();
    assert_eq!((page.messages, page.head), (frames, 50));
    assert_eq!(store.append(&sent[6]).await.unwrap(), Appended::Again { seq: 7, at: 2 });
    let next = store.append(&message(chat, &alice)).await.unwrap();
    assert!(matches!(next, Appended::New { seq: 51, .. }));
    assert_eq!(store.position(chat, id).await.unwrap(), Some(DevicePosition { from: 0, cursor: 30 }));
    assert_eq!(store.reads(&alice).await.unwrap()[&chat].seq, 20);
    assert_eq!(store.outbox(chat, 9).await.unwrap().messages.len(), 3);
    assert_eq!(store.devices(&alice).await.unwrap().len(), 1);
}

#[tokio::test]
async fn while_it_is_down_calls_fail_at_once_and_heal_by_themselves() {
    let mut redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    redis.kill9();
    let down = || async { matches!(store.ping().await, Err(StoreError::Unavailable(_))).then_some(()) };
    wait_until("it to be seen", Duration::from_secs(2), down).await;
    let since = Instant::now();
    for _ in 0..10 {
        let refused = store.append(&message(chat, &alice)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(matches!(store.log(chat, 1, 1, 1).await, Err(StoreError::Unavailable(_))));
    }
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    let check = store.startup_check(Trust::default()).await;
    assert!(matches!(check, Err(StartupError::Unreachable(_))), "{check:?}");

    // A store that begins now is as good, once there is something to connect to.
    let late = connect(&redis).await;
    assert!(matches!(late.ping().await, Err(StoreError::Unavailable(_))));
    redis.restart().await;
    healed(&store).await;
    healed(&late).await;
    let sent = store.append(&message(chat, &alice)).await.unwrap();
    let expected = Appended::New { seq: 1, node: "nsqd-1:4150".into(), epoch: 0, held: true, queues: 0 };
    assert_eq!(sent, expected, "what was refused didn't happen");
}

#[tokio::test]
async fn a_frozen_redis_gives_unknown_then_unavailable_and_comes_back() {
    let redis = Redis::start().await;
    let options = RedisOptions { timeout: Duration::from_millis(500), ..RedisOptions::default() };
    let store = RedisStore::connect(&redis.url(), options).await.unwrap();
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let append = message(chat, &alice);
    redis.sigstop();
    let since = Instant::now();
    let lost = store.append(&append).await;
    assert!(matches!(lost, Err(StoreError::Unknown(_))), "{lost:?}");
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    let given_up = || async { matches!(store.ping().await, Err(StoreError::Unavailable(_))).then_some(()) };
    wait_until("the connection to be given up", Duration::from_secs(5), given_up).await;
    redis.sigcont();
    healed(&store).await;
    // Whether or not it happened, asking again makes one message of it.
    store.append(&append).await.unwrap();
    assert_eq!(store.heads(&[chat]).await.unwrap()[0].head, 1);
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_taught_again() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let (chat, id) = (group(&store, &alice).await, device(&store, &alice).await);
    store.subscribe_device(chat, &alice, id, SubscribeFrom::Joined).await.unwrap();
    for seq in 1..=3 {
        redis.command(&["SCRIPT", "FLUSH"]).await.unwrap();
        let sent = store.append(&message(chat, &alice)).await.unwrap();
        assert!(matches!(sent, Appended::New { seq: is, .. } if is == seq));
        redis.command(&["SCRIPT", "FLUSH"]).await.unwrap();
        assert!(store.attach(&[chat, chat], &alice, id, seq).await.unwrap().iter().all(Option::is_some));
    }
}

#[tokio::test]
async fn a_redis_that_would_forget_is_refused_with_what_to_do() {
    let check = |server: Server, volatile: bool| async move {
        let redis = Redis::start_with(server).await;
        connect(&redis).await.startup_check(Trust { volatile, unseen: false }).await
    };
    assert_eq!(check(Server::default(), false).await.unwrap(), Vec::<String>::new());
    let off = Server { aof: Aof::Off, ..Server::default() };
    let refused = check(off.clone(), false).await.unwrap_err();
    assert!(matches!(refused, StartupError::Volatile(_)));
    for part in ["127.0.0.1:", "appendonly yes", "--allow-volatile-store"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert_eq!(check(off, true).await.unwrap().len(), 1);
    let second = check(Server { aof: Aof::EverySecond, ..Server::default() }, false).await.unwrap();
    assert!(second[0].contains("two seconds"), "{second:?}");
    let evicts = ["--maxmemory-policy", "allkeys-lru"].map(str::to_owned).to_vec();
    let refused = check(Server { args: evicts, ..Server::default() }, false).await.unwrap_err();
    assert!(refused.to_string().contains("noeviction"), "{refused}");
    let hidden = ["--rename-command", "CONFIG", ""].map(str::to_owned).to_vec();
    let refused = check(Server { args: hidden, ..Server::default() }, false).await.unwrap_err();
    assert!(matches!(refused, StartupError::Hidden { .. }), "{refused}");

    let redis = Redis::start().await;
    redis.command(&["ACL", "SETUSER", "default", "-config|set"]).await.unwrap();
    let refused = connect(&redis).await.startup_check(Trust::default()).await.unwrap_err();
    assert!(matches!(refused, StartupError::NoEvents { .. }), "{refused}");
}

#[tokio::test]
async fn an_address_that_is_none_is_an_error_and_tls_is_spoken() {
    for bad in
        ["", "redis", "redis://", "redis:///", "http://localhost", "redis://:x@:99999", "redis://h:port"]
    {
        let connected = RedisStore::connect(bad, RedisOptions::default()).await;
        assert!(connected.is_err(), "{bad:?}");
    }
    let redis = Redis::start().await;
    let options = RedisOptions { timeout: Duration::from_millis(500), ..RedisOptions::default() };
    let tls = RedisStore::connect(&format!("rediss://{}/", redis.addr()), options).await.unwrap();
    assert!(matches!(tls.ping().await, Err(StoreError::Unavailable(_))), "this server speaks no TLS");
}

#[tokio::test]
async fn of_a_forgotten_device_only_the_tombstone_is_left() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let (chat, id) = (group(&store, &alice).await, device(&store, &alice).await);
    store.subscribe_device(chat, &alice, id, SubscribeFrom::Joined).await.unwrap();
    let read = Read { session: 0, at: 0 };
    let opened = store.open_session(&alice, id, 2, read, &process("edge", "1")).await.unwrap();
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    store.attach(&[chat], &alice, id, session).await.unwrap();
    let record = Termination {
        id: TerminationId::random(),
        user: alice.clone(),
        device: id,
        by: "user".into(),
        state: TerminationState::Accepted,
        accepted_at: 1,
        unreachable: Vec::new(),
        receipt: Receipt::default(),
    };
    store.begin_termination(&record).await.unwrap();
    store.forget_device(&alice, id, &[chat]).await.unwrap();
    store.save_termination(&Termination { state: TerminationState::Done, ..record.clone() }).await.unwrap();

    let mut about_it = Vec::new();
    for key in keys(&redis).await {
        let dump = content(&redis, &key).await;
        if key.contains(&id.hex()) || dump.contains(&id.hex()) {
            about_it.push(key);
        }
    }
    assert_eq!(about_it, vec![format!("ks:{{d.{}}}", id.hex())]);
    let receipt = format!("ks:{{t.{}}}", record.id.hex());
    let ttl: i64 = redis.command(&["TTL", &receipt]).await.unwrap().parse().unwrap();
    assert!((29 * 86_400..=30 * 86_400).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn every_key_has_one_hash_tag_and_a_deleted_chat_leaves_its_mark_alone() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let (chat, id) = (group(&store, &alice).await, device(&store, &alice).await);
    store.add_member(chat, &bob, JoinBy::Invitation, 0).await.unwrap();
    store.subscribe_device(chat, &alice, id, SubscribeFrom::Joined).await.unwrap();
    store.append(&message(chat, &alice)).await.unwrap();
    store.trim(chat).await.unwrap();
    leave(&store, chat, &bob, Departure::Removed).await;
    store.register_sender("edge-1", chat).await.unwrap();
    store.edge_alive(&process("edge-1", "1"), Duration::from_secs(9)).await.unwrap();
    store.try_acquire_lease("w", "edge-1", Duration::from_secs(9)).await.unwrap();
    store.count("c", Duration::from_secs(9)).await.unwrap();
    store.move_read(&alice, chat, 1, None).await.unwrap();
    let all = keys(&redis).await;
    for key in &all {
        let tag = key.strip_prefix("ks:{").and_then(|rest| rest.split_once('}'));
        assert!(tag.is_some_and(|(tag, _)| !tag.is_empty()), "{key}");
    }
    for what in ["meta", "members", "banned", "left", "log", "outbox", "ages", "from", "cursor"] {
        assert!(all.contains(&format!("ks:{{c.{}}}:{what}", chat.hex())), "{what}");
    }
    leave(&store, chat, &alice, Departure::Left).await;
    assert!(store.delete_chat(chat).await.unwrap());
    let left: Vec<_> = keys(&redis).await.into_iter().filter(|key| key.contains(&chat.hex())).collect();
    let left: Vec<_> = left.into_iter().filter(|key| !key.contains(":k:")).collect();
    assert_eq!(left, vec![format!("ks:{{c.{}}}:meta", chat.hex())]);
    assert!(content(&redis, &left[0]).await.starts_with("deleted\n"));
    assert!(!keys(&redis).await.iter().any(|key| key.contains("{n.")), "its name is free");
}

#[tokio::test]
async fn a_log_ahead_of_its_head_is_never_numbered_over() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    for _ in 0..3 {
        store.append(&message(chat, &alice)).await.unwrap();
    }
    redis.command(&["HSET", &format!("ks:{{c.{}}}:meta", chat.hex()), "head", "1"]).await.unwrap();
    let append = message(chat, &alice);
    for _ in 0..2 {
        let refused = store.append(&append).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    }
    assert_eq!(store.heads(&[chat]).await.unwrap()[0].head, 1, "and nothing has happened");
    assert_eq!(store.outbox(chat, 9).await.unwrap().messages.len(), 3);
}

#[tokio::test]
async fn the_last_clone_takes_its_connections_along() {
    let redis = Redis::start().await;
    let store = connect(&redis).await;
    let connections = || async {
        let list = redis.command(&["CLIENT", "LIST"]).await.unwrap();
        list.lines().filter(|line| !line.is_empty()).count() - 1 // without the one that asks
    };
    assert_eq!(connections().await, 3);
    let clone = store.clone();
    drop(store);
    clone.ping().await.unwrap();
    drop(clone);
    let none = || async { (connections().await == 0).then_some(()) };
    wait_until("the connections to close", PATIENCE, none).await;
}

async fn keys(redis: &Redis) -> Vec<String> {
    let keys = redis.command(&["KEYS", "*"]).await.unwrap();
    keys.lines().filter(|key| !key.contains("{probe.")).map(str::to_owned).collect()
}

async fn content(redis: &Redis, key: &str) -> String {
    let kind = redis.command(&["TYPE", key]).await.unwrap();
    let read: &[&str] = match kind.as_str() {
        "hash" => &["HGETALL", key],
        "set" => &["SMEMBERS", key],
        "zset" => &["ZRANGE", key, "0", "-1"],
        "stream" => &["XRANGE", key, "-", "+"],
        "list" => &["LRANGE", key, "0", "-1"],
        _ => &["GET", key],
    };
    // A receipt says which device it was; that is what it is for.
    if key.starts_with("ks:{t.") { String::new() } else { redis.command(read).await.unwrap() }
}
