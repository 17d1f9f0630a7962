//! Devices are registered.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Deployment;
use super::client::{PATIENCE, Socket};
use super::user::{User, id};
use super::world::{Pair, topic};
use crate::support::wait_until;

fn new(kind: &str) -> Value {
    json!({ "kind": kind, "name": "My device", "platform": "tests" })
}

async fn listed(user: &User, edge: usize) -> Vec<Value> {
    let devices = user.api(edge).get("/v1/devices").await.with(200);
    devices["items"].as_array().unwrap_or_else(|| panic!("no list in {devices}")).clone()
}

pub async fn registering_again_is_the_same_device(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chosen = uuid::Uuid::new_v4().to_string();
    let mut body = new("main");
    body["id"] = chosen.clone().into();
    let first = alice.api(0).post("/v1/devices", body.clone()).await.with(201);
    let device = &first["device"];
    assert_eq!((&device["id"], &device["kind"]), (&json!(chosen), &json!("main")));
    assert_eq!((&device["name"], &device["platform"]), (&json!("My device"), &json!("tests")));
    // The client doesn't know whether its first try arrived: it asks again, on any edge, and may connect either way.
    let second = alice.api(1).post("/v1/devices", body.clone()).await.with(200);
    assert_eq!(second["device"]["id"], device["id"]);
    for registered in [&first, &second] {
        alice.device(registered).connects(0).await;
    }
    body["id"] = chosen.to_uppercase().into();
    assert_eq!(alice.api(0).post("/v1/devices", body.clone()).await.with(200)["device"]["id"], json!(chosen));
    assert_eq!(listed(&alice, 0).await.len(), 1);

    // The id of another kind of device, or of somebody else's, is taken.
    body["kind"] = "sub".into();
    alice.api(0).post("/v1/devices", body.clone()).await.problem(409, "conflict");
    bob.api(1).post("/v1/devices", body).await.problem(409, "conflict");
    assert!(listed(&bob, 0).await.is_empty());
}

pub async fn a_user_has_one_phone_and_five_web_sessions(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let _phone = alice.phone(0).await;
    alice.api(1).post("/v1/devices", new("main")).await.problem(409, "main_exists");
    let mut webs = Vec::new();
    for _ in 0..5 {
        webs.push(alice.registers("sub").await);
    }
    alice.api(1).post("/v1/devices", new("sub")).await.problem(409, "limit_reached");
    assert_eq!(listed(&alice, 1).await.len(), 6);
    // One that was ended makes room.
    let end = alice.ends(&webs[2].id).await;
    world.terminated(&alice.api(1), &end).await;
    alice.registers("sub").await;

    // Lists come in pages.
    let mut seen = Vec::new();
    let mut next = None;
    loop {
        let after = next.map(|next: String| format!("&after={next}")).unwrap_or_default();
        let page = alice.api(0).get(&format!("/v1/devices?limit=2{after}")).await.with(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        seen.extend(items.iter().map(id));
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            break;
        }
    }
    let mut all: Vec<String> = listed(&alice, 0).await.iter().map(id).collect();
    seen.sort();
    all.sort();
    assert_eq!(seen, all);
}

pub async fn registrations_at_the_same_time_keep_to_the_limits(on: Deployment) {
    let world = on.with("KEEPSTEP_DEVICES_PER_HOUR", "100").start().await;
    let alice = world.user("alice");
    let chat = alice.direct(&world.user("bob")).await;
    let all = async |bodies: Vec<Value>| {
        let asked = bodies.into_iter().enumerate().map(|(n, body)| {
            let api = alice.api(n);
            async move { api.post("/v1/devices", body).await }
        });
        join_all(asked).await
    };
    // Eight phones at once: one is the phone.
    let phones = all(vec![new("main"); 8]).await;
    assert_eq!(phones.iter().filter(|answer| answer.status == 201).count(), 1, "{phones:#?}");
    assert!(
        phones.iter().all(|answer| answer.status == 201 || answer.body["code"] == "main_exists"),
        "{phones:#?}"
    );
    // One web session, asked for eight times with one id: it is one.
    let mut same = new("sub");
    same["id"] = uuid::Uuid::new_v4().to_string().into();
    let sames = all(vec![same.clone(); 8]).await;
    assert_eq!(sames.iter().filter(|answer| answer.status == 201).count(), 1, "{sames:#?}");
    assert!(
        sames.iter().all(|answer| answer.status < 300 && answer.body["device"]["id"] == same["id"]),
        "{sames:#?}"
    );
    // Twelve others: four are let in, and each of all the devices has its place in the chat.
    let webs = all(vec![new("sub"); 12]).await;
    assert_eq!(webs.iter().filter(|answer| answer.status == 201).count(), 4, "{webs:#?}");
    assert!(
        webs.iter().all(|answer| answer.status == 201 || answer.body["code"] == "limit_reached"),
        "{webs:#?}"
    );
    assert_eq!(listed(&alice, 0).await.len(), 6);
    if world.stack.is_some() {
        assert_eq!(world.queues(&topic(&chat), "").await.len(), 6);
    }
    let phone = phones.iter().find(|answer| answer.status == 201).map(|answer| alice.device(&answer.body));
    let mut phone = phone.expect("one of them");
    phone.connects(0).await;
    let said = phone.says_many(&chat, "hello", 3).await.len();
    assert_eq!(said, 3);
    for (n, answer) in webs.iter().filter(|answer| answer.status == 201).chain(&sames[..1]).enumerate() {
        let mut web = alice.device(&answer.body);
        web.connects(n).await;
        web.hears(&chat, 3).await;
    }
}

pub async fn another_phone_replaces_the_first(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut old = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    old.says_many(&chat, "with the old phone", 3).await;
    old.hears(&chat, 3).await;
    let mut body = new("main");
    body["replace"] = true.into();
    let mut phone = alice.device(&alice.api(1).post("/v1/devices", body).await.with(201));
    assert_eq!(old.closed().await.0, 4403);
    phone.connects(1).await;
    assert_eq!(phone.memory().chat(&chat).unwrap().from, 3);
    phone.says(&chat, "with the new one").await;
    phone.hears(&chat, 4).await;
    for edge in world.addresses().iter() {
        assert_eq!(Socket::open(edge, &old.token).await.refused().await.0, 4403);
    }
    let mains: Vec<Value> =
        listed(&alice, 0).await.into_iter().filter(|device| device["kind"] == "main").collect();
    assert_eq!(mains.iter().map(id).collect::<Vec<_>>(), [phone.id.clone()]);
    // Its id is never used again.
    let again = json!({ "kind": "main", "name": "n", "platform": "p", "id": old.id, "replace": true });
    alice.api(0).post("/v1/devices", again).await.problem(409, "conflict");
}

pub async fn phones_that_replace_each_other_at_once_leave_one(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    alice.registers("main").await;
    for at_once in [3, 6, 4] {
        let replaces = (0..at_once).map(|n| {
            let api = alice.api(n % 2);
            async move {
                let mut body = new("main");
                body["replace"] = true.into();
                api.post("/v1/devices", body).await
            }
        });
        let phones = join_all(replaces).await;
        // One that another replaced before it was done hears that its id is over.
        let fits = phones.iter().all(|it| it.status == 201 || it.body["code"] == "conflict");
        assert!(fits, "{phones:#?}");
        let left = wait_until("one phone to be left", PATIENCE, async || {
            let mut left = listed(&alice, 0).await;
            (left.len() <= 1).then(|| left.pop())
        })
        .await;
        let left = left.expect("one of them is left");
        let of_them = phones.iter().find(|it| it.status == 201 && it.body["device"]["id"] == left["id"]);
        alice.device(&of_them.expect("and was answered").body).connects(0).await;
    }
}

pub async fn devices_are_listed_as_they_are(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, web) = (alice.phone(0).await, alice.web(1).await);
    let edge = phone.memory().welcome["edge"].clone();
    for api in [alice.api(0), alice.api(1), phone.api(), web.api()] {
        let devices = api.get("/v1/devices").await.with(200);
        let items = devices["items"].as_array().unwrap();
        assert_eq!(items.len(), 2, "{devices}");
        let main = items.iter().find(|device| device["id"] == phone.id).unwrap();
        assert_eq!((&main["kind"], &main["online"], &main["edge"]), (&json!("main"), &json!(true), &edge));
        assert_eq!(
            (&main["name"], &main["platform"]),
            (&json!(format!("{}'s main", alice.name)), &json!("tests"))
        );
        let (created, seen) = (main["created"].as_u64().unwrap(), main["last_seen"].as_u64().unwrap());
        assert!(created > 1_700_000_000_000 && seen >= created, "{main}");
        let sub = items.iter().find(|device| device["id"] == web.id).unwrap();
        assert_eq!((&sub["kind"], &sub["online"]), (&json!("sub"), &json!(true)));
    }
    assert!(listed(&bob, 0).await.is_empty(), "Alice's devices are hers");
    phone.leaves().await;
    let offline = wait_until("the phone to be offline", PATIENCE, async || {
        let main = listed(&alice, 1).await.into_iter().find(|device| device["id"] == phone.id)?;
        (main["online"] == false).then_some(main)
    })
    .await;
    assert_eq!(offline["edge"], Value::Null);
    drop(web);
}

pub async fn devices_hear_of_each_other(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let mut web = alice.registers("sub").await;
    phone.gets(json!({ "type": "device", "event": "linked", "device": web.id })).await;
    web.connects(1).await;
    phone.gets(json!({ "type": "device", "event": "online", "device": web.id })).await;
    web.leaves().await;
    phone.gets(json!({ "type": "device", "event": "offline", "device": web.id })).await;
    web.connects(0).await;
    phone.gets(json!({ "type": "device", "event": "online", "device": web.id })).await;
    alice.ends(&web.id).await;
    let ended = phone.gets(json!({ "type": "device", "event": "terminated", "device": web.id })).await;
    assert!(ended["at"].is_u64(), "{ended}");
    assert_eq!(web.closed().await.0, 4403);
    // None of it is Bob's business, nor the device's own.
    assert_eq!(bobs.memory().inbox, Vec::<Value>::new());
    let own = |frame: &Value| frame["type"] == "device" && frame["device"] == web.id;
    assert!(!web.memory().inbox.iter().any(|frame| own(frame) && frame["event"] != "terminated"));
}

pub async fn when_all_have_gone_nothing_is_held(on: Deployment) {
    let mut world = on.start().await;
    let pids: Vec<u32> = world.edges.iter_mut().map(|edge| edge.process().pid()).collect();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (chat, mut phone) = (alice.direct(&bob).await, alice.phone(0).await);
    let mut webs = Vec::new();
    for _ in 0..3 {
        webs.push(alice.registers("sub").await);
    }
    let open = || {
        pids.iter().map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).sum::<usize>()
    };
    let mut settled = 0;
    for round in 1..=6 {
        for (n, web) in webs.iter_mut().enumerate() {
            web.connects(n).await;
        }
        phone.says_many(&chat, "hello", 5).await;
        for web in &mut webs {
            web.hears(&chat, round * 5).await;
            web.acks(&chat, round * 5).await;
            if round % 2 == 0 { web.leaves().await } else { web.vanishes().await }
        }
        phone.hears(&chat, round * 5).await;
        phone.acks(&chat, round * 5).await;
        phone.reconnects(usize::try_from(round).unwrap()).await;
        // Only the phone is left, with its one socket and its one consumer, round after round.
        wait_until("only the phone to be connected", PATIENCE, || async {
            let mains = world.metric("keepstep_connections{kind=\"main\"}").await;
            let subs = world.metric("keepstep_connections{kind=\"sub\"}").await;
            (mains == 1.0 && subs == 0.0).then_some(())
        })
        .await;
        if world.stack.is_some() {
            wait_until("nobody but the phone to consume", PATIENCE, || async {
                let queues = world.queues(&topic(&chat), "").await;
                (queues.iter().map(|queue| queue.consumers).sum::<usize>() <= 1).then_some(())
            })
            .await;
        }
        if round == 2 {
            settled = open();
        }
    }
    // Connections to the store and the queues come and go a little; sockets that leak would be twelve by now.
    wait_until("the files to be closed again", PATIENCE, || async { (open() <= settled + 4).then_some(()) })
        .await;
}

pub async fn a_device_registered_in_the_middle_of_a_conversation_has_no_hole(on: Deployment) {
    let world = on.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    let talk = async {
        for n in 1..=30 {
            bobs.says_many(&chat, &format!("part {n}"), 10).await;
        }
    };
    let come = async {
        let mut webs = Vec::new();
        for n in 0..5 {
            // Each at another point of the conversation.
            phone.hears(&chat, 40 * n + 5).await;
            let index = usize::try_from(n).unwrap();
            let web = alice.web(index).await;
            let from = web.memory().chat(&chat).unwrap().from;
            let mut past = Vec::new();
            let mut before = from + 1;
            while before > 1 {
                let (page, more) = web.borrows(&chat, Some(before), 100).await.expect("a page");
                before = page[0]["seq"].as_u64().unwrap();
                past.splice(0..0, page);
                assert_eq!(more, before > 1);
            }
            webs.push((web, past));
        }
        webs
    };
    let ((), webs) = tokio::join!(talk, come);
    phone.hears(&chat, 300).await;
    let kept: Vec<Value> = phone.memory().chat(&chat).unwrap().messages.values().cloned().collect();
    assert_eq!(kept.len(), 300);
    for (web, past) in webs {
        web.hears(&chat, 300).await;
        let live: Vec<Value> = web.memory().chat(&chat).unwrap().messages.values().cloned().collect();
        assert_eq!([past, live].concat(), kept);
    }
}
