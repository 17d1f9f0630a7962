//! Who may join a group.

use serde_json::{Value, json};

use super::Deployment;
use super::user::{User, id};

async fn joins(user: &User, chat: &str, password: Option<&str>) -> super::client::Answer {
    let body = password.map_or(json!({}), |password| json!({ "password": password }));
    user.api(1).post(&format!("/v1/chats/{chat}/join"), body).await
}

pub async fn a_password_opens_a_group(on: Deployment) {
    let world = on.with("KEEPSTEP_PASSWORDS_PER_MINUTE", "4").start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let name = format!("club {}", uuid::Uuid::new_v4());
    let body = json!({ "kind": "group", "name": name, "password": "open sesame" });
    let club = alice.api(0).post("/v1/chats", body).await.with(201);
    assert!(!club.to_string().contains("sesame"), "{club}");
    let club = id(&club);

    joins(&bob, &club, Some("open  sesame")).await.problem(403, "wrong_password");
    joins(&bob, &club, None).await.problem(403, "wrong_password");
    assert!(bobs.memory().chat(&club).is_none());
    joins(&bob, &club, Some("open sesame")).await.ok();
    bobs.gets(json!({ "type": "chat", "event": "joined", "chat": club })).await;
    phone.gets(json!({ "type": "chat", "event": "member_joined", "chat": club, "user": bob.name })).await;
    bobs.says(&club, "hello").await;
    phone.hears(&club, 1).await;
    // A member who joins again is answered like one who has just joined.
    joins(&bob, &club, Some("open sesame")).await.ok();

    // By its name, too; and whoever guesses, guesses slowly.
    let by_name = |password: &str| json!({ "name": name, "password": password });
    for n in 0..4 {
        carol.api(n).post("/v1/chats/join", by_name("guess")).await.problem(403, "wrong_password");
    }
    carol.api(0).post("/v1/chats/join", by_name("open sesame")).await.problem(429, "too_many_requests");
    carol.api(0).get(&format!("/v1/chats/{club}")).await.problem(404, "not_found");
}

pub async fn a_public_group_is_found_by_its_name(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let bobs = bob.phone(0).await;
    let name = format!("plaza {}", uuid::Uuid::new_v4());
    let body = json!({ "kind": "group", "name": name, "public": true });
    let plaza = id(&alice.api(0).post("/v1/chats", body.clone()).await.with(201));
    // Its name is its own among public groups; a private group may have the same.
    bob.api(1).post("/v1/chats", body).await.problem(409, "conflict");
    let namesake = bob.group(&name).await;
    assert_ne!(namesake, plaza);

    bob.api(0).post("/v1/chats/join", json!({ "name": name })).await.ok();
    let joined = bobs.gets(json!({ "type": "chat", "event": "joined", "chat": plaza })).await;
    assert_eq!(joined["entry"]["name"], json!(name));
    let carol = world.user("carol");
    joins(&carol, &plaza, None).await.ok();
    assert_eq!(carol.api(0).get(&format!("/v1/chats/{plaza}")).await.ok()["id"], json!(plaza));
    carol.api(0).post("/v1/chats/join", json!({ "name": "no such name" })).await.problem(404, "not_found");
    alice
        .api(0)
        .post("/v1/chats", json!({ "kind": "group", "public": true }))
        .await
        .problem(400, "bad_field");
}

pub async fn a_private_group_is_not_there_for_others(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (direct, group) = (alice.direct(&world.user("carol")).await, alice.group("private").await);
    let nothing = uuid::Uuid::new_v4().to_string();
    // The same answer to the letter, whether it exists or not; but for the id of the request.
    let mut answers = Vec::new();
    for chat in [&group, &direct, &nothing] {
        let answer = joins(&bob, chat, Some("a guess")).await;
        let mut body = answer.body.clone();
        body["request_id"] = Value::Null;
        answers.push(body);
        answer.problem(404, "not_found");
    }
    assert!(answers[0] == answers[1] && answers[1] == answers[2], "{answers:#?}");
    bob.api(0).post("/v1/chats/join", json!({ "name": "private" })).await.problem(404, "not_found");
    for (method, path) in [
        ("GET", format!("/v1/chats/{group}")),
        ("POST", format!("/v1/chats/{group}/leave")),
        ("DELETE", format!("/v1/chats/{group}/members/{}", alice.name)),
    ] {
        let body = (method == "POST").then(|| "{}".to_owned());
        bob.api(1).call(method, &path, body).await.problem(404, "not_found");
    }
    let bobs = bob.registers("main").await;
    bobs.api().get(&format!("/v1/chats/{group}/messages")).await.problem(404, "not_found");
    let invitation = json!({ "user": bob.name });
    bob.api(0).post(&format!("/v1/chats/{group}/members"), invitation).await.problem(404, "not_found");
    let message = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "let me in" });
    bob.api(0).post(&format!("/v1/chats/{group}/messages"), message).await.problem(404, "not_found");
    assert_eq!(alice.api(0).get(&format!("/v1/chats/{group}")).await.ok()["head"], 0);
}

pub async fn only_the_owner_invites_and_removes(on: Deployment) {
    let world = on.start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let group = alice.group("us").await;
    alice.invites(&group, &bob).await;
    let (members, carols) = (format!("/v1/chats/{group}/members"), json!({ "user": carol.name }));
    bob.api(0).post(&members, carols.clone()).await.problem(403, "forbidden");
    bob.api(1).delete(&format!("{members}/{}", alice.name)).await.problem(403, "forbidden");
    world.stranger().post(&members, carols.clone()).await.problem(401, "unauthorized");
    alice.api(0).post(&members, json!({ "user": "not a * user" })).await.problem(400, "bad_field");
    alice.api(0).delete(&format!("{members}/{}", carol.name)).await.problem(404, "not_found");
    carol.api(0).get(&format!("/v1/chats/{group}")).await.problem(404, "not_found");
    // A direct chat has its two.
    let direct = alice.direct(&bob).await;
    alice.api(0).post(&format!("/v1/chats/{direct}/members"), carols.clone()).await.problem(403, "forbidden");
    alice.api(0).post(&members, carols).await.ok();
    assert_eq!(carol.api(0).get(&format!("/v1/chats/{group}")).await.ok()["id"], json!(group));
}

pub async fn who_is_removed_needs_an_invitation(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs, bobs_web) = (alice.phone(0).await, bob.phone(1).await, bob.web(0).await);
    let body = json!({ "kind": "group", "name": "club", "password": "sesame" });
    let club = id(&alice.api(0).post("/v1/chats", body).await.with(201));
    joins(&bob, &club, Some("sesame")).await.ok();
    phone.says(&club, "hello").await;
    for device in [&bobs, &bobs_web] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": club })).await;
        device.hears(&club, 1).await;
    }
    alice.removes(&club, &bob).await;
    for device in [&bobs, &bobs_web] {
        device.gets(json!({ "type": "chat", "event": "left", "chat": club })).await;
    }
    phone.gets(json!({ "type": "chat", "event": "member_left", "chat": club, "user": bob.name })).await;
    // The password doesn't help any more.
    joins(&bob, &club, Some("sesame")).await.problem(404, "not_found");
    bob.api(0)
        .post("/v1/chats/join", json!({ "name": "club", "password": "sesame" }))
        .await
        .problem(404, "not_found");
    phone.says(&club, "without Bob").await;
    alice.invites(&club, &bob).await;
    let joined = bobs.gets(json!({ "type": "chat", "event": "joined", "chat": club })).await;
    assert_eq!(joined["entry"]["from"], 2);
    phone.says(&club, "with Bob").await;
    for device in [&bobs, &bobs_web] {
        device.hears(&club, 3).await;
    }
    // Who leaves by themselves may come back by themselves.
    bob.leaves(&club).await;
    joins(&bob, &club, Some("sesame")).await.ok();
}

pub async fn the_id_of_a_group_that_ended_is_not_used_again(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let id = uuid::Uuid::new_v4().to_string();
    let group = json!({ "kind": "group", "name": "Club", "id": id });
    alice.api(0).post("/v1/chats", group.clone()).await.with(201);
    alice.api(1).post("/v1/chats", group.clone()).await.with(200);
    alice.api(0).post(&format!("/v1/chats/{id}/leave"), json!({})).await.with(200);
    for edge in [0, 1] {
        alice.api(edge).post("/v1/chats", group.clone()).await.problem(409, "conflict");
    }
    assert_eq!(alice.api(0).get("/v1/chats").await.with(200)["items"], json!([]));
}

pub async fn how_many_of_everything_is_limited(on: Deployment) {
    let world = on
        .with("KEEPSTEP_MEMBERS_PER_GROUP", "2")
        .with("KEEPSTEP_CHATS_PER_USER", "3")
        .with("KEEPSTEP_CREATES_PER_MINUTE", "6")
        .start()
        .await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let group = alice.group("us").await;
    alice.invites(&group, &bob).await;
    let carols = json!({ "user": carol.name });
    alice.api(1).post(&format!("/v1/chats/{group}/members"), carols).await.problem(409, "limit_reached");
    alice.direct(&bob).await;
    alice.group("another").await;
    let one_more = json!({ "kind": "group", "name": "one more" });
    alice.api(1).post("/v1/chats", one_more.clone()).await.problem(409, "limit_reached");
    // Six a minute: the seventh waits, wherever it is asked for.
    for edge in 0..2 {
        let answer = alice.api(edge).post("/v1/chats", one_more.clone()).await;
        assert!([409, 429].contains(&answer.status), "{}", answer.text);
    }
    alice.api(0).post("/v1/chats", one_more).await.problem(429, "too_many_requests");
    assert_eq!(alice.api(1).get("/v1/chats").await.ok()["items"].as_array().map(Vec::len), Some(3));
    // Nobody else is held up by it.
    carol.group("mine").await;
}
