//! Users join and leave chats while their devices are connected.

use serde_json::{Value, json};

use super::client::{Came, PATIENCE, Socket, soon};
use super::user::{User, id};
use super::world::topic;
use super::{Deployment, World};
use crate::support::{stays, wait_until};

pub async fn a_direct_chat_is_one_per_pair(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    // Both at once, from both sides, on both edges.
    let (a, b, c) = tokio::join!(alice.direct(&bob), bob.direct(&alice), alice.direct(&bob));
    assert!(a == b && b == c, "{a} {b} {c}");
    let made = bob.api(1).post("/v1/chats", json!({ "kind": "direct", "with": alice.name })).await.ok();
    assert_eq!((&made["id"], &made["kind"], &made["head"]), (&json!(a), &json!("direct"), &json!(0)));
    assert_ne!(alice.direct(&carol).await, a);

    for body in [
        json!({ "kind": "direct" }),
        json!({ "kind": "direct", "with": alice.name }),
        json!({ "kind": "direct", "with": bob.name, "name": "a name" }),
        json!({ "kind": "direct", "with": "no such * user" }),
        json!({ "kind": "direct", "with": "" }),
        json!({ "kind": "group", "with": bob.name, "name": "a name" }),
        json!({ "kind": "else" }),
    ] {
        let answer = alice.api(0).post("/v1/chats", body.clone()).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (400, Some("bad_field")), "{body}");
    }
    // An id of the client's own makes a retry the same group; somebody else's is taken.
    let own = uuid::Uuid::new_v4().to_string();
    let body = json!({ "kind": "group", "name": "us", "id": own });
    assert_eq!(id(&alice.api(0).post("/v1/chats", body.clone()).await.with(201)), own);
    assert_eq!(id(&alice.api(1).post("/v1/chats", body.clone()).await.ok()), own);
    carol.api(0).post("/v1/chats", body).await.problem(409, "conflict");
}

pub async fn a_chat_that_begins_now_works_on_the_open_socket(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let group = alice.group("us").await;
    for device in [&phone, &web] {
        let joined = device.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
        let expected = json!({
            "id": group, "kind": "group", "name": "us", "head": 0, "read": 0, "cursor": 0, "from": 0,
        });
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(joined["entry"][name], *value, "{name} of {joined}");
        }
    }
    phone.says_many(&group, "alone", 4).await;
    web.hears(&group, 4).await;

    alice.invites(&group, &bob).await;
    let joined = bobs.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    assert_eq!((&joined["entry"]["from"], &joined["entry"]["cursor"]), (&json!(4), &json!(4)));
    for device in [&phone, &web] {
        device
            .gets(json!({ "type": "chat", "event": "member_joined", "chat": group, "user": bob.name }))
            .await;
    }
    bobs.says(&group, "here I am").await;
    phone.says(&group, "welcome").await;
    for device in [&phone, &web, &bobs] {
        device.hears(&group, 6).await;
    }
    assert!(bobs.memory().chat(&group).unwrap().arrived.iter().copied().eq(5..=6));
    // An invitation that comes twice is no news.
    alice.invites(&group, &bob).await;
    bobs.says(&group, "still").await;
    bobs.hears(&group, 7).await;
    assert!(bobs.memory().inbox.iter().all(|frame| frame["event"] != "joined"));
}

pub async fn who_leaves_gets_nothing_more(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, bobs_web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let group = alice.group("us").await;
    alice.invites(&group, &bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    bobs_web.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    phone.says_many(&group, "together", 5).await;
    bobs.hears(&group, 5).await;
    bobs_web.hears(&group, 5).await;

    // In mid-conversation; a message after `left` would be a fault of the device's.
    let (_, ()) = tokio::join!(phone.says_many(&group, "on and on", 100), bob.leaves(&group));
    for device in [&bobs, &bobs_web] {
        device.gets(json!({ "type": "chat", "event": "left", "chat": group })).await;
    }
    phone.gets(json!({ "type": "chat", "event": "member_left", "chat": group, "user": bob.name })).await;
    // It isn't there any more, in any way.
    let send =
        json!({ "type": "send", "chat": group, "key": uuid::Uuid::new_v4(), "kind": "text", "content": "?" });
    bobs.is_refused(send, "not_found").await;
    bobs.is_refused(json!({ "type": "ack", "chat": group, "seq": 5 }), "not_found").await;
    bobs.is_refused(json!({ "type": "read", "chat": group, "seq": 5 }), "not_found").await;
    bobs_web.is_refused(json!({ "type": "history", "chat": group, "limit": 5 }), "not_found").await;
    bob.api(0).get(&format!("/v1/chats/{group}")).await.problem(404, "not_found");
    bobs.api().get(&format!("/v1/chats/{group}/messages")).await.problem(404, "not_found");
    bob.api(0).post(&format!("/v1/chats/{group}/leave"), json!({})).await.problem(404, "not_found");
    assert_eq!(bob.api(1).get("/v1/offsets").await.ok(), json!({}));
    for device in [&bobs.id, &bobs_web.id] {
        wait_until("no queue", PATIENCE, || async { world.traces(device).await.is_empty().then_some(()) })
            .await;
    }
    // Alice's go on.
    phone.hears(&group, 105).await;
    assert_eq!(phone.says(&group, "alone again").await.seq, 106);
    phone.hears(&group, 106).await;
    if world.stack.is_some() {
        world.queue(&group, &phone.id).await;
    }
    for device in [&bobs.id, &bobs_web.id] {
        world.stays_without_traces(device, std::time::Duration::from_secs(2)).await;
    }
}

pub async fn who_is_removed_gets_nothing_that_is_sent_after_the_answer(on: Deployment) {
    let world = on.start().await;
    for round in 0..3 {
        nothing_comes_after(&world, round, async |alice, bob, group| alice.removes(group, bob).await).await;
    }
}

pub async fn who_leaves_gets_nothing_that_is_sent_after_the_answer(on: Deployment) {
    let world = on.start().await;
    for round in 0..3 {
        nothing_comes_after(&world, round, async |_, bob, group| bob.leaves(group).await).await;
    }
}

/// Bob's phone and web session are connected to two edges, if there are two, and read everything. He is removed, or
/// leaves; as soon as that is answered, 300 messages are sent.
pub async fn nothing_comes_after(world: &World, round: u32, goes: impl AsyncFnOnce(&User, &User, &str)) {
    const BEFORE: u64 = 20;
    let (alice, bob) = (world.user(&format!("alice{round}")), world.user(&format!("bob{round}")));
    let (phone, bobs) = (alice.phone(0).await, bob.registers("main").await);
    let mut sockets = vec![Socket::open(&world.addresses()[1 % world.edges.len()], &bobs.token).await];
    assert_eq!(sockets[0].frame().await["type"], "welcome");
    let web = bob.registers("sub").await;
    sockets.push(Socket::open(&world.addresses()[0], &web.token).await);
    let (direct, group) = (alice.direct(&bob).await, alice.group("us").await);
    alice.invites(&group, &bob).await;
    phone.says_many(&group, "with Bob", BEFORE).await;
    for socket in &mut sockets {
        while {
            let frame = socket.frame_of("message").await;
            (frame["chat"].as_str(), frame["seq"].as_u64()) != (Some(&group), Some(BEFORE))
        } {}
    }
    let got = sockets.into_iter().map(|mut socket| {
        let (direct, group) = (direct.clone(), group.clone());
        tokio::spawn(async move {
            let (mut got, mut after) = (Vec::new(), None);
            loop {
                // What comes last is a message of the other chat; and for a second there is nothing behind it.
                let came = match after {
                    None => soon("the last message", socket.come()).await,
                    Some(until) => match tokio::time::timeout_at(until, socket.come()).await {
                        Ok(came) => came,
                        // Not closed yet: a web session ends with the phone's.
                        Err(_) => return (got, socket),
                    },
                };
                let Came::Frame(text) = came else { panic!("expected a frame, but: {came:?}") };
                let frame: Value = serde_json::from_str(&text).unwrap();
                match (frame["type"].as_str(), frame["chat"].as_str()) {
                    (Some("message"), Some(chat)) if chat == group => {
                        got.push(frame["seq"].as_u64().unwrap())
                    }
                    (Some("message"), Some(chat)) if chat == direct => {
                        after = Some(tokio::time::Instant::now() + std::time::Duration::from_secs(1));
                    }
                    _ => {}
                }
            }
        })
    });
    let got: Vec<_> = got.collect();
    goes(&alice, &bob, &group).await;
    phone.says_many(&group, "without Bob", 300).await;
    phone.says(&direct, "the end").await;
    let mut sockets = Vec::new();
    for one in got {
        let (got, socket) = one.await.expect("a device of Bob's");
        sockets.push(socket);
        assert!(got.is_empty(), "{} messages came that were sent after the answer", got.len());
    }
}

pub async fn who_comes_back_sees_nothing_from_before(on: Deployment) {
    let world = on.with("KEEPSTEP_REINVITE_AFTER", "0s").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, mut bobs_web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let group = alice.group("us").await;
    phone.says_many(&group, "before Bob", 3).await;
    alice.invites(&group, &bob).await;
    phone.says_many(&group, "with Bob", 4).await;
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    bobs.hears(&group, 7).await;
    bobs_web.leaves().await;
    bob.leaves(&group).await;
    bobs.gets(json!({ "type": "chat", "event": "left", "chat": group })).await;
    phone.says_many(&group, "without Bob", 5).await;

    alice.invites(&group, &bob).await;
    let joined = bobs.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    let entry = &joined["entry"];
    assert_eq!((&entry["from"], &entry["cursor"]), (&json!(12), &json!(12)));
    assert_eq!(entry["read"], 12, "read = max(read, from)");
    phone.says_many(&group, "with Bob again", 6).await;
    bobs.hears(&group, 18).await;
    assert!(bobs.memory().chat(&group).unwrap().arrived.iter().copied().eq(13..=18));
    bobs_web.connects(1).await;
    bobs_web.hears(&group, 18).await;
    assert_eq!(bobs_web.memory().chat(&group).unwrap().from, 12);
    assert!(bobs_web.memory().chat(&group).unwrap().arrived.iter().copied().eq(13..=18));

    // Nor by asking for it.
    for api in [bobs_web.api(), bobs.api()] {
        let page = api.get(&format!("/v1/chats/{group}/messages?before=15&limit=100")).await.ok();
        let seqs: Vec<u64> =
            page["items"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect();
        assert_eq!((seqs, &page["more"]), (vec![13, 14], &json!(false)));
        let page = api.get(&format!("/v1/chats/{group}/messages?before=13")).await.ok();
        assert_eq!((&page["items"], &page["more"]), (&json!([]), &json!(false)));
    }
}

pub async fn who_comes_and_goes_all_the_time_is_in_step(on: Deployment) {
    let world =
        on.with("KEEPSTEP_CREATES_PER_MINUTE", "1000").with("KEEPSTEP_REINVITE_AFTER", "0s").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, bobs_web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let group = alice.group("us").await;
    let talk = async {
        for n in 0..60 {
            phone.says_many(&group, &format!("part {n}"), 5).await;
        }
    };
    // `Memory` sees to it: nothing before `joined` or after `left`, and from each `from` on without a hole.
    let come_and_go = async {
        for n in 1..=6 {
            alice.invites(&group, &bob).await;
            for device in [&bobs, &bobs_web] {
                device.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
            }
            bobs.says(&group, &format!("visit {n}")).await;
            if n < 6 {
                bob.leaves(&group).await;
                for device in [&bobs, &bobs_web] {
                    device.gets(json!({ "type": "chat", "event": "left", "chat": group })).await;
                }
            }
        }
    };
    tokio::join!(talk, come_and_go);
    for device in [&phone, &bobs, &bobs_web] {
        device.hears(&group, 306).await;
    }
    let from = bobs.memory().chat(&group).unwrap().from;
    assert_eq!(bobs_web.memory().chat(&group).unwrap().from, from);
    assert!(bobs.memory().chat(&group).unwrap().arrived.iter().copied().eq(from + 1..=306));
    if world.stack.is_some() {
        let queues = async || world.queues(&topic(&group), "").await.len();
        wait_until("three queues", PATIENCE, || async { (queues().await == 3).then_some(()) }).await;
        // Whatever is still being cleared from an earlier leave must not hit them.
        stays(std::time::Duration::from_secs(2), async || assert_eq!(queues().await, 3)).await;
    }
    phone.says(&group, "the end").await;
    for device in [&phone, &bobs, &bobs_web] {
        device.hears(&group, 307).await;
    }
}

pub async fn chats_are_listed_as_they_are(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let (direct, group) = (alice.direct(&bob).await, alice.group("us").await);
    phone.says_many(&group, "hello", 3).await;
    phone.hears(&group, 3).await;
    phone.reads(&group, 2).await;
    for api in [alice.api(0), alice.api(1), phone.api()] {
        let chat = soon("the chat", api.get(&format!("/v1/chats/{group}"))).await.with(200);
        for (name, value) in
            json!({ "id": group, "kind": "group", "name": "us", "head": 3, "read": 2 }).as_object().unwrap()
        {
            assert_eq!(chat[name], *value, "{name} of {chat}");
        }
        assert!(chat.get("members").is_some(), "{chat}");
        let chats = api.get("/v1/chats").await.with(200);
        let items = chats["items"].as_array().unwrap();
        let mut ids: Vec<String> = items.iter().map(id).collect();
        let mut expected = vec![direct.clone(), group.clone()];
        ids.sort();
        expected.sort();
        assert_eq!(ids, expected);
        assert!(
            !chats.to_string().contains("argon") && items.iter().all(|chat| !chat["password"].is_string())
        );
        let first = api.get("/v1/chats?limit=1").await.with(200);
        let rest =
            api.get(&format!("/v1/chats?limit=1&after={}", first["next"].as_str().unwrap())).await.with(200);
        assert_ne!(id(&first["items"][0]), id(&rest["items"][0]));
    }
    assert_eq!(bob.api(0).get(&format!("/v1/chats/{direct}")).await.ok()["id"], json!(direct));
    // A chat of others is like no chat, and upper case is the same id.
    let none = uuid::Uuid::new_v4();
    for chat in [group.clone(), none.to_string()] {
        bob.api(0).get(&format!("/v1/chats/{chat}")).await.problem(404, "not_found");
    }
    assert_eq!(
        alice.api(0).get(&format!("/v1/chats/{}", group.to_uppercase())).await.ok()["id"],
        json!(group)
    );
}

pub async fn messages_are_paged_newest_first(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 250).await;
    phone.hears(&chat, 250).await;
    let messages = phone.memory().chat(&chat).unwrap().messages.clone();
    let (mut whole, mut before) = (Vec::<Value>::new(), None::<u64>);
    loop {
        let before_it = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let page = phone.api().get(&format!("/v1/chats/{chat}/messages?limit=60{before_it}")).await.with(200);
        let items = page["items"].as_array().unwrap().clone();
        assert!(items.len() <= 60 && !items.is_empty());
        before = items[0]["seq"].as_u64();
        whole.splice(0..0, items);
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(whole, messages.into_values().collect::<Vec<_>>());
    // Without a limit, something sensible; the newest is the last.
    let page = phone.api().get(&format!("/v1/chats/{chat}/messages")).await.with(200);
    let items = page["items"].as_array().unwrap();
    assert_eq!((&items.last().unwrap()["seq"], &page["more"]), (&json!(250), &json!(true)));
    // A bot is no device, and keeps no copy.
    alice.api(1).get(&format!("/v1/chats/{chat}/messages")).await.problem(403, "forbidden");
    // A web session sees here only what its link allows: what came after it.
    let web = alice.web(1).await;
    phone.says(&chat, "new").await;
    let page = web.api().get(&format!("/v1/chats/{chat}/messages")).await.with(200);
    let seqs: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|one| &one["seq"]).collect();
    assert_eq!((seqs, &page["more"]), (vec![&json!(251)], &json!(false)));
    for bad in ["limit=0", "limit=1000000000", "before=-1", "before=x", "limit=", "before=9007199254740992"] {
        let answer = phone.api().get(&format!("/v1/chats/{chat}/messages?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text);
        assert!(
            matches!(answer.body["code"].as_str(), Some("bad_range" | "bad_field")),
            "{bad}: {}",
            answer.text
        );
    }
}
