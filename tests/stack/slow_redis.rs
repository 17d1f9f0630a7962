//! Redis takes 300 to 1,000 ms per answer, for half a minute, with many devices: no device is disconnected.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::stories::client::PATIENCE;
use crate::stories::device::Device;
use crate::stories::user::User;
use crate::support::{Edge, SlowLink, Stack, stays, wait_until};

/// Users who exchange messages, and idle ones.
const USERS: usize = 48;
const CROWD: usize = 240;
const WEBS: usize = 4;
const AT_A_TIME: usize = 2;
/// Three leases.
const SLOW: Duration = Duration::from_secs(18);

/// Returns a phone and its web sessions.
async fn devices_of(user: &User) -> Vec<Device> {
    let mut devices = vec![user.phone(0).await];
    for _ in 0..WEBS {
        devices.push(user.web(0).await);
    }
    devices
}

#[tokio::test]
async fn nobody_is_sent_away_while_redis_is_slow() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let user = |name: String| User::new(&name, [edge.listen()].into());
    // So many of them come at a time.
    let pairs = (0..USERS / 2).map(|n| {
        let pair = [user(format!("user-{}", 2 * n)), user(format!("user-{}", 2 * n + 1))];
        async move {
            let theirs = [devices_of(&pair[0]).await, devices_of(&pair[1]).await].into_iter().flatten();
            let chat = pair[0].direct(&pair[1]).await;
            theirs.map(|device| (chat.clone(), device)).collect::<Vec<_>>()
        }
    });
    let devices = stream::iter(pairs).buffer_unordered(AT_A_TIME).concat().await;
    for (chat, device) in &devices {
        device.until("the chat", |memory| memory.chat(chat).map(drop)).await;
    }
    let crowd = (0..CROWD).map(|n| user(format!("crowd-{n}")));
    let crowd = crowd.map(|user| async move {
        let devices = devices_of(&user).await;
        // They have their past already, as most have that are only there.
        for web in &devices[1..] {
            web.requests(json!({ "type": "ready" })).await.expect("ready");
        }
        devices
    });
    let crowd = stream::iter(crowd).buffer_unordered(AT_A_TIME).concat().await;
    let all = || devices.iter().map(|(_, device)| device).chain(&crowd);
    println!("{} devices", all().count());

    link.takes(150..500);
    let mut said = 0;
    stays(SLOW, async || {
        said += 1;
        let phones = devices.iter().step_by(2 * (WEBS + 1));
        let sends = phones.map(|(chat, phone)| async move {
            phone.says(chat, "slowly").await;
            phone.reads(chat, said).await;
        });
        join_all(sends).await;
        let closed = all().filter(|device| device.memory().lost || device.memory().closed.is_some());
        let closed: Vec<_> = closed.map(|device| device.memory().closed.clone()).collect();
        assert!(
            closed.is_empty(),
            "{} were closed: {:?}. (The link was up to {:?} longer than it was to be.)",
            closed.len(),
            &closed[..closed.len().min(5)],
            link.overdue()
        );
    })
    .await;
    println!(
        "{said} messages in each chat; the link was up to {:?} longer than it was to be",
        link.overdue()
    );
    for (chat, device) in &devices {
        device.hears(chat, said).await;
    }
    link.takes(0..0);
    wait_until("all devices to be counted", PATIENCE, async || {
        let mains = edge.metric("keepstep_connections{kind=\"main\"}").await;
        let subs = edge.metric("keepstep_connections{kind=\"sub\"}").await;
        ((mains + subs) as usize == all().count()).then_some(())
    })
    .await;
}

/// Each is another channel to subscribe or unsubscribe, and nobody waits for the confirmation of others.
#[tokio::test]
async fn devices_come_and_go_while_redis_is_far() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let mut phones = Vec::new();
    for n in 0..32 {
        let user = User::new(&format!("user-{n}"), [edge.listen()].into());
        user.group("of one").await;
        let mut phone = user.phone(0).await;
        phone.leaves().await;
        phones.push(phone);
    }
    link.takes(340..360);
    let visits = phones.iter_mut().enumerate().map(|(n, phone)| async move {
        // Not all in the same moment.
        tokio::time::sleep(Duration::from_millis(300) * n as u32).await;
        let begun = Instant::now();
        phone.connects(0).await;
        let took = begun.elapsed();
        phone.leaves().await;
        took
    });
    let took = join_all(visits).await;
    println!("{:?} at most", took.iter().max());
}

#[tokio::test]
async fn acknowledgements_wait_for_none_of_the_own_sends_while_redis_is_far() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let [alice, bob] = ["alice", "bob"].map(|name| User::new(name, [edge.listen()].into()));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    bobs.says_many(&chat, "before", 5).await;
    phone.hears(&chat, 5).await;
    link.takes(440..460);
    let begun = Instant::now();
    let acked = async {
        // Behind the sends, on the wire.
        tokio::time::sleep(Duration::from_millis(10)).await;
        phone.acks(&chat, 5).await;
        begun.elapsed()
    };
    let ((acked, sent), all) =
        tokio::join!(async { tokio::join!(acked, phone.says_many(&chat, "on and on", 12)) }, async {
            phone.hears(&chat, 17).await
        });
    let () = all;
    let seqs: Vec<_> = sent.iter().map(|sent| sent.seq).collect();
    assert!(seqs.iter().copied().eq(6..=17), "in their order: {seqs:?}");
    println!("acknowledged after {acked:?}, all after {:?}", begun.elapsed());
    assert!(acked < begun.elapsed() / 2, "it took {acked:?} of {:?}", begun.elapsed());
}

/// A lease is renewed every 2 s and lasts 6 s: a renewal that fails in one round is retried before the lease is over.
#[tokio::test]
async fn a_redis_that_stands_still_for_three_seconds_sends_nobody_away() {
    let stack = Stack::start().await;
    let edge = Edge::start(stack.edge()).await;
    edge.ready().await;
    let phones = (0..200).map(|n| {
        let user = User::new(&format!("user-{n}"), [edge.listen()].into());
        async move { user.phone(0).await }
    });
    let phones: Vec<Device> = stream::iter(phones).buffer_unordered(AT_A_TIME).collect().await;
    let all_are_there = async |long| {
        stays(long, async || {
            // Whoever says something is closed at once when the lease is over.
            join_all(phones.iter().map(|phone| phone.requests(json!({ "type": "ping" })))).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        })
        .await;
    };
    for _ in 0..2 {
        let stands_still = async {
            stack.redis.sigstop();
            tokio::time::sleep(Duration::from_secs(3)).await;
            stack.redis.sigcont();
        };
        // In the end every lease of before is over.
        tokio::join!(stands_still, all_are_there(Duration::from_secs(6)));
    }
}

/// An edge without CPU time for a while accepts the answers of that time, instead of taking Redis for down.
#[tokio::test]
async fn what_redis_answers_while_an_edge_stands_still_counts() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let [alice, bob] = ["alice", "bob"].map(|name| User::new(name, [edge.listen()].into()));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says(&chat, "before").await;
    link.takes(200..201);
    let stands_still = async {
        // Its questions are under way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        edge.sigstop();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        edge.sigcont();
    };
    // Each of these must be accepted.
    tokio::join!(phone.says_many(&chat, "on and on", 5), bobs.says_many(&chat, "and on", 5), stands_still);
    for device in [&phone, &bobs] {
        device.hears(&chat, 11).await;
    }
}
