//! Which calls each kind of token opens.

use serde_json::json;

use super::Deployment;
use super::client::{Api, Socket, admin_token, in_seconds, raw_http, sign};
use crate::support::JWT_SECRET;

pub async fn a_token_may_come_in_three_ways(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let phone = alice.registers("main").await;
    let edge = &world.addresses()[0];
    let (bearer, pair) = (format!("Bearer {}", phone.token), format!("keepstep.v1, bearer.{}", phone.token));
    let query = format!("/v1/socket?token={}", phone.token);
    type Way<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a str>);
    let ways: [Way; 5] = [
        ("/v1/socket", vec![("Authorization", &bearer)], None),
        ("/v1/socket", vec![("Sec-WebSocket-Protocol", &pair)], Some("keepstep.v1")),
        (&query, vec![], None),
        (&query, vec![("Sec-WebSocket-Protocol", "keepstep.v1")], Some("keepstep.v1")),
        (
            "/v1/socket",
            vec![("Authorization", &bearer), ("Sec-WebSocket-Protocol", "keepstep.v1")],
            Some("keepstep.v1"),
        ),
    ];
    for (path, headers, protocol) in ways {
        let mut socket =
            Socket::handshake(edge, path, &headers).await.unwrap_or_else(|why| panic!("{headers:?}: {why}"));
        // The subprotocol, never the part with the token.
        assert_eq!(socket.protocol.as_deref(), protocol);
        assert_eq!(socket.frame().await["type"], "welcome");
        socket.close().await;
    }
}

pub async fn a_bad_token_closes_the_socket_with_4401(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let (phone, gone) = (alice.registers("main").await, alice.registers("sub").await);
    let end = alice.ends(&gone.id).await;
    world.terminated(&alice.api(0), &end).await;
    for edge in world.addresses().iter() {
        // Upgraded, because a browser sees nothing else; then closed, and no frame before it.
        let bad = [
            String::new(),
            "garbage".to_owned(),
            "a.b.c".to_owned(),
            format!("{}x", phone.token),
            phone.token[..phone.token.len() - 4].to_owned(),
            format!("{0}.{0}", phone.token),
            "x".repeat(8_000),
            // A user's token is no device's.
            alice.token.clone(),
            admin_token(),
            // Made with the secret of user tokens, which isn't that of device tokens.
            sign(
                &json!({ "sub": alice.name, "dev": phone.id, "kind": "main", "gen": 2, "exp": in_seconds(60) }),
                JWT_SECRET,
            ),
        ];
        for token in bad {
            let (code, _) = Socket::open(edge, &token).await.refused().await;
            assert_eq!(code, 4401, "{token}");
        }
        let none = Socket::handshake(edge, "/v1/socket", &[]).await.expect("it is upgraded").refused().await;
        assert_eq!(none.0, 4401);
        let pair = [("Sec-WebSocket-Protocol", "keepstep.v1, bearer.garbage")];
        let mut garbage = Socket::handshake(edge, "/v1/socket", &pair).await.expect("it is upgraded");
        assert_eq!(garbage.protocol.as_deref(), Some("keepstep.v1"));
        assert_eq!(garbage.refused().await.0, 4401);
        assert_eq!(Socket::open(edge, &gone.token).await.refused().await.0, 4403);
        assert_eq!(Socket::open(edge, &phone.token).await.frame().await["type"], "welcome");
    }
}

pub async fn each_kind_of_token_opens_its_own_doors(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, web) = (alice.phone(0).await, alice.web(1).await);
    let register =
        |kind: &str, replace: bool| json!({ "kind": kind, "name": "n", "platform": "p", "replace": replace });
    // A stolen web session makes no device, and replaces no phone; nor does the phone's own token.
    for device in [&web, &phone] {
        for body in [register("main", false), register("main", true), register("sub", false)] {
            let answer = device.api().post("/v1/devices", body).await;
            assert!([401, 403].contains(&answer.status), "{}", answer.text);
            assert!(
                matches!(answer.body["code"].as_str(), Some("unauthorized" | "forbidden")),
                "{}",
                answer.text
            );
        }
    }
    assert_eq!(alice.api(0).get("/v1/devices").await.ok()["items"].as_array().unwrap().len(), 2);
    phone.requests(json!({ "type": "ping" })).await.expect("the phone is still the phone");

    for path in ["/admin/v1/overview", "/admin/v1/users/somebody/devices"] {
        world.stranger().get(path).await.problem(401, "unauthorized");
        alice.api(1).get(path).await.problem(403, "forbidden");
        let with_device = phone.api().get(path).await;
        assert!([401, 403].contains(&with_device.status), "{path}: {}", with_device.text);
    }
    world.admin().get("/admin/v1/overview").await.with(200);
    let devices = world.admin().get(&format!("/admin/v1/users/{}/devices", alice.name)).await.with(200);
    assert_eq!(devices["items"].as_array().map(Vec::len), Some(2), "{devices}");
    alice.api(0).get(&format!("/admin/v1/users/{}/devices", alice.name)).await.problem(403, "forbidden");
    alice
        .api(0)
        .post(&format!("/admin/v1/users/{}/kick", bob.name), json!({}))
        .await
        .problem(403, "forbidden");
}

pub async fn user_tokens_are_checked_to_the_letter(on: Deployment) {
    let world = on
        .with("KEEPSTEP_JWT_ISSUER", "https://id.example")
        .with("KEEPSTEP_JWT_AUDIENCE", "chat")
        .start()
        .await;
    let (name, other) = (world.user("alice").name, "another secret, 32 bytes or more, too");
    let good = json!({ "sub": name, "exp": in_seconds(60), "iss": "https://id.example", "aud": "chat" });
    let but = |field: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[field] = value;
        sign(&claims, JWT_SECRET)
    };
    let without = |field: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(field);
        sign(&claims, JWT_SECRET)
    };
    let status = async |token: &str| world.api(0, token).get("/v1/chats").await;
    status(&sign(&good, JWT_SECRET)).await.with(200);
    status(&but("aud", json!(["mail", "chat"]))).await.with(200);
    // A clock that is a little off.
    status(&but("exp", in_seconds(-2).into())).await.with(200);
    for token in [
        sign(&good, other),
        but("exp", in_seconds(-30).into()),
        but("exp", json!("tomorrow")),
        but("nbf", in_seconds(3600).into()),
        but("iss", json!("https://id.example/")),
        but("aud", json!("mail")),
        but("aud", json!([])),
        but("sub", json!("no * user")),
        but("sub", json!("x".repeat(65))),
        but("sub", json!("")),
        but("sub", json!(".")),
        but("sub", json!("..")),
        but("sub", json!(7)),
        without("exp"),
        without("iss"),
        without("aud"),
        without("sub"),
        unsigned(&good),
        String::new(),
        "x".repeat(8_000),
    ] {
        status(&token).await.problem(401, "unauthorized");
    }
    world.stranger().get("/v1/chats").await.problem(401, "unauthorized");
    // A device's token says which user it is; it isn't a user's.
    let api = world.api(0, &sign(&good, JWT_SECRET));
    let device =
        api.post("/v1/devices", json!({ "kind": "main", "name": "n", "platform": "p" })).await.with(201);
    let device = Api { token: device["token"].as_str().map(str::to_owned), ..api };
    device.get("/v1/chats").await.with(200);
    let again = device.post("/v1/devices", json!({ "kind": "sub", "name": "n", "platform": "p" })).await;
    assert!([401, 403].contains(&again.status), "{}", again.text);
}

pub async fn no_token_is_ever_logged(on: Deployment) {
    let mut world = on.with("KEEPSTEP_LOG", "trace").start().await;
    let alice = world.user("alice");
    let (phone, mut web) = (alice.phone(0).await, alice.web(1).await);
    let edge = world.addresses()[0].clone();
    let pair = format!("keepstep.v1, bearer.{}", web.token);
    let query = format!("/v1/socket?token={}", web.token);
    for (path, headers) in
        [("/v1/socket", vec![("Sec-WebSocket-Protocol", pair.as_str())]), (query.as_str(), vec![])]
    {
        Socket::handshake(&edge, path, &headers).await.expect("it is upgraded").close().await;
    }
    web.closed().await;
    // Bad ones neither: they may be good elsewhere.
    let bad = format!("{}x", alice.token);
    world.api(0, &bad).get("/v1/chats").await.problem(401, "unauthorized");
    Socket::open(&edge, &bad).await.refused().await;
    let end = alice.ends(&web.id).await;
    world.terminated(&phone.api(), &end).await;
    for edge in &mut world.edges {
        let log = edge.process().log();
        for (what, secret) in [
            ("a user token", alice.token.as_str()),
            ("a device token", phone.token.as_str()),
            ("another device token", web.token.as_str()),
            ("the secret", JWT_SECRET),
        ] {
            // The signature is what makes it a token.
            let secret = secret.rsplit('.').next().unwrap_or_default();
            assert!(!log.contains(secret), "{what} is in the log");
        }
    }
}

/// `alg: none`.
fn unsigned(claims: &serde_json::Value) -> String {
    // base64url, without padding, of these few ASCII bytes.
    let encode = |text: &str| {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for chunk in text.as_bytes().chunks(3) {
            let bits = chunk
                .iter()
                .enumerate()
                .fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
            for at in 0..=chunk.len() {
                out.push(char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]));
            }
        }
        out
    };
    format!("{}.{}.", encode(r#"{"alg":"none","typ":"JWT"}"#), encode(&claims.to_string()))
}

pub async fn a_strange_origin_is_refused(on: Deployment) {
    let world =
        on.with("KEEPSTEP_ALLOWED_ORIGINS", "https://chat.example, http://localhost:5173").start().await;
    let phone = world.user("alice").registers("main").await;
    let (edge, bearer) = (&world.addresses()[0], format!("Bearer {}", phone.token));
    for origin in ["https://chat.example", "http://localhost:5173", "https://CHAT.example:443"] {
        let headers = [("Authorization", bearer.as_str()), ("Origin", origin)];
        let mut socket = Socket::handshake(edge, "/v1/socket", &headers)
            .await
            .unwrap_or_else(|why| panic!("{origin}: {why}"));
        assert_eq!(socket.frame().await["type"], "welcome");
    }
    for origin in [
        "https://evil.example",
        "https://chat.example.evil.example",
        "http://chat.example",
        "null",
        "",
        "https://chat.example:8443",
    ] {
        let headers = [("Authorization", bearer.as_str()), ("Origin", origin)];
        let refused = Socket::handshake(edge, "/v1/socket", &headers).await;
        assert_eq!(refused.err().as_deref(), Some("403"), "{origin}");
    }
    // The same pages may call, because a web session registers itself first.
    for (origin, may) in [("https://chat.example", true), ("https://evil.example", false)] {
        let asked = format!(
            "OPTIONS /v1/devices HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"
        );
        let answer = raw_http(edge, asked.as_bytes()).await.expect("an answer");
        let allowed = answer.head.contains(&format!("access-control-allow-origin: {origin}"));
        assert_eq!((allowed, answer.status < 300), (may, may), "{origin}: {}", answer.head);
        assert!(!answer.head.contains("allow-credentials"), "{}", answer.head);
    }
    // What needs no token needs no leave of the browser either: the server looks itself.
    for (origin, status) in [("https://chat.example", 201), ("https://evil.example", 403)] {
        let body = r#"{"name":"Firefox","platform":"web"}"#;
        let asked = format!(
            "POST /v1/links HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw_http(edge, asked.as_bytes()).await.expect("an answer").with(status);
    }
    // No browser, no origin.
    let headers = [("Authorization", bearer.as_str())];
    assert!(Socket::handshake(edge, "/v1/socket", &headers).await.is_ok());
    // And a request that isn't an upgrade is no way in at all.
    let plain = Api::new(edge, &phone.token).get("/v1/socket").await;
    assert!((400..500).contains(&plain.status), "{} {}", plain.status, plain.text);
}
