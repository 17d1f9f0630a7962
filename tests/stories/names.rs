//! Names of groups, devices and links: no name leads to another group, and none has hidden characters.

use serde_json::{Value, json};

use super::Deployment;
use super::client::Answer;
use super::user::{User, id};

async fn joins(user: &User, name: &str, password: Option<&str>) -> Answer {
    let mut body = json!({ "name": name });
    if let Some(password) = password {
        body["password"] = password.into();
    }
    user.api(1).post("/v1/chats/join", body).await
}

async fn chats_of(user: &User) -> Vec<Value> {
    user.api(0).get("/v1/chats").await.ok()["items"].as_array().expect("a list").clone()
}

fn own(name: &str) -> String {
    format!("{name} {}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

pub async fn a_name_with_a_password_leads_into_no_group_without_one(on: Deployment) {
    let world = on.start().await;
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| world.user(name));
    let (club, plaza) = (own("Book club"), own("Plaza"));
    let guarded = |name: &str| json!({ "kind": "group", "name": name, "password": "sesame" });
    let open = |name: &str| json!({ "kind": "group", "name": name, "public": true });
    let alices = id(&alice.api(0).post("/v1/chats", guarded(&club)).await.with(201));
    // Whoever comes later gets the name neither for a group that everybody may enter, nor one like it.
    for name in [club.clone(), club.to_uppercase(), club.replace('o', "0"), format!(" {club}\u{3000}")] {
        mallory.api(1).post("/v1/chats", open(&name)).await.problem(409, "conflict");
    }
    assert_eq!(chats_of(&mallory).await, Vec::<Value>::new(), "a refusal changes nothing");
    joins(&bob, &club, None).await.problem(403, "wrong_password");
    joins(&bob, &club, Some("guess")).await.problem(403, "wrong_password");
    assert_eq!(joins(&bob, &club, Some("sesame")).await.ok()["id"], json!(alices));
    // Groups with a password share theirs, also with one that is public and has a password.
    alice.api(0).post("/v1/chats", guarded(&club)).await.with(201);
    let both = json!({ "kind": "group", "name": club, "public": true, "password": "another" });
    let both = id(&mallory.api(0).post("/v1/chats", both).await.with(201));
    assert_eq!(joins(&mallory, &club, Some("another")).await.ok()["id"], json!(both));

    // The other way round.
    let mallorys = id(&mallory.api(0).post("/v1/chats", open(&plaza)).await.with(201));
    alice.api(0).post("/v1/chats", guarded(&plaza.to_lowercase())).await.problem(409, "conflict");
    joins(&bob, &plaza, Some("sesame")).await.problem(404, "not_found");
    assert!(chats_of(&bob).await.iter().all(|chat| chat["id"] != mallorys.as_str()));
    assert_eq!(joins(&bob, &plaza, None).await.ok()["id"], json!(mallorys));
    // A private group may be called anything.
    alice.api(0).post("/v1/chats", json!({ "kind": "group", "name": plaza })).await.with(201);
    // When the last has left, the name is free for either kind.
    for user in [&mallory, &bob] {
        user.leaves(&mallorys).await;
    }
    let again = || async {
        let answer = alice.api(0).post("/v1/chats", guarded(&plaza)).await;
        (answer.status == 201).then_some(())
    };
    crate::support::wait_until("the name to be free", super::client::PATIENCE, again).await;
}

pub async fn names_that_look_alike_are_one(on: Deployment) {
    let world = on.start().await;
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| world.user(name));
    let name = own("Café Straße fish");
    let public = |name: &str| json!({ "kind": "group", "name": name, "public": true });
    let cafe = id(&alice.api(0).post("/v1/chats", public(&name)).await.with(201));
    let alike = [
        name.to_uppercase(),
        name.replace('é', "e\u{301}"),
        name.replace("fi", "ﬁ"),
        name.replace('a', "\u{430}"),
        name.replace(' ', "\u{a0} "),
        name.replace("Caf", "Ｃａｆ"),
    ];
    for other in &alike {
        mallory.api(1).post("/v1/chats", public(other)).await.problem(409, "conflict");
        assert_eq!(joins(&bob, other, None).await.ok()["id"], json!(cafe), "{other:?}");
        bob.leaves(&cafe).await;
    }
    // What was pasted with something in it that can't be seen finds it, too.
    assert_eq!(joins(&bob, &format!("\u{feff}{name}\u{200b}"), None).await.ok()["id"], json!(cafe));
    // It is shown as it was written.
    assert_eq!(chats_of(&bob).await[0]["name"], json!(name));
    joins(&mallory, &own("Café Straße fish"), None).await.problem(404, "not_found");
}

pub async fn what_hides_in_a_name_is_refused(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let bad = [
        "a\u{200b}b",
        "abc\u{202e}gpj",
        "\u{2067}abc\u{2069}",
        "a\u{7}b",
        "a\u{2028}b",
        "a\u{200d}b",
        "\u{3164}",
        "a\u{ad}b",
    ];
    for name in bad {
        for field in ["name", "platform"] {
            let mut device = json!({ "kind": "sub", "name": "Firefox", "platform": "web" });
            device[field] = name.into();
            alice.api(0).post("/v1/devices", device).await.problem(400, "bad_field");
            let mut link = json!({ "name": "Firefox", "platform": "web" });
            link[field] = name.into();
            world.stranger().post("/v1/links", link).await.problem(400, "bad_field");
        }
        let group = json!({ "kind": "group", "name": name });
        alice.api(0).post("/v1/chats", group).await.problem(400, "bad_field");
    }
    assert_eq!(chats_of(&alice).await, Vec::<Value>::new());
    assert_eq!(alice.api(0).get("/v1/devices").await.ok()["items"].as_array().map(Vec::len), Some(1));
    // Emoji of several, variants, and scripts that need joiners are none of these.
    for name in ["❤\u{fe0f} 👨\u{200d}👩\u{200d}👧", "می\u{200c}خواهم", "שלום", "Ünïcödé ☕"]
    {
        let group = json!({ "kind": "group", "name": name });
        assert_eq!(alice.api(0).post("/v1/chats", group).await.with(201)["name"], json!(name));
        let device = json!({ "kind": "sub", "name": name, "platform": "web" });
        assert_eq!(alice.api(0).post("/v1/devices", device).await.with(201)["device"]["name"], json!(name));
    }
    // A file's name that turns around shows another kind of file.
    let chat = alice.group("files").await;
    let media = |name: &str| {
        json!({ "type": "send", "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "media",
        "media": { "url": "https://example.com/1", "name": name } })
    };
    phone.is_refused(media("invoice\u{202e}fdp.exe"), "bad_field").await;
    phone.requests(media("צילום\u{200f}.png")).await.expect("a mark is no such name");
}
