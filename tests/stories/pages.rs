//! The pages' files, the demo page's playground, and a user's view of the own queues.

use serde_json::{Value, json};

use super::Deployment;
use super::client::{Answer, Api, PATIENCE, raw_http};
use super::user::{User, id};
use super::world::{World, channel, topic};
use crate::support::wait_until;

async fn page(world: &World, path: &str, more: &str) -> Answer {
    let edge = world.edges[0].listen();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\n{more}\r\n");
    raw_http(&edge, request.as_bytes()).await.expect("ask for a page")
}

pub async fn pages_come_with_their_rules(on: Deployment) {
    let world = on.start().await;
    for path in ["/", "/admin"] {
        let answer = page(&world, path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        for header in [
            "content-type: text/html; charset=utf-8",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-cache",
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        ] {
            assert!(answer.head.contains(header), "{path}: {header} isn't in {}", answer.head);
        }
        let host = world.edges[0].listen();
        assert!(
            answer.head.contains(&format!("connect-src 'self' ws://{host} wss://{host}")),
            "{}",
            answer.head
        );
        // Nothing in the page itself that this policy would forbid.
        let text = answer.text.to_ascii_lowercase();
        assert!(
            !text.contains(" style=") && !text.contains("<style") && !text.contains(" onclick"),
            "{text}"
        );

        // Packed for who takes it, and only then.
        assert!(!answer.head.contains("content-encoding"), "{}", answer.head);
        let packed = page(&world, path, "Accept-Encoding: br, gzip\r\n").await;
        assert!(packed.head.contains("content-encoding: gzip"), "{}", packed.head);
        assert!(packed.head.contains("vary: accept-encoding"), "{}", packed.head);

        let tag = answer.head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag");
        // Heads are kept in lower case here.
        let tag = tag.replacen("w/", "W/", 1);
        let again = page(&world, path, &format!("If-None-Match: \"other\", {tag}\r\n")).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{}", again.head);
        assert_eq!(page(&world, path, "If-None-Match: \"other\"\r\n").await.status, 200);
    }
}

pub async fn what_is_no_page_is_not_found(on: Deployment) {
    let world = on.start().await;
    let nobody = Api { edge: world.edges[0].listen(), token: None };
    for path in [
        "/index.html",
        "/demo",
        "/demo/../../Cargo.toml",
        "/demo/%2e%2e/%2e%2e/Cargo.toml",
        "/demo/..%2f..%2fCargo.toml",
        "//etc/passwd",
        "/demo/nothing.js",
        "/sdk/package-lock.json",
        "/admin/v1/nothing",
    ] {
        nobody.get(path).await.problem(404, "not_found");
    }
    nobody.post("/", json!({})).await.problem(405, "not_found");
    nobody.post("/v1/nothing", json!({})).await.problem(404, "not_found");
}

pub async fn the_demo_page_can_be_switched_off(on: Deployment) {
    let world = on.with("KEEPSTEP_DEMO", "false").start().await;
    let nobody = Api { edge: world.edges[0].listen(), token: None };
    for path in ["/", "/demo/index.html", "/demo/main.js", "/demo/session.js"] {
        nobody.get(path).await.problem(404, "not_found");
    }
    for path in ["/admin", "/sdk/keepstep.js", "/shared/base.css"] {
        assert_eq!(page(&world, path, "").await.status, 200, "{path}");
    }
}

pub async fn a_playground_is_for_who_wants_one(on: Deployment) {
    let world = on.start().await;
    let nobody = Api { edge: world.edges[0].listen(), token: None };
    nobody.post("/v1/playground", json!({})).await.problem(404, "not_found");
    nobody.get("/v1/playground").await.problem(404, "not_found");

    let world = on.with("KEEPSTEP_PLAYGROUND", "true").start().await;
    let nobody = Api { edge: world.edges[0].listen(), token: None };
    nobody.get("/v1/playground").await.with(200);
    nobody.post("/v1/playground", json!({"x": 1})).await.problem(400, "bad_field");
    let made = nobody.post("/v1/playground", json!({})).await.with(200);
    let other = nobody.call("POST", "/v1/playground", None).await.with(200);
    assert_ne!(made["users"][0]["user"], other["users"][0]["user"]);
    // A second edge comes with the embedded mode; on a stack it is the operator who knows the others.
    assert_eq!(made["second_edge"].is_string(), world.stack.is_none(), "{made}");
    let player = |index: usize| {
        let text = |field: &str| made["users"][index][field].as_str().expect("a text").to_owned();
        User::with_token(&text("user"), &text("token"), world.addresses())
    };
    let (alice, bob) = (player(0), player(1));
    assert!(alice.name.starts_with("alice-") && bob.name.starts_with("bob-"), "{made}");
    // Real users, but no admins.
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "hi", 3).await;
    bobs.hears(&chat, 3).await;
    phone.hears(&chat, 3).await;
    alice.api(0).get("/admin/v1/overview").await.problem(403, "forbidden");

    for _ in 0..120 {
        if nobody.post("/v1/playground", json!({})).await.status == 429 {
            return;
        }
    }
    panic!("the playground has no limit");
}

pub async fn a_user_sees_the_own_queues(on: Deployment) {
    let world = on.with("KEEPSTEP_QUEUE_VIEWS_PER_MINUTE", "100").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.leaves().await;
    phone.says_many(&chat, "waiting", 7).await;
    let path = format!("/v1/devices/{}/channels", bobs.id);
    let device = Api::new(&world.edges[0].listen(), &bobs.token);
    let view = wait_until("7 messages to wait", PATIENCE, || async {
        let view = device.get(&path).await.with(200);
        (view["items"][0]["depth"] == 7).then_some(view)
    })
    .await;
    let item = &view["items"][0];
    assert_eq!((&item["topic"], &item["channel"]), (&json!(topic(&chat)), &json!(channel(&bobs.id))));
    assert_eq!((&item["chat"], &item["cursor"], &item["head"]), (&json!(chat), &json!(0), &json!(7)));
    assert_eq!(view["unreachable"], json!([]));
    assert_eq!(bob.api(0).get(&path).await.with(200)["items"][0]["depth"], 7);
    // Not somebody else's, whether there is such a device or not; not without a token; not all the time.
    alice.api(0).get(&path).await.problem(404, "not_found");
    let nobodys = format!("/v1/devices/{}/channels", uuid::Uuid::new_v4());
    alice.api(0).get(&nobodys).await.problem(404, "not_found");
    alice.api(0).get("/v1/devices/x/channels").await.problem(400, "bad_field");
    Api { token: None, ..device.clone() }.get(&path).await.problem(401, "unauthorized");
    for _ in 0..100 {
        if device.get(&path).await.status == 429 {
            return;
        }
    }
    panic!("a user may look at the queues without end");
}

/// For the embedded mode only: there the playground has a second edge, in the same process.
pub async fn a_device_moves_to_the_playgrounds_second_edge() {
    let mut world = Deployment::Embedded.with("KEEPSTEP_PLAYGROUND", "true").start().await;
    let first = world.edges[0].listen();
    let made = Api { edge: first.clone(), token: None }.post("/v1/playground", json!({})).await.with(200);
    let second =
        made["second_edge"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
    assert!(page(&world, "/", "").await.head.contains(&format!(" ws://{second}")), "it may be connected to");
    let edges: std::sync::Arc<[String]> = [first.clone(), second.to_owned()].into();
    let user = |index: usize| {
        let text = |field: &str| made["users"][index][field].as_str().expect("a text").to_owned();
        User::with_token(&text("user"), &text("token"), edges.clone())
    };
    let (alice, bob) = (user(0), user(1));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "on the first", 3).await;
    bobs.hears(&chat, 3).await;
    bobs.acks(&chat, 3).await;
    let before = bobs.memory().welcome["edge"].clone();
    bobs.leaves().await;
    bobs.connects(1).await;
    assert_ne!(bobs.memory().welcome["edge"], before);
    phone.says_many(&chat, "on the second", 3).await;
    bobs.hears(&chat, 6).await;
    bobs.acks(&chat, 6).await;

    // The first edge's page may connect there, a page of elsewhere may not.
    for (origin, status) in [(format!("http://{first}"), 400), ("http://evil.example".to_owned(), 403)] {
        let request = format!(
            "GET /v1/socket HTTP/1.1\r\nHost: {second}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
        );
        let answer = raw_http(second, request.as_bytes()).await.expect("ask the second edge");
        assert_eq!(answer.status, status, "{origin}: {}", answer.text);
    }
    // It has no playground of its own: one is enough.
    Api { edge: second.to_owned(), token: None }
        .post("/v1/playground", json!({}))
        .await
        .problem(404, "not_found");
    // Ended there, it is ended here.
    let device: Value = alice.api(1).get("/v1/devices").await.with(200)["items"][0].clone();
    assert_eq!(id(&device), phone.id);
    // Each edge hears the store's events for itself: else offsets and chats would move by the sweeps alone.
    let log = world.edges[0].process().log();
    assert!(!log.contains("taken already"), "{log}");
}

pub async fn a_playground_without_a_secret_is_refused() {
    use super::start::refused;
    use crate::support::EdgeConfig;
    let config = || EdgeConfig::embedded().set("KEEPSTEP_PLAYGROUND", "true");
    let keys = config()
        .unset("KEEPSTEP_JWT_SECRET")
        .set("KEEPSTEP_TOKEN_SECRET", "a secret of tests alone, 32 bytes or more")
        .set("KEEPSTEP_JWKS", "http://127.0.0.1:1/jwks.json");
    refused(keys, &["KEEPSTEP_PLAYGROUND", "KEEPSTEP_JWT_SECRET"]).await;
    let edges = config().set("KEEPSTEP_PLAYGROUND_EDGES", "http://127.0.0.1:1");
    refused(edges, &["KEEPSTEP_PLAYGROUND_EDGES", "KEEPSTEP_PLAYGROUND_LISTEN"]).await;
    let web = EdgeConfig::embedded().set("KEEPSTEP_WEB", "/nowhere/at/all");
    refused(web, &["KEEPSTEP_WEB", "folder"]).await;
}
