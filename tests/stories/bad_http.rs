//! Invalid input over HTTP.

use serde_json::{Value, json};

use super::Deployment;
use super::client::raw_http;

pub async fn bad_bodies_are_refused_with_their_code(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chat = alice.direct(&bob).await;
    let send = format!("/v1/chats/{chat}/messages");
    let key = uuid::Uuid::new_v4();
    let message = format!(r#"{{"key":"{key}","kind":"text","content":"x""#);
    let deep = format!(r#"{{"kind":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let rows: Vec<(&str, String, &str)> = vec![
        ("/v1/devices", String::new(), "400 bad_json"),
        ("/v1/devices", "{".to_owned(), "400 bad_json"),
        ("/v1/devices", "hello".to_owned(), "400 bad_json"),
        ("/v1/devices", "{} x".to_owned(), "400 bad_json"),
        ("/v1/devices", "{}".to_owned(), "400 bad_field"),
        ("/v1/devices", "[]".to_owned(), "400 bad_field"),
        ("/v1/devices", r#"["main","n","p",null,false]"#.to_owned(), "400 bad_field"),
        (&send, format!(r#"[null,null,null,"{key}","text","x",null,null,null]"#), "400 bad_field"),
        ("/v1/devices", deep, "400 bad_field"),
        ("/v1/devices", r#"{"kind":"main","name":"n"}"#.to_owned(), "400 bad_field"),
        ("/v1/devices", r#"{"kind":"tablet","name":"n","platform":"p"}"#.to_owned(), "400 bad_field"),
        ("/v1/devices", r#"{"kind":"main","name":7,"platform":"p"}"#.to_owned(), "400 bad_field"),
        (
            "/v1/devices",
            r#"{"kind":"main","name":"n","platform":"p","user":"bob"}"#.to_owned(),
            "400 bad_field",
        ),
        (
            "/v1/devices",
            r#"{"kind":"main","name":"n","name":"n","platform":"p"}"#.to_owned(),
            "400 bad_field",
        ),
        ("/v1/devices", r#"{"kind":"main","name":"n","platform":"p","id":"1"}"#.to_owned(), "400 bad_field"),
        (
            "/v1/devices",
            r#"{"kind":"main","name":"n","platform":"p","id":"{a}*"}"#.to_owned(),
            "400 bad_field",
        ),
        (
            "/v1/devices",
            format!(r#"{{"kind":"main","name":"{}","platform":"p"}}"#, "n".repeat(5_000)),
            "413 too_large|400 bad_field",
        ),
        (
            "/v1/devices",
            format!(r#"{{"kind":"main","name":"{}","platform":"p"}}"#, "n".repeat(300_000)),
            "413 too_large",
        ),
        ("/v1/chats", r#"{"kind":"group","name":"n","secret":1}"#.to_owned(), "400 bad_field"),
        ("/v1/chats", r#"{"kind":"group","name":"n","id":"c.0#ephemeral"}"#.to_owned(), "400 bad_field"),
        ("/v1/chats/join", r#"{"password":"p"}"#.to_owned(), "400 bad_field"),
        (&send, format!(r#"{message},"from":"bob"}}"#), "400 bad_field"),
        (&send, format!(r#"{message},"seq":1}}"#), "400 bad_field"),
        (&send, r#"{"kind":"text","content":"x"}"#.to_owned(), "400 bad_field"),
        (&send, format!(r#"{{"key":"{key}","kind":"text","content":1}}"#), "400 bad_field"),
        (&send, format!(r#"{{"key":"{key}#ephemeral","kind":"text","content":"x"}}"#), "400 bad_field"),
    ];
    for (path, body, expected) in rows {
        let start: String = body.chars().take(100).collect();
        let answer = alice.api(0).call("POST", path, Some(body)).await;
        let got = format!("{} {}", answer.status, answer.body["code"].as_str().unwrap_or_default());
        assert!(
            expected.split('|').any(|one| one == got),
            "{path} {start}: {expected}, but {got}: {}",
            answer.text
        );
        assert!(answer.head.contains("application/problem+json"), "{path} {start}: {}", answer.head);
    }
    // Not UTF-8.
    let head = format!(
        "POST {send} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        alice.token
    );
    let mut request = format!("{head}Content-Length: 4\r\n\r\n").into_bytes();
    request.extend([b'"', 0xff, 0xfe, b'"']);
    raw_http(&world.addresses()[0], &request).await.expect("an answer").problem(400, "bad_json");

    let devices = alice.api(1).get("/v1/devices").await.ok();
    assert_eq!(devices["items"], json!([]), "none of it made a device");
    let chats = alice.api(1).get("/v1/chats").await.ok();
    assert_eq!(chats["items"].as_array().map(Vec::len), Some(1), "none of it made a chat: {chats}");
    assert_eq!(chats["items"][0]["head"], 0, "none of it was sent");
}

pub async fn bad_paths_are_not_found(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chat = alice.direct(&bob).await;
    for path in [
        "/nothing",
        "/v1",
        "/v2/chats",
        "/v1/chats//messages",
        "/v1/chats/*",
        "/v1/chats/%2e%2e%2fadmin",
        "/v1/chats/..%2f..%2fadmin",
        "/v1/chats/%00",
        "/v1/chats/%7Ba%7D",
        "/v1/chats/x%0d%0aX-Evil:%20y",
        "/v1/chats/join/join",
        "/v1/terminations/none",
        "/v1/terminations/0b1c2d3e-0000-4000-8000-00000000000a",
        "/.git/config",
        "/metrics",
        "/readyz",
        &format!("/v1/chats/{}", "a".repeat(65)),
        &format!("/v1/chats/{chat}%23ephemeral"),
        &format!("/v1/chats/{chat}/none"),
        &format!("/v1/chats/{}", chat.replace('-', "")),
    ] {
        let answer = alice.api(0).get(path).await;
        assert!([400, 404, 405].contains(&answer.status), "{path}: {} {}", answer.status, answer.text);
        assert!(!answer.head.contains("x-evil"), "{path}: {}", answer.head);
    }
    for (method, path) in
        [("PUT", "/v1/devices"), ("DELETE", "/v1/chats"), ("PATCH", "/v1/offsets"), ("TRACE", "/v1/chats")]
    {
        let answer = alice.api(0).call(method, path, None).await;
        assert!([404, 405].contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
    }
    let query = ["limit=-1", "limit=1e9", "limit=99999999999999999999", "limit=abc", "after=%00"];
    for query in query {
        let answer = alice.api(0).get(&format!("/v1/chats?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
    }
    // A missing route needs no token to be missing, and a good one needs one.
    assert_eq!(world.stranger().get("/v1/none").await.status, 404);
    world.stranger().get(&format!("/v1/chats/{chat}")).await.problem(401, "unauthorized");
}

pub async fn requests_that_are_no_http_do_not_hurt(on: Deployment) {
    let world = on.with("KEEPSTEP_HEADER_TIMEOUT", "500ms").start().await;
    let alice = world.user("alice");
    let edge = world.addresses()[0].clone();
    let huge = format!("GET /v1/chats HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let token = format!(
        "GET /v1/chats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        "x".repeat(9_000)
    );
    let rows: [(&str, &[u8], &[u16]); 7] = [
        ("no HTTP", b"hello\r\n\r\n", &[400]),
        ("zeroes", &[0; 64], &[400]),
        ("TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03], &[400, 408]),
        ("an unknown version", b"GET / HTTP/9.9\r\n\r\n", &[400, 505]),
        ("a head too large", huge.as_bytes(), &[400, 431]),
        ("a token too large", token.as_bytes(), &[401, 431]),
        ("a head that never ends", b"GET /v1/chats HTTP/1.1\r\nHost: x\r\n", &[400, 408]),
    ];
    for (what, bytes, expected) in rows {
        // A closed connection is an answer to what isn't HTTP; hanging isn't.
        match raw_http(&edge, bytes).await {
            Ok(answer) => {
                assert!(expected.contains(&answer.status), "{what}: {} {}", answer.status, answer.text)
            }
            Err(closed) => {
                assert_ne!(closed.kind(), std::io::ErrorKind::ConnectionRefused, "{what}: {closed}")
            }
        }
    }
    // What names no path is an unknown address like any other.
    for line in ["CONNECT a:1", "GET a:1", "OPTIONS *"] {
        let asked = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        raw_http(&edge, asked.as_bytes()).await.expect("an answer").problem(404, "not_found");
    }
    let healthy = alice.api(0).get("/v1/chats").await.with(200);
    assert_eq!(healthy["items"], json!([]));
    assert_eq!(healthy["next"], Value::Null);
}

pub async fn what_was_wrong_is_told_again_in_part(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, chat) = (alice.phone(0).await, alice.direct(&bob).await);
    let long = "zebra".repeat(20_000);
    let echo = |text: &str| text.matches("zebra").count() * 5;
    for body in [
        json!({ (long.as_str()): 1 }),
        json!({ "kind": long, "name": "n", "platform": "p" }),
        json!({ "kind": "main", "name": "n", "platform": "p", "id": long }),
        json!({ "kind": "sub", "name": "n", "platform": "p", "history": long }),
    ] {
        let answer = alice.api(0).post("/v1/devices", body).await;
        assert!(echo(&answer.text) <= 64, "{} bytes of 100,000: {:.300}", echo(&answer.text), answer.text);
        answer.problem(400, "bad_field");
    }
    let path = format!("/v1/devices/{long}?dry_run={long}").chars().take(8_000).collect::<String>();
    let answer = world.admin().delete(&format!("/admin{path}")).await;
    assert!(echo(&answer.text) <= 64, "{:.300}", answer.text);
    for frame in [
        json!({ "type": "send", "id": 1, "chat": chat, "key": long, "kind": "text", "content": "x" }),
        json!({ "type": "send", "id": 2, "chat": long, "kind": "text", "content": "x" }),
        json!({ "type": "read", "id": 3, "chat": chat, "seq": long }),
        json!({ "type": "read", "id": 4, "chat": chat, "seq": 0, (long.as_str()): 1 }),
    ] {
        let refused = phone.requests(frame).await.unwrap_err().to_string();
        assert!(echo(&refused) <= 64, "{} bytes: {refused:.300}", echo(&refused));
    }
}
