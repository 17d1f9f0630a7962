//! What the log contains, and what it never does: at the most verbose level of all libraries, in both formats, with
//! every secret in use.

use serde_json::{Value, json};

use super::client::{Socket, admin_token, sign};
use super::links::{Page, stranger};
use super::user::id;
use super::{Deployment, World};
use crate::support::JWT_SECRET;

/// Secrets, and their names for a failed test.
type Secrets = Vec<(String, String)>;

pub async fn no_secret_is_logged_in_text(on: Deployment) {
    let mut world = on.with("KEEPSTEP_LOG", "trace").start().await;
    let secrets = everything_happens(&world).await;
    for edge in &mut world.edges {
        let log = edge.process().log();
        hides(&log, &secrets);
        // That it was talkative, and not just silent.
        assert!(log.contains(" INFO keepstep"), "{log}");
        assert!(log.contains(": keepstep::session"), "{log}");
    }
}

pub async fn no_secret_is_logged_as_json(on: Deployment) {
    let mut world = on.with("KEEPSTEP_LOG", "trace").with("KEEPSTEP_LOG_FORMAT", "json").start().await;
    let secrets = everything_happens(&world).await;
    for edge in &mut world.edges {
        let log = edge.process().log();
        hides(&log, &secrets);
        let mut levels = Vec::new();
        // (What isn't an object was said to the standard output, which a test's process shares.)
        for line in log.lines().filter(|line| line.starts_with('{')) {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
            for field in ["timestamp", "level", "target", "message"] {
                assert!(event[field].is_string(), "{field}: {line}");
            }
            levels.push(event["level"].as_str().unwrap_or_default().to_owned());
        }
        assert!(levels.contains(&"INFO".to_owned()) && levels.contains(&"DEBUG".to_owned()), "{log}");
        for line in log.lines().filter(|line| !line.starts_with('{')) {
            for level in [" TRACE ", " DEBUG ", " INFO ", " WARN ", " ERROR "] {
                assert!(!line.contains(level), "an event that isn't JSON: {line}");
            }
        }
    }
}

/// Sends secrets in every way: right and wrong ones, by frame, header, query and body.
async fn everything_happens(world: &World) -> Secrets {
    let mark = |what: &str| format!("{what}-{}", uuid::Uuid::new_v4().simple());
    let mut secrets: Secrets = vec![("the secret of tokens".to_owned(), JWT_SECRET.to_owned())];
    let mut hide = |what: &str, secret: &str| {
        secrets.push((what.to_owned(), secret.to_owned()));
        secret.to_owned()
    };
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut web, bobs) = (alice.phone(0).await, alice.web(1).await, bob.phone(1).await);
    let other = alice.registers("sub").await;
    for (what, token) in [
        ("a user token", &alice.token),
        ("a device token", &phone.token),
        ("a sub's token", &web.token),
        ("another sub's token", &other.token),
    ] {
        // Its signature is what makes it a token.
        hide(what, token.rsplit('.').next().unwrap_or_default());
    }
    // A device token in a query, in a subprotocol and in a header; bad ones may be good elsewhere.
    let foreign = sign(&json!({ "sub": "alice", "exp": 9_999_999_999u64 }), &mark("another server's secret"));
    hide("another server's token", foreign.rsplit('.').next().unwrap_or_default());
    let edge = world.addresses()[0].clone();
    for token in [&other.token, &foreign] {
        let (pair, bearer) = (format!("keepstep.v1, bearer.{token}"), format!("Bearer {token}"));
        for (path, headers) in [
            (format!("/v1/socket?token={token}"), vec![]),
            ("/v1/socket".to_owned(), vec![("Sec-WebSocket-Protocol", pair.as_str())]),
            ("/v1/socket".to_owned(), vec![("Authorization", bearer.as_str())]),
        ] {
            let socket = Socket::handshake(&edge, &path, &headers).await.expect("it is upgraded");
            socket.close().await;
        }
        world.api(0, token).get("/v1/chats").await;
    }
    // The right password and a wrong one.
    let (right, wrong) = (hide("a password", &mark("right")), hide("a wrong password", &mark("wrong")));
    let group = json!({ "kind": "group", "name": mark("group"), "password": right });
    let group = id(&alice.api(0).post("/v1/chats", group).await.with(201));
    let join = format!("/v1/chats/{group}/join");
    bob.api(0).post(&join, json!({ "password": wrong })).await.problem(403, "wrong_password");
    bob.api(1).post(&join, json!({ "password": right })).await.ok();
    // A message with everything in it; one by HTTP; refused ones; a key that is used twice.
    let chat = alice.direct(&bob).await;
    let key = uuid::Uuid::new_v4().to_string();
    let full = |key: &str, texts: [&str; 6]| {
        json!({ "type": "send", "chat": chat, "key": key, "kind": "media", "content": texts[0], "memo": texts[1],
            "meta": { "amount": texts[2] }, "media": { "url": texts[3], "preview": texts[4], "name": texts[5] } })
    };
    let texts = ["content", "memo", "meta", "url", "preview", "name"].map(|what| hide(what, &mark(what)));
    phone.requests(full(&key, texts.each_ref().map(String::as_str))).await.expect("it is sent");
    let again = hide("content under a used key", &mark("again"));
    phone.is_refused(full(&key, [&again, "", "", "", "", ""]), "conflict").await;
    let mut typo = full(&key, [&hide("content of a bad frame", &mark("typo")), "", "", "", "", ""]);
    typo["contents"] = hide("a field that isn't there", &mark("contents")).into();
    phone.is_refused(typo, "bad_field").await;
    let by_http = hide("content by HTTP", &mark("http"));
    let body = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": by_http });
    bob.api(0).post(&format!("/v1/chats/{chat}/messages"), body).await.ok();
    let bad = hide("a body that is no JSON", &mark("no-json"));
    bob.api(0).call("POST", &format!("/v1/chats/{chat}/messages"), Some(bad)).await.problem(400, "bad_json");
    for device in [&phone, &web, &bobs] {
        device.hears(&chat, 2).await;
        device.acks(&chat, 2).await;
    }
    // A page that is linked; its secret, a wrong one, and the token that it gets.
    let page = Page::opens(&stranger(world, 1)).await;
    hide("a link's secret", &page.secret);
    let guess = hide("a wrong link's secret", &mark("guess"));
    page.polls(&guess, 0).await.problem(404, "not_found");
    page.decided(&phone.api(), json!({ "approve": true })).await.ok();
    let linked = page.polls(&page.secret, 2).await.with(200);
    let token = linked["token"].as_str().unwrap_or_else(|| panic!("{linked}"));
    hide("a linked page's token", token.rsplit('.').next().unwrap_or_default());
    // A past that is borrowed, a queue that is looked into, a device that is ended.
    let late = alice.web(0).await;
    hide("the token of a late sub", late.token.rsplit('.').next().unwrap_or_default());
    late.borrows(&chat, None, 100).await.expect("a page");
    let root = admin_token();
    hide("an admin's token", root.rsplit('.').next().unwrap_or_default());
    let admin = world.api(0, &root);
    admin.get(&format!("/admin/v1/devices/{}/channels", bobs.id)).await.ok();
    let end = alice.ends(&web.id).await;
    assert_eq!(web.closed().await.0, 4403);
    world.terminated(&phone.api(), &end).await;
    secrets
}

/// Checks that none of them is there: neither literally, nor in common encodings of bytes.
fn hides(log: &str, secrets: &Secrets) {
    for (what, secret) in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let list = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for form in [secret.clone(), hex.to_uppercase(), hex, list] {
            if let Some(line) = log.lines().find(|line| line.contains(&form)) {
                panic!("{what} is in the log: {}", line.chars().take(600).collect::<String>());
            }
        }
    }
}
