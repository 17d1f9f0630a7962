//! Every answer of Redis takes 300 to 1,000 ms, for half a minute, and an edge has many devices: slow, and nobody is sent away.

use std::time::{Duration, Instant};

use crate::stories::client::PATIENCE;
use crate::stories::user::User;
use crate::support::{Edge, SlowLink, Stack, stays, wait_until};

/// Who talk to each other; and who are only there.
const USERS: usize = 48;
const CROWD: usize = 240;
const WEBS: usize = 4;
/// Five leases.
const SLOW: Duration = Duration::from_secs(30);

#[tokio::test]
async fn nobody_is_sent_away_while_redis_is_slow() {
    let stack = Stack::start().await;
    let link = SlowLink::start(&stack.redis.addr()).await;
    let edge = Edge::start_behind(&link, stack.edge()).await;
    let users: Vec<User> =
        (0..USERS).map(|n| User::new(&format!("user-{n}"), [edge.listen()].into())).collect();
    let mut devices = Vec::new();
    for pair in users.chunks(2) {
        let mut theirs = Vec::new();
        for user in pair {
            theirs.push(user.phone(0).await);
            for _ in 0..WEBS {
                theirs.push(user.web(0).await);
            }
        }
        let chat = pair[0].direct(&pair[1]).await;
        devices.extend(theirs.into_iter().map(|device| (chat.clone(), device)));
    }
    for (chat, device) in &devices {
        device.until("the chat", |memory| memory.chat(chat).map(drop)).await;
    }
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        let user = User::new(&format!("crowd-{n}"), [edge.listen()].into());
        crowd.push(user.phone(0).await);
        for _ in 0..WEBS {
            crowd.push(user.web(0).await);
        }
    }
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
        futures_util::future::join_all(sends).await;
        let closed = all().filter(|device| device.memory().lost || device.memory().closed.is_some());
        let closed: Vec<_> = closed.map(|device| device.memory().closed.clone()).collect();
        assert!(closed.is_empty(), "{} were closed: {:?}", closed.len(), &closed[..closed.len().min(5)]);
    })
    .await;
    println!("{said} messages in each chat");
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

/// Each of them is another channel to be heard, or to be heard no more, and nobody waits for the others' to be confirmed.
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
    let took = futures_util::future::join_all(visits).await;
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
