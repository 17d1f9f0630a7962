//! A user with very many objects costs time, and no connection.

use std::time::Duration;

use keepstep::{
    domain::{chat::ChatKind, id::ChatId},
    store::{
        Created, NewChat, Store, SubscribeFrom,
        redis::{RedisOptions, RedisStore},
    },
};
use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::PATIENCE;
use crate::stories::user::User;
use crate::support::{Edge, SlowLink, Stack, stays, wait_until};

/// Two sweeps, and some.
const SWEEPS: Duration = Duration::from_secs(12);

async fn command(stack: &Stack, args: &[&str]) -> String {
    stack.redis.command(args).await.expect("Redis is there")
}

/// Returns how often a command was called.
async fn calls(stack: &Stack, name: &str) -> u64 {
    let (info, start) = (command(stack, &["INFO", "commandstats"]).await, format!("cmdstat_{name}:calls="));
    let line = info.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |line| line.split(',').next().and_then(|count| count.parse().ok()).expect("a count"))
}

#[tokio::test]
async fn offsets_of_1100_chats_that_were_left_close_nobody() {
    let world = Deployment::Stack.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    // As earlier builds left them.
    let mut seeds = vec!["HSET".to_owned(), format!("ks:{{u.{}}}:read", alice.name)];
    for _ in 0..1100 {
        seeds.extend([ChatId::random().hex(), "7 -".to_owned()]);
    }
    command(world.stack.as_ref().unwrap(), &seeds.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let mut said = 0;
    stays(SWEEPS, async || {
        said += 1;
        bobs.says(&chat, "hello").await;
        phone.hears(&chat, said).await;
        phone.reads(&chat, said).await;
        web.gets(json!({ "type": "read", "chat": chat, "seq": said })).await;
        assert_eq!((phone.memory().closed.clone(), web.memory().closed.clone()), (None, None));
    })
    .await;
}

#[tokio::test]
async fn a_thousand_chats_that_nobody_told_of_are_looked_at_together() {
    let stack = Stack::start().await;
    let store = Store::Redis(RedisStore::connect(&stack.redis.url(), RedisOptions::default()).await.unwrap());
    // The reconciler reads hashes of each chat, too, and so does who brings their names up to date. Here these are the work of an
    // edge that isn't there.
    for work in ["reconcile", "names"] {
        assert!(store.try_acquire_lease(work, "nobody", Duration::from_secs(3600)).await.unwrap());
    }
    let edge = Edge::start(stack.edge()).await;
    edge.ready().await;
    let alice = User::new("alice", [edge.listen()].into());
    let phone = alice.phone(0).await;
    // Written behind the edges' backs, as if all signals were lost: the sweep finds them.
    let user = alice.name.parse().unwrap();
    let mut chats = Vec::new();
    for _ in 0..1000 {
        let new = NewChat {
            id: ChatId::random(),
            kind: ChatKind::Group,
            name: None,
            public: false,
            password_hash: None,
            owner: alice.name.parse().unwrap(),
            with: None,
            entry: keepstep::domain::chat::Entry::AtOnce,
            node: stack.nsqd[0].http(),
            created: 1,
        };
        let Created::New(chat) = store.create_chat(&new).await.unwrap() else { panic!("it is new") };
        chats.push(chat.id);
    }
    let read = async || calls(&stack, "hgetall").await + calls(&stack, "hmget").await;
    let before = read().await;
    for chat in &chats {
        store
            .subscribe_device(*chat, &user, phone.id.parse().unwrap(), SubscribeFrom::Joined)
            .await
            .unwrap()
            .unwrap();
    }
    phone
        .until("all chats", |memory| {
            chats.iter().all(|chat| memory.chat(&chat.to_string()).is_some()).then_some(())
        })
        .await;
    let asked = read().await - before;
    println!("{asked} hashes were read");
    assert_eq!(phone.memory().closed, None);
    // Each chat's record, and its head once its doorbell is heard; everything else once for many of them, and what goes on all
    // the time.
    assert!(asked < 2100, "{asked} hashes were read for 1,000 chats");
}

#[tokio::test]
async fn after_an_interruption_users_are_read_again_a_few_at_a_time() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let mut phones = Vec::new();
    for n in 0..300 {
        let user = User::new(&format!("user-{n}"), [edge.listen()].into());
        user.group("of one").await;
        phones.push(user.phone(0).await);
    }
    // No answer comes back within 200 ms, so what is asked in less than that was under way together; at most once more, as
    // each answer of those before makes room for another.
    link.takes(100..101);
    link.reads_within(Duration::ZERO);
    stack.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("Redis is there");
    let mut most = 0;
    stays(Duration::from_secs(6), async || most = most.max(link.reads_within(Duration::from_millis(150))))
        .await;
    println!("at most {most} users were read at a time");
    assert!(most >= 2, "they were read again");
    assert!(most <= 2 * 32 + 20, "{most} users were read at a time");
    assert!(phones.iter().all(|phone| phone.memory().closed.is_none()));
    wait_until("a subscription", PATIENCE, async || {
        let answer = stack.redis.command(&["PUBSUB", "NUMSUB", "ks:{u.user-7}:signal"]).await.ok()?;
        answer.ends_with('1').then_some(())
    })
    .await;
}
