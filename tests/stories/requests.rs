//! Every request has an id, the client's or a new one. It is in the answer, in the problem, and on each line that the
//! server logs for the request.

use serde_json::{Value, json};

use super::client::{Answer, Api, PATIENCE, admin_token, raw_http};
use super::wire::{HANDSHAKE, Wire};
use super::{Deployment, World};
use crate::support::wait_until;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Makes a call with further headers, each with its line end.
async fn call(api: &Api, line: &str, headers: &str) -> Answer {
    let token = api.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
    let token = token.unwrap_or_default();
    let edge = &api.edge;
    let request = format!("{line} HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\n{token}{headers}\r\n");
    raw_http(edge, request.as_bytes()).await.expect("an answer")
}

/// Returns the only value of a header, from a head in lower case.
fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    let values: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
    assert_eq!(values.len(), 1, "{name} isn't there once: {head}");
    values[0]
}

fn is_made(id: &str) -> bool {
    id.len() == 36 && uuid::Uuid::parse_str(id).is_ok()
}

pub async fn a_request_gets_an_id_or_keeps_its_own(on: Deployment) {
    let world = on.start().await;
    let api = world.user("alice").api(0);
    let (one, two) = (call(&api, "GET /v1/chats", "").await, call(&api, "GET /v1/chats", "").await);
    let (one, two) = (header(&one.head, "x-request-id"), header(&two.head, "x-request-id"));
    assert!(is_made(one) && is_made(two) && one != two, "{one} {two}");

    let long = "a".repeat(128);
    for id in ["7", "01jdz-k.q_x:y/z+a=b@c~d", &long] {
        let answer = call(&api, "GET /v1/chats", &format!("X-Request-Id: {id}\r\n")).await;
        assert_eq!(header(&answer.head, "x-request-id"), id);
    }

    // What could be told apart badly, or break a log or a page, is replaced.
    let too_long = "a".repeat(129);
    for id in ["", "a b", "a\"b", "<b>", "a;b", "a,b", "{a}", "a\\b", "a%0ab", "é", "a\tb", &too_long] {
        let answer = call(&api, "GET /v1/chats", &format!("X-Request-Id: {id}\r\n")).await;
        let got = header(&answer.head, "x-request-id");
        assert!(is_made(got), "{id:?} became {got:?}");
    }
    let twice = call(&api, "GET /v1/chats", "X-Request-Id: one\r\nX-Request-Id: two\r\n").await;
    assert!(is_made(header(&twice.head, "x-request-id")), "{}", twice.head);
}

pub async fn a_refusal_says_which_request_it_is_about(on: Deployment) {
    let world = on.with("KEEPSTEP_LINKS_PER_MINUTE", "1").start().await;
    let (alice, stranger) = (world.user("alice").api(0), world.stranger());
    let link = r#"{"name":"Firefox","platform":"web"}"#;
    stranger.call("POST", "/v1/links", Some(link.to_owned())).await.with(201);
    let large = "Content-Type: application/json\r\nContent-Length: 99999999\r\n";
    let empty = "Content-Length: 0\r\n";
    for (api, line, headers, status) in [
        (&alice, "POST /v1/devices", empty, 400),
        (&stranger, "GET /v1/chats", "", 401),
        (&alice, "GET /admin/v1/overview", "", 403),
        (&alice, "GET /nothing", "", 404),
        (&alice, "CONNECT example.org:443", "", 404),
        (&alice, "PUT /v1/chats", "", 405),
        (&alice, "POST /v1/devices", large, 413),
        (&stranger, "POST /v1/links", "Content-Length: 35\r\nContent-Type: application/json\r\n", 429),
    ] {
        for own in [true, false] {
            let own = own.then(|| format!("X-Request-Id: of-{status}\r\n"));
            let body = if status == 429 { link } else { "" };
            let headers = format!("{}{headers}\r\n{body}", own.as_deref().unwrap_or_default());
            let answer = call(api, line, &headers).await;
            assert_eq!(answer.status, status, "{line}: {}", answer.text);
            let id = header(&answer.head, "x-request-id");
            assert_eq!(answer.body["request_id"], id, "{line}: {}", answer.text);
            assert_eq!(own.is_none(), is_made(id), "{line}: {id}");
        }
    }
    // The operations listener, too.
    let ops = Api { edge: world.edges[0].ops(), token: None };
    for (line, status) in
        [("GET /healthz", 200), ("GET /readyz", 200), ("GET /metrics", 200), ("GET /nothing", 404)]
    {
        let answer = call(&ops, line, "X-Request-Id: of-ops\r\n").await;
        assert_eq!((answer.status, header(&answer.head, "x-request-id")), (status, "of-ops"), "{line}");
    }
}

pub async fn an_upgrade_has_the_id_of_its_request(on: Deployment) {
    let world = on.start().await;
    let phone = world.user("alice").registers("main").await;
    let edge = &world.addresses()[0];
    let ask = |more: &str| format!("GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\n{more}\r\n");
    let token = format!("Authorization: Bearer {}\r\n", phone.token);
    let good = ask(&format!("{HANDSHAKE}{token}X-Request-Id: of-the-phone\r\n"));
    let (_wire, head) = Wire::handshake(edge, &good).await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert_eq!(header(&head, "x-request-id"), "of-the-phone");
    let (_wire, head) = Wire::handshake(edge, &ask(&format!("{HANDSHAKE}{token}"))).await;
    assert!(is_made(header(&head.to_ascii_lowercase(), "x-request-id")), "{head}");
    // Refused before the upgrade, as a strange page, and because it is none.
    for (more, status) in [("Origin: https://evil.example\r\n", 403), ("", 400)] {
        let upgrade = if status == 403 { HANDSHAKE } else { "" };
        let ask = ask(&format!("Connection: close\r\n{upgrade}{token}{more}X-Request-Id: of-none\r\n"));
        let answer = raw_http(edge, ask.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(header(&answer.head, "x-request-id"), "of-none");
        assert_eq!(answer.body["request_id"], "of-none", "{}", answer.text);
    }
}

pub async fn pages_of_other_origins_read_the_id_and_send_their_own(on: Deployment) {
    let world = on.with("KEEPSTEP_ALLOWED_ORIGINS", "https://chat.example").start().await;
    let api = world.user("alice").api(0);
    let asked = "Origin: https://chat.example\r\nAccess-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: authorization, traceparent, x-request-id\r\n";
    let answer = call(&world.stranger(), "OPTIONS /v1/chats", asked).await;
    let allowed: Vec<&str> =
        header(&answer.head, "access-control-allow-headers").split(',').map(str::trim).collect();
    for name in ["authorization", "traceparent", "tracestate", "x-request-id"] {
        assert!(allowed.contains(&name), "{name}: {}", answer.head);
    }
    assert!(is_made(header(&answer.head, "x-request-id")), "{}", answer.head);
    for line in ["GET /v1/chats", "GET /nothing"] {
        let answer = call(&api, line, "Origin: https://chat.example\r\n").await;
        let exposed: Vec<&str> =
            header(&answer.head, "access-control-expose-headers").split(',').map(str::trim).collect();
        assert!(exposed.contains(&"x-request-id") && exposed.contains(&"retry-after"), "{}", answer.head);
    }
    let strange = call(&api, "GET /v1/chats", "Origin: https://evil.example\r\n").await;
    assert!(!strange.head.contains("access-control-"), "{}", strange.head);
}

pub async fn the_log_says_for_which_request_and_which_session(on: Deployment) {
    // As little as possible is let through: the ids are on each line all the same.
    let filter = "off,keepstep::http::admin=info,keepstep::session=debug,keepstep::sync::termination=info";
    let mut world = on.with("KEEPSTEP_LOG_FORMAT", "json").with("KEEPSTEP_LOG", filter).start().await;
    let alice = world.user("alice");
    let phone = alice.registers("main").await;
    let edge = world.addresses()[0].clone();
    let token = format!("Authorization: Bearer {}\r\n", phone.token);
    let upgrade = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\n{HANDSHAKE}{token}X-Request-Id: of-the-socket\r\n\r\n"
    );
    let (mut wire, _) = Wire::handshake(&edge, &upgrade).await;
    wire.frame().await.expect("welcome");
    let admin = Api::new(&edge, &admin_token());
    let kick = format!("POST /admin/v1/users/{}/kick", alice.name);
    for (id, trace) in [
        ("kick-1", format!("00-{TRACE}-00f067aa0ba902b7-01")),
        ("kick-2", String::new()),
        ("kick-3", format!("00-{TRACE}-0000000000000000-01")),
        ("kick-4", format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase())),
        ("kick-5", format!("ff-{TRACE}-00f067aa0ba902b7-01")),
    ] {
        let headers = format!("X-Request-Id: {id}\r\nTraceparent: {trace}\r\nContent-Length: 0\r\n");
        call(&admin, &kick, &headers).await.ok();
    }
    assert_eq!(wire.close_code().await, Some(4410), "kicked");
    let end = format!("DELETE /admin/v1/devices/{}", phone.id);
    let end = call(&admin, &end, "X-Request-Id: of-the-end\r\n").await.ok();
    let end = end["termination"]["id"].as_str().expect("an id").to_owned();
    let spans = |event: &Value| event["spans"].as_array().cloned().unwrap_or_default();
    let done = wait_until("the termination's line", PATIENCE, async || {
        events(&mut world).into_iter().find(|event| {
            event["message"].as_str().is_some_and(|message| message.starts_with("device terminated"))
        })
    })
    .await;
    let work = spans(&done).into_iter().find(|span| span["name"] == "termination").expect("its span");
    assert_eq!((&work["termination"], &work["device"]), (&json!(end), &json!(phone.id)), "{done}");
    assert_eq!(spans(&done)[0]["request_id"], "of-the-end", "{done}");

    let all = events(&mut world);
    let kicks: Vec<&Value> =
        all.iter().filter(|event| event["message"] == "admin closes all sockets of a user").collect();
    assert_eq!(kicks.len(), 5, "{all:?}");
    for (n, event) in kicks.into_iter().enumerate() {
        let span = &event["span"];
        assert_eq!(span["name"], "request", "{event}");
        assert_eq!(span["request_id"], format!("kick-{}", n + 1), "{event}");
        assert_eq!((&span["method"], &span["user"]), (&json!("POST"), &json!("root")), "{event}");
        // The path without the id that is in it.
        assert_eq!(span["path"], "/admin/v1/users/{user}/kick", "{event}");
        let trace = if n == 0 { json!(TRACE) } else { Value::Null };
        assert_eq!(span["trace_id"], trace, "{event}");
    }
    let session = |what: &str| all.iter().find(|event| event["message"] == what).expect(what);
    for event in [session("a device is connected"), session("a device's connection ends")] {
        let span = &event["span"];
        assert_eq!(span["name"], "session", "{event}");
        assert_eq!((&span["user"], &span["device"]), (&json!(alice.name), &json!(phone.id)), "{event}");
        assert_eq!(span["session"], event["session"], "{event}");
        assert_eq!(span["request_id"], "of-the-socket", "{event}");
        assert_eq!(spans(event).len(), 1, "the upgrade is over: {event}");
    }
}

/// Returns what the first edge has logged.
fn events(world: &mut World) -> Vec<Value> {
    let log = world.edges[0].process().log();
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}
