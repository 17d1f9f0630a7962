//! Who may reach a user: additions to chats are bounded, a user who left isn't added again, an invitation waits for its
//! answer where users are asked, and a block holds.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Answer, PATIENCE};
use super::device::Device;
use super::user::{User, id};
use super::{Deployment, World};
use crate::support::{stays, wait_until};

fn users<const N: usize>(world: &World, names: [&str; N]) -> [User; N] {
    names.map(|name| world.user(name))
}

async fn chats_of(user: &User) -> Vec<Value> {
    user.api(0).get("/v1/chats").await.ok()["items"].as_array().expect("a list").clone()
}

async fn invites(owner: &User, chat: &str, whom: &User) -> Answer {
    owner.api(1).post(&format!("/v1/chats/{chat}/members"), json!({ "user": whom.name })).await
}

async fn begins(user: &User, with: &User) -> Answer {
    user.api(0).post("/v1/chats", json!({ "kind": "direct", "with": with.name })).await
}

async fn invitations(user: &User) -> Vec<Value> {
    user.api(1).get("/v1/invitations").await.ok()["items"].as_array().expect("a list").clone()
}

async fn answers(user: &User, chat: &str, answer: &str) -> Answer {
    user.api(0).post(&format!("/v1/invitations/{chat}/{answer}"), json!({})).await
}

async fn blocks(user: &User, whom: &User) {
    let path = format!("/v1/blocks/{}", whom.name);
    assert_eq!(user.api(1).call("PUT", &path, None).await.ok()["user"], json!(whom.name));
}

async fn unblocks(user: &User, whom: &User) {
    user.api(0).delete(&format!("/v1/blocks/{}", whom.name)).await.ok();
}

/// Returns the `Retry-After` of a 429, in seconds.
fn too_many(answer: Answer) -> u64 {
    let after = answer.head.lines().find_map(|line| line.strip_prefix("retry-after: ").map(str::to_owned));
    answer.problem(429, "too_many_requests");
    after.expect("a Retry-After").parse().expect("whole seconds")
}

async fn watches(device: &Device, user: &User) -> usize {
    let ok = device.requests(json!({ "type": "watch", "users": [user.name] })).await.expect("it may watch");
    ok["presence"].as_array().expect("a list").len()
}

pub async fn nobody_is_put_into_many_chats_by_others(on: Deployment) {
    let world = on.with("KEEPSTEP_INVITED_PER_HOUR", "9").start().await;
    let [bob, carol] = users(&world, ["bob", "carol"]);
    let strangers: Vec<User> = (0..5).map(|n| world.user(&format!("stranger{n}"))).collect();
    let gina = world.user("gina");
    let hello = id(&begins(&gina, &bob).await.with(201));
    let mut refused = 0;
    for stranger in &strangers {
        let mut told = match begins(stranger, &bob).await {
            answer if answer.status == 201 => None,
            answer => Some(too_many(answer)),
        };
        for n in 0..4 {
            let group = stranger.group(&format!("group {n}")).await;
            let answer = invites(stranger, &group, &bob).await;
            if answer.status != 200 {
                told = Some(too_many(answer));
            }
        }
        // One alone may do a third of it.
        let after = told.expect("five are more than a third of nine");
        assert!((1..=3600).contains(&after), "{after}");
        refused += 1;
    }
    assert_eq!((chats_of(&bob).await.len(), refused), (9, 5));
    // The one who is put into chats may do what they like, and others are put into chats as before.
    assert_eq!(begins(&bob, &carol).await.status, 201);
    let own = bob.group("my own").await;
    assert_eq!(invites(&bob, &own, &carol).await.status, 200);
    assert_eq!(begins(&strangers[4], &carol).await.status, 201);
    // Nor do strangers keep those from him whom he knows: for them there is as much again, of which one alone may do a third.
    for n in 0..3 {
        let group = carol.group(&format!("carol's {n}")).await;
        assert_eq!(invites(&carol, &group, &bob).await.status, 200, "carol's {n}");
    }
    too_many(invites(&carol, &carol.group("carol's last").await, &bob).await);
    // Whoever is in a group that all may join isn't known by that, nor by a chat that they have put him into.
    let frank = world.user("frank");
    let public = json!({ "kind": "group", "name": "Everybody", "public": true });
    let everybody = id(&frank.api(0).post("/v1/chats", public).await.with(201));
    bob.api(0).post(&format!("/v1/chats/{everybody}/join"), json!({})).await.ok();
    too_many(invites(&frank, &frank.group("frank's").await, &bob).await);
    too_many(invites(&gina, &gina.group("gina's").await, &bob).await);
    // By one that he reads they are.
    let (hers, his) = (gina.phone(0).await, bob.phone(1).await);
    hers.says(&hello, "hello").await;
    his.hears(&hello, 1).await;
    his.reads(&hello, 1).await;
    assert_eq!(invites(&gina, &gina.group("gina's").await, &bob).await.status, 200);
    // What isn't new isn't counted.
    let known = chats_of(&bob).await;
    let direct = known.iter().find(|chat| chat["kind"] == "direct" && chat["owner"] == strangers[0].name);
    let direct = direct.expect("the first stranger's");
    assert_eq!(id(&begins(&strangers[0], &bob).await.with(200)), id(direct));
}

pub async fn who_has_left_is_not_brought_back_by_the_same_user(on: Deployment) {
    let world =
        on.with("KEEPSTEP_REINVITE_AFTER", "1h").with("KEEPSTEP_CREATES_PER_MINUTE", "10000").start().await;
    let [alice, bob, carol] = users(&world, ["alice", "bob", "carol"]);
    let group = alice.group("us").await;
    alice.invites(&group, &bob).await;
    alice.invites(&group, &carol).await;
    bob.leaves(&group).await;
    let after = too_many(invites(&alice, &group, &bob).await);
    assert!((3000..=3600).contains(&after), "{after}");
    // Neither into another chat.
    let another = alice.group("us again").await;
    too_many(invites(&alice, &another, &bob).await);
    too_many(begins(&alice, &bob).await);
    assert_eq!(chats_of(&bob).await, Vec::<Value>::new());
    // Others may; and Bob may come to Alice by himself, and then it is as if nothing had been.
    let carols = carol.group("carol's").await;
    carol.invites(&carols, &bob).await;
    let direct = bob.direct(&alice).await;
    assert_eq!(id(&begins(&alice, &bob).await.with(200)), direct);
    // Who was removed didn't leave.
    carol.removes(&carols, &bob).await;
    carol.invites(&carols, &bob).await;
    // Of a direct chat, too, once it has ended and would begin anew.
    let dave = world.user("dave");
    let direct = dave.direct(&bob).await;
    bob.leaves(&direct).await;
    dave.leaves(&direct).await;
    wait_until("the chat to end", PATIENCE, || async {
        let answer = begins(&dave, &bob).await;
        match answer.status {
            // It stands there for a moment yet, without anybody.
            200 => {
                dave.leaves(&id(&answer.body)).await;
                None
            }
            _ => Some(too_many(answer)),
        }
    })
    .await;
    // Who came by themselves may be invited when they have gone.
    let body = json!({ "kind": "group", "name": "club", "password": "sesame" });
    let club = id(&dave.api(0).post("/v1/chats", body).await.with(201));
    let erin = world.user("erin");
    erin.api(1).post(&format!("/v1/chats/{club}/join"), json!({ "password": "sesame" })).await.ok();
    erin.leaves(&club).await;
    assert_eq!(invites(&dave, &club, &erin).await.status, 200);
}

pub async fn an_invitation_waits_for_its_answer(on: Deployment) {
    let world = on
        .with("KEEPSTEP_INVITES", "consent")
        .with("KEEPSTEP_REINVITE_AFTER", "2s")
        .with("KEEPSTEP_CREATES_PER_MINUTE", "10000")
        .start()
        .await;
    let [alice, bob, carol] = users(&world, ["alice", "bob", "carol"]);
    let (phone, bobs, bobs_web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let group = alice.group("us").await;
    let asked = invites(&alice, &group, &bob).await.with(200);
    assert_eq!((&asked["invited"], &asked["members"]), (&json!([bob.name]), &json!([alice.name])));
    for device in [&bobs, &bobs_web] {
        let told = device.gets(json!({ "type": "invitation", "event": "pending", "chat": group })).await;
        assert_eq!(
            (&told["by"], &told["name"], &told["kind"]),
            (&json!(alice.name), &json!("us"), &json!("group"))
        );
    }
    let pending = invitations(&bob).await;
    assert_eq!(
        (pending.len(), &pending[0]["chat"], &pending[0]["by"]),
        (1, &json!(group), &json!(alice.name))
    );
    // Until he says yes he is in nothing, gets nothing, and nobody sees whether he is there.
    phone.says(&group, "before").await;
    assert_eq!(chats_of(&bob).await, Vec::<Value>::new());
    bob.api(0).get(&format!("/v1/chats/{group}")).await.problem(404, "not_found");
    assert_eq!((watches(&phone, &bob).await, watches(&bobs, &alice).await), (0, 0));
    // Asked twice it is one; nobody else answers it.
    invites(&alice, &group, &bob).await.with(200);
    assert_eq!(invitations(&bob).await.len(), 1);
    answers(&carol, &group, "accept").await.problem(404, "not_found");

    let chat = answers(&bob, &group, "accept").await.with(200);
    assert_eq!(chat["members"], json!([alice.name, bob.name]));
    answers(&bob, &group, "accept").await.with(200);
    for device in [&bobs, &bobs_web] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
        device.gets(json!({ "type": "invitation", "event": "over", "chat": group })).await;
    }
    assert_eq!(invitations(&bob).await, Vec::<Value>::new());
    phone.says(&group, "after").await;
    bobs.hears(&group, 2).await;
    assert!(!bobs.memory().chat(&group).unwrap().messages.contains_key(&1));
    assert_eq!((watches(&phone, &bob).await, watches(&bobs, &alice).await), (1, 1));

    // A direct chat: the other one is asked, and may say no. Then he isn't asked again at once.
    let made = begins(&alice, &carol).await.with(201);
    assert_eq!((&made["members"], &made["invited"]), (&json!([alice.name]), &json!([carol.name])));
    let direct = id(&made);
    answers(&carol, &direct, "decline").await.with(200);
    answers(&carol, &direct, "decline").await.problem(404, "not_found");
    answers(&carol, &direct, "accept").await.problem(404, "not_found");
    let second = alice.group("second").await;
    assert!(too_many(invites(&alice, &second, &carol).await) <= 2);
    let after = || async { (invites(&alice, &second, &carol).await.status == 200).then_some(()) };
    wait_until("Carol to be asked again", PATIENCE, after).await;
    // Who opens the direct chat has said yes; and what is asked may be withdrawn.
    assert_eq!(id(&begins(&carol, &alice).await.with(200)), direct);
    assert_eq!(chats_of(&carol).await.len(), 1);
    alice.removes(&second, &carol).await;
    assert_eq!(invitations(&carol).await, Vec::<Value>::new());
    answers(&carol, &second, "accept").await.problem(404, "not_found");
    // An invitation into a chat that has ended is none.
    let gone = alice.group("gone").await;
    invites(&alice, &gone, &bob).await.with(200);
    alice.leaves(&gone).await;
    wait_until("no invitation", PATIENCE, || async { invitations(&bob).await.is_empty().then_some(()) })
        .await;
    answers(&bob, &gone, "accept").await.problem(404, "not_found");
}

pub async fn invitations_are_bounded(on: Deployment) {
    let world = on
        .with("KEEPSTEP_INVITES", "consent")
        .with("KEEPSTEP_INVITATIONS_PER_USER", "20")
        .with("KEEPSTEP_INVITED_PER_HOUR", "1000")
        .start()
        .await;
    let bob = world.user("bob");
    for n in 0..11 {
        let stranger = world.user(&format!("stranger{n}"));
        for m in 0..3 {
            let group = stranger.group("group").await;
            let answer = invites(&stranger, &group, &bob).await;
            // A tenth of all from each, and then no more of anybody.
            if n < 10 && m < 2 {
                assert_eq!(answer.status, 200, "{n} {m}: {}", answer.text);
            } else {
                answer.problem(409, "limit_reached");
            }
        }
    }
    let first = bob.api(0).get("/v1/invitations?limit=15").await.ok();
    let rest = format!("/v1/invitations?limit=15&after={}", first["next"].as_str().expect("more"));
    let rest = bob.api(0).get(&rest).await.ok();
    let count = |page: &Value| page["items"].as_array().map(Vec::len);
    assert_eq!((count(&first), count(&rest), &rest["next"]), (Some(15), Some(5), &Value::Null));
}

pub async fn strangers_leave_invitations_for_those_whom_a_user_knows(on: Deployment) {
    let world = on
        .with("KEEPSTEP_INVITES", "consent")
        .with("KEEPSTEP_INVITATIONS_PER_USER", "4")
        .with("KEEPSTEP_INVITED_PER_HOUR", "1000")
        .start()
        .await;
    let bob = world.user("bob");
    let friends: Vec<User> = (0..6).map(|n| world.user(&format!("friend{n}"))).collect();
    for friend in &friends {
        let direct = id(&begins(&bob, friend).await.with(201));
        answers(friend, &direct, "accept").await.ok();
    }
    let strangers: Vec<User> = (0..5).map(|n| world.user(&format!("stranger{n}"))).collect();
    let asks = async |user: &User| {
        let group = user.group("group").await;
        let answer = invites(user, &group, &bob).await;
        let is_asked = answer.status == 200;
        if !is_asked {
            answer.problem(409, "limit_reached");
        }
        (group, is_asked)
    };
    let mut asked = Vec::new();
    for stranger in &strangers {
        asked.push(asks(stranger).await);
    }
    let are_asked: Vec<bool> = asked.iter().map(|(_, is_asked)| *is_asked).collect();
    assert_eq!(are_asked, [true, true, true, true, false], "strangers");
    // Whoever is in a group that all may join isn't known by that, nor by an invitation that waits.
    let public = json!({ "kind": "group", "name": "Everybody", "public": true });
    let everybody = id(&strangers[4].api(0).post("/v1/chats", public).await.with(201));
    bob.api(0).post(&format!("/v1/chats/{everybody}/join"), json!({})).await.ok();
    assert!(!asks(&strangers[4]).await.1, "of a public group");
    begins(&strangers[4], &bob).await.problem(409, "limit_reached");
    // For those whom he knows there are as many places again, of which one alone may have a tenth.
    for (n, friend) in friends.iter().enumerate() {
        assert_eq!(asks(friend).await.1, n < 4, "friend {n}");
    }
    assert!(!asks(&friends[0]).await.1, "a second one");
    assert_eq!(invitations(&bob).await.len(), 8);
    // What is answered makes room for one of them, and for a stranger when there are fewer than four again.
    answers(&bob, &asked[0].0, "decline").await.ok();
    assert!(!asks(&strangers[4]).await.1, "seven wait");
    assert!(asks(&friends[4]).await.1, "seven wait");
    assert!(!asks(&friends[5]).await.1, "eight wait");
}

pub async fn who_is_blocked_reaches_nobody(on: Deployment) {
    let world = on.start().await;
    let [alice, bob, carol] = users(&world, ["alice", "bob", "carol"]);
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(1).await);
    let direct = alice.direct(&bob).await;
    let common = carol.group("common").await;
    carol.invites(&common, &alice).await;
    carol.invites(&common, &bob).await;
    for device in [&phone, &bobs] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": direct })).await;
        device.gets(json!({ "type": "chat", "event": "joined", "chat": common })).await;
    }
    phone.says(&direct, "hello").await;
    bobs.hears(&direct, 1).await;
    assert_eq!((watches(&phone, &bob).await, watches(&bobs, &alice).await), (1, 1));

    blocks(&bob, &alice).await;
    blocks(&bob, &alice).await;
    let listed = bob.api(0).get("/v1/blocks").await.ok();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["items"][0]["user"], json!(alice.name));
    // In the direct chat Alice gets the answers of one that she has left.
    phone.gets(json!({ "type": "chat", "event": "left", "chat": direct })).await;
    let text = json!({ "type": "send", "chat": direct, "key": uuid::Uuid::new_v4(), "kind": "text", "content": "why?" });
    phone.is_refused(text, "not_found").await;
    phone.is_refused(json!({ "type": "typing", "chat": direct }), "not_found").await;
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "why?" });
    alice.api(0).post(&format!("/v1/chats/{direct}/messages"), body).await.problem(404, "not_found");
    alice.api(1).get(&format!("/v1/chats/{direct}")).await.problem(404, "not_found");
    phone.api().get(&format!("/v1/chats/{direct}/messages")).await.problem(404, "not_found");
    // She gets no other, and invites him nowhere; nor does he open one with her.
    begins(&alice, &bob).await.problem(403, "forbidden");
    let group = alice.group("come on").await;
    invites(&alice, &group, &bob).await.problem(403, "forbidden");
    begins(&bob, &alice).await.problem(403, "forbidden");
    assert!(chats_of(&bob).await.iter().all(|chat| chat["id"] != group.as_str()));
    // Nor do they see of each other who is there, though they share a group, in which nothing else changes.
    assert_eq!((watches(&phone, &bob).await, watches(&bobs, &alice).await), (0, 0));
    phone.says(&common, "still here").await;
    bobs.hears(&common, 1).await;
    // Others reach him, and she reaches others.
    assert_eq!(begins(&carol, &bob).await.status, 201);
    assert_eq!(begins(&alice, &carol).await.status, 201);

    unblocks(&bob, &alice).await;
    unblocks(&bob, &alice).await;
    assert_eq!(bob.api(0).get("/v1/blocks").await.ok()["items"], json!([]));
    assert_eq!(id(&begins(&alice, &bob).await.with(200)), direct);
    phone.gets(json!({ "type": "chat", "event": "joined", "chat": direct })).await;
    phone.says(&direct, "sorry").await;
    bobs.hears(&direct, 2).await;
    assert_eq!((watches(&phone, &bob).await, watches(&bobs, &alice).await), (1, 1));
    // A block that comes while somebody watches ends that.
    blocks(&alice, &bob).await;
    bobs.gets(json!({ "type": "chat", "event": "left", "chat": direct })).await;
    let mut quiet = false;
    for n in 0..10 {
        // (The chats are looked at behind the frame.)
        bobs.reconnects(n).await;
        stays(Duration::from_millis(1200), async || {}).await;
        let told = std::iter::from_fn(|| phone.memory().take(&json!({ "type": "presence" }))).count();
        quiet = told == 0;
        if quiet {
            break;
        }
    }
    assert!(quiet, "Alice watches Bob for ever");
}

pub async fn blocks_are_bounded_and_refuse_what_makes_no_sense(on: Deployment) {
    let world = on.with("KEEPSTEP_BLOCKS_PER_USER", "3").with("KEEPSTEP_INVITES", "consent").start().await;
    let [alice, bob] = users(&world, ["alice", "bob"]);
    for n in 0..3 {
        blocks(&alice, &world.user(&format!("stranger{n}"))).await;
    }
    let put = async |whom: &str| alice.api(0).call("PUT", &format!("/v1/blocks/{whom}"), None).await;
    put(&bob.name).await.problem(409, "limit_reached");
    put(&world.user("stranger0").name).await.ok();
    put(&alice.name).await.problem(400, "bad_field");
    put("no%20user").await.problem(400, "bad_field");
    world
        .stranger()
        .call("PUT", &format!("/v1/blocks/{}", bob.name), None)
        .await
        .problem(401, "unauthorized");
    unblocks(&alice, &world.user("stranger1")).await;
    // What waits for an answer goes with the block.
    let group = bob.group("come").await;
    invites(&bob, &group, &alice).await.with(200);
    assert_eq!(invitations(&alice).await.len(), 1);
    blocks(&alice, &bob).await;
    assert_eq!(invitations(&alice).await, Vec::<Value>::new());
    answers(&alice, &group, "accept").await.problem(404, "not_found");
    invites(&bob, &group, &alice).await.problem(403, "forbidden");
    let first = alice.api(0).get("/v1/blocks?limit=2").await.ok();
    assert_eq!(first["items"].as_array().map(Vec::len), Some(2));
    let rest = format!("/v1/blocks?limit=2&after={}", first["next"].as_str().expect("more"));
    assert_eq!(alice.api(0).get(&rest).await.ok()["items"].as_array().map(Vec::len), Some(1));
    alice.api(0).get("/v1/blocks?limit=0").await.problem(400, "bad_range");
}
