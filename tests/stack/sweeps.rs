//! What sweeps cost Redis: a fixed number of commands per second, however much exists; and an event costs what it is about.

use std::collections::BTreeSet;
use std::time::Duration;

use keepstep::domain::chat::{ChatKind, Entry};
use keepstep::domain::id::{ChatId, UserId};
use keepstep::store::redis::{RedisOptions, RedisStore};
use keepstep::store::{Created, NewChat, Store};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::faults::carrier;
use crate::stories::client::PATIENCE;
use crate::stories::{Deployment, World};
use crate::support::{Edge, Redis, Stack, wait_until};

/// Commands that may be executed per second, all sweeps and heartbeats together, while nobody is online.
const MOST: f64 = 150.0;

/// Returns how many commands Redis has executed, those of scripts included.
async fn executed(redis: &Redis) -> u64 {
    let info = redis.command(&["INFO", "commandstats"]).await.expect("Redis is there");
    let calls =
        info.lines().filter_map(|line| line.split_once(":calls=")?.1.split(',').next()?.parse::<u64>().ok());
    calls.sum()
}

/// Returns how many commands Redis executes per second, over a while.
async fn rate(redis: &Redis) -> f64 {
    const WHILE: Duration = Duration::from_secs(20);
    let before = executed(redis).await;
    sleep(WHILE).await;
    (executed(redis).await - before) as f64 / WHILE.as_secs_f64()
}

async fn connect(redis: &Redis) -> Store {
    Store::Redis(RedisStore::connect(&redis.url(), RedisOptions::default()).await.expect("Redis is there"))
}

/// Makes direct chats of users whom nobody else talks to.
async fn make(store: &Store, node: &str, count: usize) -> Vec<ChatId> {
    let user = |name: String| name.parse::<UserId>().expect("a user");
    let mut chats = Vec::new();
    for _ in 0..count {
        let id = ChatId::random();
        let new = NewChat {
            id,
            kind: ChatKind::Direct,
            name: None,
            public: false,
            password_hash: None,
            owner: user(format!("a-{id}")),
            with: Some(user(format!("b-{id}"))),
            entry: Entry::AtOnce,
            node: node.to_owned(),
            created: 1,
        };
        assert!(matches!(store.create_chat(&new).await.expect("it is created"), Created::New(_)));
        chats.push(id);
    }
    chats
}

async fn went_round(edge: &Edge) -> f64 {
    let sample = "keepstep_sweep_round_seconds{sweep=\"reconcile\"}";
    wait_until("a round", 6 * PATIENCE, || async {
        let took = edge.metric(sample).await;
        (took > 0.0).then_some(took)
    })
    .await
}

#[tokio::test]
async fn while_nobody_is_online_redis_has_little_to_do_however_many_chats_there_are() {
    let stack = Stack::start().await;
    let store = connect(&stack.redis).await;
    let node = stack.nsqd[0].http();
    make(&store, &node, 100).await;
    let edge = Edge::start(stack.edge()).await;
    edge.ready().await;
    went_round(&edge).await;
    let few = rate(&stack.redis).await;
    make(&store, &node, 1_900).await;
    sleep(Duration::from_secs(12)).await;
    let many = rate(&stack.redis).await;
    eprintln!("{few:.1} commands per second with 100 chats, {many:.1} with 2,000");
    assert!(few <= MOST && many <= MOST, "{few} with 100 chats, {many} with 2,000");
}

/// The table in docs/operating.md stands on this: 4 commands for a chat, 1 for each of its users, 5 more when logs are looked
/// at, and 256 for the pages.
#[tokio::test]
async fn a_round_costs_what_the_table_says() {
    const CHATS: usize = 200;
    let stack = Stack::start().await;
    let store = connect(&stack.redis).await;
    let chats = make(&store, &stack.nsqd[0].http(), CHATS).await;
    let watched = Watched::start(&stack.redis).await;
    let edge = Edge::start(stack.edge().set("KEEPSTEP_RECONCILE", "1h")).await;
    edge.ready().await;
    let took = went_round(&edge).await;
    assert!(took < 5.0, "who takes over compares the first 5,000 chats at once, and took {took} s");
    let commands = watched.end().await;
    let of_chats = |what: &str| commands.iter().filter(|command| command.contains(what)).count();
    let counts = [
        (of_chats("\"SSCAN\""), 256, "pages"),
        (of_chats("}:meta\" \"node\""), CHATS, "nodes"),
        (of_chats("\"HGETALL\" \"ks:{c."), 2 * CHATS, "members and subscriptions"),
        (of_chats("\"ZRANGE\" \"ks:{c."), CHATS, "outboxes"),
        (of_chats("\"HSCAN\" \"ks:{u."), 2 * CHATS, "devices"),
        (of_chats("\"bytes\" \"scanned\" \"keyed\""), CHATS, "logs"),
        (of_chats("\"EXISTS\" \"ks:{c."), 2 * CHATS, "what is unread"),
        (of_chats("\"XLEN\" \"ks:{c."), CHATS, "sizes"),
        (of_chats("\"LINDEX\" \"ks:{c."), CHATS, "ages"),
    ];
    for (found, expected, what) in counts {
        assert_eq!(found, expected, "{what}");
    }
    // And nothing else of a chat. (The first edge looks once for names of older builds.)
    let of_one: Vec<_> = commands
        .iter()
        .filter(|command| command.contains(&chats[0].hex()) && !command.contains("\"name\""))
        .collect();
    assert_eq!(of_one.len(), 9, "{of_one:#?}");
}

/// What ends it.
const END: &str = "nothing more is watched";

/// Every command that Redis executes, as it says itself.
struct Watched {
    lines: JoinHandle<Vec<String>>,
    redis: String,
}

impl Watched {
    async fn start(redis: &Redis) -> Self {
        let mut stream = TcpStream::connect(redis.addr()).await.expect("Redis is there");
        stream.write_all(b"MONITOR\r\n").await.expect("it listens");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next_line().await.expect("an answer").as_deref(), Some("+OK"));
        let read = async move {
            let mut all = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains(END) {
                    break;
                }
                all.push(line);
            }
            all
        };
        Self { lines: tokio::spawn(read), redis: redis.addr() }
    }

    async fn end(self) -> Vec<String> {
        crate::support::redis_command(&self.redis, &["ECHO", END]).await.expect("Redis is there");
        self.lines.await.expect("all lines")
    }
}

/// Returns the chats whose subscriptions were read.
fn compared(commands: &[String]) -> BTreeSet<String> {
    let read =
        commands.iter().filter_map(|line| line.split_once("\"HGETALL\" \"ks:{c.")?.1.split_once("}:from\""));
    read.map(|(chat, _)| chat.to_owned()).collect()
}

#[tokio::test]
async fn the_restart_of_an_nsqd_compares_its_own_chats_and_no_others() {
    let mut world: World = Deployment::Stack.with("KEEPSTEP_RECONCILE", "1h").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let mut chats = [BTreeSet::new(), BTreeSet::new()];
    while chats.iter().any(|chats| chats.len() < 3) {
        let chat = alice.group("a group").await;
        chats[carrier(&world, &chat).await].insert(chat.replace('-', ""));
    }
    phone.leaves().await;
    drop(bobs);
    // What a new edge looks at is behind it, and a listing has them.
    for edge in &world.edges {
        let _ = edge.metric("keepstep_sweep_round_seconds{sweep=\"reconcile\"}").await;
    }
    sleep(Duration::from_secs(4)).await;
    let stack = world.stack.as_mut().unwrap();
    let watched = Watched::start(&stack.redis).await;
    stack.nsqd[0].outlives_its_second().await;
    stack.nsqd[0].restart().await;
    sleep(Duration::from_secs(12)).await;
    let found = compared(&watched.end().await);
    assert_eq!(found, chats[0], "of {chats:?}");
}
