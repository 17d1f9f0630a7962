//! Faults that a deployment must survive: a process dies, or isn't up yet. These need the real stack; stories of both
//! deployments are in `tests/stories`.

use std::time::Duration;

use serde_json::json;

use crate::stories::client::{Api, Came, PATIENCE, Socket, soon};
use crate::stories::device::{Device, Sent};
use crate::stories::start::refused;
use crate::stories::world::{Pair, topic};
use crate::stories::{Deployment, World};
use crate::support::{EdgeConfig, http_get, stays, wait_until};

/// Sends until it is acknowledged, on any live edge, with the same key each time.
pub(crate) async fn insists(world: &World, token: &str, chat: &str, content: &str) -> Sent {
    let key = uuid::Uuid::new_v4().to_string();
    let body = json!({ "key": key, "kind": "text", "content": content });
    let path = format!("/v1/chats/{chat}/messages");
    wait_until("a send to be acknowledged", PATIENCE, || async {
        for edge in &world.edges {
            if http_get(&edge.ops(), "/healthz").await.is_err() {
                continue;
            }
            let answer = Api::new(&edge.listen(), token).post(&path, body.clone()).await;
            if answer.status == 200 || answer.status == 201 {
                let number = |name: &str| answer.body[name].as_u64().expect("a number");
                return Some(Sent { seq: number("seq"), at: number("at"), key: key.clone() });
            }
            assert_eq!(answer.status, 503, "{}", answer.text);
        }
        None
    })
    .await
}

/// Returns the nsqd that carries the chat.
pub(crate) async fn carrier(world: &World, chat: &str) -> usize {
    for (n, nsqd) in world.stack.as_ref().unwrap().nsqd.iter().enumerate() {
        let stats = nsqd.stats(Some(&topic(chat))).await;
        if stats["topics"].as_array().is_some_and(|topics| !topics.is_empty()) {
            return n;
        }
    }
    panic!("no nsqd has {chat}");
}

/// Waits until the log of a chat has at most this many messages: it is trimmed shortly after it has grown.
pub(crate) async fn trimmed(world: &World, chat: &str, most: u64) {
    let log = format!("ks:{{c.{}}}:log", chat.replace('-', ""));
    wait_until("the log to be trimmed", PATIENCE, || async {
        let length = world.stack.as_ref()?.redis.command(&["XLEN", &log]).await.ok()?;
        length.parse::<u64>().is_ok_and(|length| length <= most).then_some(())
    })
    .await;
}

/// Returns a pair with 20 messages, and a disconnected web session of Alice's that has all of them.
pub(crate) async fn after_a_talk(world: &World) -> (Pair, Device) {
    let pair = world.pair().await;
    let mut web = pair.alice.web(1).await;
    pair.phone.says_many(&pair.chat, "before", 20).await;
    for device in [&pair.phone, &pair.bobs, &web] {
        device.hears(&pair.chat, 20).await;
        device.acks(&pair.chat, 20).await;
    }
    web.leaves().await;
    (pair, web)
}

/// Checks that all devices have all acknowledged messages, and the same.
async fn agree(devices: &[&Device], chat: &str, sent: &[Sent]) {
    let last = sent.iter().map(|sent| sent.seq).max().expect("something was sent");
    for device in devices {
        device.hears(chat, last).await;
        let memory = device.memory();
        let messages = &memory.chat(chat).unwrap().messages;
        for one in sent {
            assert_eq!(messages[&one.seq]["key"], json!(one.key), "message {}", one.seq);
        }
    }
    let first = devices[0].memory().chat(chat).unwrap().messages.clone();
    for device in devices {
        assert_eq!(device.memory().chat(chat).unwrap().messages, first);
    }
}

#[tokio::test]
async fn an_nsqd_is_killed_in_mid_conversation() {
    let mut world = Deployment::Stack.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    let mut sent = phone.says_many(&chat, "before", 50).await;
    bobs.hears(&chat, 20).await;
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].kill9();
    // A send is acknowledged all the same: the log is the durable point. Live delivery goes on by the log.
    sent.extend(phone.says_many(&chat, "while it is dead", 50).await);
    agree(&[&phone, &bobs], &chat, &sent).await;
    bobs.leaves().await;
    sent.extend(phone.says_many(&chat, "and Bob away", 50).await);
    world.stack.as_mut().unwrap().nsqd[carrier].restart().await;
    sent.extend(phone.says_many(&chat, "after", 50).await);
    // What was acknowledged while it was dead reaches the queue all the same: nothing is left to the log alone.
    wait_until("what Bob missed in his queue", PATIENCE, || async {
        (world.queue(&chat, &bobs.id).await.depth >= 100).then_some(())
    })
    .await;
    bobs.connects(0).await;
    agree(&[&phone, &bobs], &chat, &sent).await;
    // The queues are there again, each with its device, and drain.
    for device in [&phone, &bobs] {
        device.acks(&chat, 200).await;
        wait_until("a drained queue", PATIENCE, || async {
            let queues = world.queues(&topic(&chat), "d.").await;
            (queues.len() == 2 && queues.iter().all(|queue| queue.depth + queue.in_flight == 0)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_nsqd_loses_its_disk() {
    let mut world = Deployment::Stack.start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair().await;
    let mut sent = phone.says_many(&chat, "before", 10).await;
    bobs.hears(&chat, 10).await;
    bobs.leaves().await;
    sent.extend(phone.says_many(&chat, "while away", 100).await);
    let carrier = carrier(&world, &chat).await;
    world.stack.as_mut().unwrap().nsqd[carrier].restart_empty().await;
    sent.extend(phone.says_many(&chat, "after", 20).await);
    bobs.connects(0).await;
    agree(&[&phone, &bobs], &chat, &sent).await;
    wait_until("both queues", PATIENCE, || async {
        (world.queues(&topic(&chat), "d.").await.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_nobody_holds_any_more_is_told_as_a_gap() {
    let mut world =
        Deployment::Stack.with("KEEPSTEP_LOG_MESSAGES", "50").with("KEEPSTEP_LOG_KEEP", "50").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    let sent = phone.says_many(&chat, "said", 200).await;
    phone.hears(&chat, 200).await;
    let carrier = carrier(&world, &chat).await;
    trimmed(&world, &chat, 100).await;
    // The queue's disk is lost, and the log is only the recent past.
    world.stack.as_mut().unwrap().nsqd[carrier].restart_empty().await;
    let mut socket = Socket::open(&world.addresses()[1], &bobs.token).await;
    assert_eq!(socket.frame().await["type"], "welcome");
    let (mut next, mut seen) = (1, Vec::new());
    while next <= 200 {
        let frame = socket.frame().await;
        match frame["type"].as_str() {
            Some("message") => {
                assert_eq!(frame["seq"], next);
                assert_eq!(frame["key"], json!(sent[usize::try_from(next).unwrap() - 1].key));
                seen.push(next);
                next += 1;
            }
            Some("gap") => {
                assert_eq!((&frame["chat"], &frame["from"]), (&json!(chat), &json!(next)));
                next = frame["to"].as_u64().unwrap() + 1;
            }
            _ => {}
        }
        socket.send(&json!({ "type": "ack", "chat": chat, "seq": next - 1 })).await;
    }
    // The rest is there, and not more than the log was told to keep was lost of it.
    assert!(seen.len() >= 50 && seen.len() < 200 && seen.ends_with(&[198, 199, 200]), "{seen:?}");
    phone.says(&chat, "on").await;
    assert_eq!(socket.frame_of("message").await["seq"], 201);
}

#[tokio::test]
async fn an_edge_is_killed_in_mid_conversation() {
    let mut world = Deployment::Stack.start().await;
    let Pair { alice, mut phone, mut bobs, chat, .. } = world.pair().await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.stops_acking();
    let mut sent = phone.says_many(&chat, "before", 40).await;
    bobs.hears(&chat, 40).await;
    bobs.acks(&chat, 15).await;

    // The sender's edge dies between a send and its acknowledgement, perhaps.
    for n in 0..20 {
        phone.puts(json!({ "type": "send", "id": 1_000_000 + n, "chat": chat, "key": uuid::Uuid::new_v4(),
            "kind": "text", "content": "perhaps" }));
    }
    phone.memory().deaf = true;
    world.edges[0].kill9();
    phone.lost().await;
    phone.memory().deaf = false;
    sent.push(insists(&world, &alice.token, &chat, "on the other edge").await);
    phone.connects(1).await;
    sent.extend(phone.says_many(&chat, "there", 20).await);
    bobs.hears(&chat, sent.last().unwrap().seq).await;

    // And the receiver's, with what it held unacknowledged.
    world.edges[0].restart().await;
    world.edges[0].ready().await;
    world.edges[1].kill9();
    bobs.lost().await;
    phone.lost().await;
    bobs.memory().acking = true;
    bobs.connects(0).await;
    assert!(bobs.memory().chat(&chat).unwrap().cursor >= 15);
    phone.connects(0).await;
    sent.extend(phone.says_many(&chat, "and back", 20).await);
    agree(&[&phone, &bobs], &chat, &sent).await;
    world.edges[1].restart().await;
    world.edges[1].ready().await;
    bobs.reconnects(1).await;
    sent.push(phone.says(&chat, "the end").await);
    agree(&[&phone, &bobs], &chat, &sent).await;
}

#[tokio::test]
async fn an_edge_that_was_frozen_is_fenced() {
    let fast = Deployment::Stack.with("KEEPSTEP_LEASE", "1s").with("KEEPSTEP_LEASE_RENEWAL", "300ms");
    let world = fast.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(1).await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    let mut old = Socket::open(&world.addresses()[0], &bobs.token).await;
    assert_eq!(old.frame().await["type"], "welcome");
    phone.says_many(&chat, "before", 5).await;
    for seq in 1..=5 {
        assert_eq!(old.frame_of("message").await["seq"], seq);
    }
    // It holds five that nobody acknowledged, and sleeps over its lease.
    world.edges[0].sigstop();
    bobs.connects(1).await;
    let mut sent = phone.says_many(&chat, "on the other edge", 20).await;
    bobs.hears(&chat, 25).await;
    bobs.acks(&chat, 25).await;
    stays(Duration::from_millis(1500), async || sent.push(phone.says(&chat, "meanwhile").await)).await;
    // The old connection's last words come too late; the server's, too.
    old.send(&json!({ "type": "ack", "chat": chat, "seq": 1 })).await;
    old.send(&json!({ "type": "read", "chat": chat, "seq": 1 })).await;
    world.edges[0].sigcont();
    loop {
        match soon("the end of the old connection", old.come()).await {
            Came::Frame(text) => {
                assert!(!text.contains(r#""type":"message""#), "a frozen edge spoke: {text}")
            }
            Came::Closed(code, _) => break assert!([4304, 4409].contains(&code), "{code}"),
            Came::Lost => break,
        }
    }
    let head = sent.last().unwrap().seq;
    bobs.hears(&chat, head).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(1..=head));
    bobs.acks(&chat, head).await;
    bobs.reconnects(0).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().cursor, head);
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_not_trusted() {
    let mut world = Deployment::Stack.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "said", 20).await;
    bobs.hears(&chat, 20).await;
    let stack = world.stack.as_mut().unwrap();
    let name = stack.redis.command(&["GET", "ks:{store}"]).await.unwrap();
    stack.redis.restart_empty().await;

    let readiness = async |status: u16, what: &str| {
        for edge in 0..world.edges.len() {
            wait_until(what, PATIENCE, || async {
                let (answered, said) = world.readiness(edge).await?;
                (answered == status && said.contains(what)).then_some(())
            })
            .await;
        }
    };
    readiness(503, "its data is gone").await;
    // Nothing is accepted, nothing is numbered anew, nothing is said to be unknown.
    let group = json!({ "kind": "group", "id": "00000000-0000-4000-8000-000000000001" });
    let message = json!({ "key": uuid::Uuid::new_v4().to_string(), "kind": "text", "content": "now?" });
    for edge in [0, 1] {
        assert_eq!(alice.api(edge).post("/v1/chats", group.clone()).await.status, 503);
        let path = format!("/v1/chats/{chat}/messages");
        assert_eq!(alice.api(edge).post(&path, message.clone()).await.status, 503);
    }
    for mut device in [phone, bobs] {
        assert_eq!(device.closed().await.0, 4304);
    }
    // An edge that starts now doesn't take it for a new one.
    let stack = world.stack.as_ref().unwrap();
    let config = EdgeConfig::on(&stack.redis, &stack.nsqd, Some(&stack.lookupd));
    refused(config, &["holds nothing of Keepstep", "Bring its data back"]).await;

    // What makes it the right one is the name; with the name its data would be back, too.
    stack.redis.command(&["SET", "ks:{store}", name.trim()]).await.unwrap();
    readiness(200, "true").await;
}

#[tokio::test]
async fn redis_is_killed_in_mid_conversation() {
    let mut world = Deployment::Stack.start().await;
    let Pair { alice, bob, mut phone, mut bobs, chat } = world.pair().await;
    let mut sent = phone.says_many(&chat, "before", 30).await;
    bobs.hears(&chat, 30).await;
    bobs.acks(&chat, 30).await;
    assert_eq!(bobs.reads(&chat, 25).await, 25);
    world.stack.as_mut().unwrap().redis.kill9();
    world.stack.as_mut().unwrap().redis.restart().await;
    for n in 0..10 {
        sent.push(insists(&world, &alice.token, &chat, &format!("after {n}")).await);
    }
    assert!(sent.iter().map(|sent| sent.seq).eq(1..=40), "{sent:?}");
    // The sockets may have lived through it or not; the devices do what devices do.
    for device in [&mut phone, &mut bobs] {
        if device.memory().closed.is_some() || device.memory().lost {
            device.forgets_its_socket();
            device.connects(0).await;
        }
    }
    agree(&[&phone, &bobs], &chat, &sent).await;
    assert_eq!(bob.api(1).get("/v1/offsets").await.ok(), json!({ (chat.as_str()): 25 }));
    // And events flow again.
    let bobs_web = bob.web(0).await;
    bobs.reads(&chat, 40).await;
    bobs_web.gets(json!({ "type": "read", "chat": chat, "seq": 40 })).await;
}
