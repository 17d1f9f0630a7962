//! Invalid input below the frames: bad handshakes, and bits that WebSocket doesn't allow.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Deployment;
use super::client::Socket;
use super::wire::{CLOSE, HANDSHAKE, PING, PONG, TEXT, Wire, head, masked};
use crate::support::{PATIENCE, wait_until};

pub async fn handshakes_that_are_none_are_refused(on: Deployment) {
    let world = on.start().await;
    let phone = world.user("alice").registers("main").await;
    let edge = world.addresses()[0].clone();
    let token = format!("Authorization: Bearer {}\r\n", phone.token);
    let ask = async |start: &str, headers: &str| {
        let (_, head) =
            Wire::handshake(&edge, &format!("{start}\r\nHost: {edge}\r\n{headers}{token}\r\n")).await;
        head.split(' ')
            .nth(1)
            .and_then(|status| status.parse::<u16>().ok())
            .unwrap_or_else(|| panic!("{head}"))
    };
    let get = "GET /v1/socket HTTP/1.1";
    for (what, start, headers) in [
        ("no upgrade at all", get, String::new()),
        ("no upgrade header", get, HANDSHAKE.replace("Upgrade: websocket\r\n", "")),
        ("another upgrade", get, HANDSHAKE.replace("websocket", "h2c")),
        ("no connection header", get, HANDSHAKE.replace("Connection: Upgrade\r\n", "")),
        ("an old version", get, HANDSHAKE.replace("13", "8")),
        ("no version", get, HANDSHAKE.replace("Sec-WebSocket-Version: 13\r\n", "")),
        ("no key", get, HANDSHAKE.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        ("an empty key", get, HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "")),
        ("a short key", get, HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl")),
        ("a made-up key", get, HANDSHAKE.replace("dGhlIHNhbXBsZSBub25jZQ==", "??????????????????????==")),
        ("a key with bits behind its end", get, HANDSHAKE.replace("ZQ==", "ZR==")),
        ("a POST", "POST /v1/socket HTTP/1.1", format!("{HANDSHAKE}Content-Length: 0\r\n")),
        ("another address", "GET /v1/sockets HTTP/1.1", HANDSHAKE.to_owned()),
    ] {
        let status = ask(start, &headers).await;
        assert!((400..500).contains(&status), "{what}: {status}");
    }
    assert_eq!(ask(get, HANDSHAKE).await, 101);
    // The words are those of HTTP: in any case, among others.
    let wide = HANDSHAKE
        .replace("Connection: Upgrade", "connection: keep-alive, UPGRADE")
        .replace("websocket", "WebSocket");
    assert_eq!(ask(get, &wide).await, 101);
}

pub async fn bits_that_websocket_does_not_allow_close_the_socket(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.registers("main").await, bob.phone(1).await);
    let edge = world.addresses()[0].clone();
    let ping = br#"{"type":"ping"}"#;
    let unmasked = [head(TEXT, 0, ping.len() as u64), ping.to_vec()].concat();
    let twice = [masked(0x01, b"{"), masked(TEXT, ping)].concat();
    let rows: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("an unmasked frame", unmasked, &[1002]),
        ("a reserved bit", masked(0xc1, ping), &[1002]),
        ("another reserved bit", masked(0xa1, ping), &[1002]),
        ("an unknown kind", masked(0x83, ping), &[1002]),
        ("an unknown control frame", masked(0x8b, b""), &[1002]),
        ("a ping in pieces", masked(0x09, b"x"), &[1002]),
        ("a long ping", masked(PING, &[b'x'; 126]), &[1002]),
        ("a piece of nothing", masked(0x80, b"x"), &[1002]),
        ("a text inside a text", twice, &[1002]),
        ("2^62 bytes", [head(TEXT, 0x80, 1 << 62), vec![0; 64]].concat(), &[1009, 4413]),
        ("2^63 bytes", [head(TEXT, 0x80, 1 << 63), vec![0; 64]].concat(), &[1002, 1009, 4413]),
        ("2^62 bytes of a ping", [head(PING, 0x80, 1 << 62), vec![0; 64]].concat(), &[1002, 1009, 4413]),
        ("a close with half a code", masked(0x88, b"x"), &[1002]),
        ("a close with a reason that isn't UTF-8", masked(0x88, &[0x03, 0xe8, 0xff]), &[1002, 1007]),
    ];
    for (what, bytes, codes) in rows {
        let mut wire = Wire::open(&edge, &phone.token).await;
        wire.frame_of(TEXT).await;
        wire.send(&bytes).await;
        let code = wire.close_code().await;
        assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {code:?}");
    }
    // Nobody else noticed.
    bobs.requests(json!({ "type": "ping" })).await.expect("Bob is still there");
    assert_eq!(Socket::open(&edge, &phone.token).await.frame().await["type"], "welcome");
}

pub async fn a_frame_may_come_in_any_pieces(on: Deployment) {
    let world = on.start().await;
    let phone = world.user("alice").registers("main").await;
    let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
    wire.frame_of(TEXT).await;
    let pong = async |wire: &mut Wire, what: &str| {
        let frame: Value = serde_json::from_slice(&wire.frame_of(TEXT).await).expect("JSON");
        assert_eq!(frame["type"], "pong", "{what}: {frame}");
    };
    // A byte at a time.
    for byte in masked(TEXT, br#"{"type":"ping"}"#) {
        wire.send(&[byte]).await;
    }
    pong(&mut wire, "byte by byte").await;
    // Two frames in one segment.
    wire.send(&[masked(TEXT, br#"{"type":"ping"}"#), masked(TEXT, br#"{"type":"ping"}"#)].concat()).await;
    pong(&mut wire, "the first of two").await;
    pong(&mut wire, "the second of two").await;
    // In many empty pieces, with a WebSocket ping in the middle, which is answered at once and unchanged.
    wire.send(&masked(0x01, br#"{"type":"#)).await;
    for _ in 0..1000 {
        wire.send(&masked(0x00, b"")).await;
    }
    wire.send(&masked(PING, b"are you there?")).await;
    assert_eq!(wire.frame_of(PONG).await, b"are you there?");
    wire.send(&masked(0x80, br#""ping"}"#)).await;
    pong(&mut wire, "in pieces").await;
    // In pieces that together are too large.
    wire.send(&masked(0x01, b"\"")).await;
    let piece = masked(0x00, &[b'x'; 60_000]);
    for _ in 0..40 {
        wire.send(&piece).await;
    }
    let code = wire.close_code().await;
    assert!(matches!(code, Some(1009 | 4413)), "{code:?}");
}

pub async fn a_flood_of_pings_hurts_nobody(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.registers("main").await, bob.phone(1).await);
    let chat = bob.direct(&alice).await;
    let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
    wire.frame_of(TEXT).await;
    // Twice what may come at once; the rest is read more slowly.
    let flood = masked(PING, b"").repeat(500);
    for _ in 0..4 {
        wire.send(&flood).await;
    }
    wire.send(&masked(TEXT, br#"{"type":"ping"}"#)).await;
    // Messages come through it.
    bobs.says(&chat, "through the flood").await;
    let (mut pong, mut message) = (false, false);
    while !(pong && message) {
        let frame: Value = serde_json::from_slice(&wire.frame_of(TEXT).await).expect("JSON");
        pong |= frame["type"] == "pong";
        message |= frame["type"] == "message" && frame["seq"] == 1;
    }
}

pub async fn what_a_client_asks_for_and_does_not_take_is_bounded(on: Deployment) {
    let world = on
        .with("KEEPSTEP_WRITE_TIMEOUT", "2s")
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1000000")
        .with("KEEPSTEP_FRAMES_BURST", "1000000")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (_phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = bob.direct(&alice).await;
    let memory = async || world.metric("process_resident_memory_bytes").await;
    let mut before = memory().await;
    let questions = [masked(PING, &[b'x'; 125]), masked(TEXT, br#"{"type":"ping","id":1}"#)];
    let mut wires = Vec::new();
    for (user, what) in ["carol", "dave"].into_iter().zip(questions) {
        let phone = world.user(user).registers("main").await;
        let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
        wire.frame_of(TEXT).await;
        let flood = what.repeat((256 << 10) / what.len());
        let mut sent = 0;
        // It reads nothing; so the server mustn't either, once much waits.
        while sent < 256 << 20 && timeout(Duration::from_secs(1), wire.send(&flood)).await.is_ok() {
            sent += flood.len();
        }
        assert!(sent < 64 << 20, "the server has taken {} MiB of questions", sent >> 20);
        let after = memory().await;
        assert!(after < before + f64::from(24 << 20), "{before} bytes of memory before, and {after}");
        before = after;
        wires.push(wire);
    }
    wait_until("who takes no answers to be closed", PATIENCE, async || {
        (world.metric("keepstep_closes_total{code=\"slow_consumer\"}").await >= 1.0).then_some(())
    })
    .await;
    bobs.says(&chat, "beside it").await;
}

pub async fn a_goodbye_is_answered(on: Deployment) {
    let world = on.start().await;
    let phone = world.user("alice").registers("main").await;
    // RFC 6455, 5.5.1: a close frame is answered with one. A browser that gets none reports 1006, as if the line had broken.
    for (what, said, answer) in [
        ("a normal end", 1000_u16, 1000_u16),
        ("a page that goes away", 1001, 1001),
        ("an end of the application's own", 4000, 4000),
        ("a code that isn't one", 999, 1002),
    ] {
        let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
        wire.frame_of(TEXT).await;
        wire.send(&masked(CLOSE, &said.to_be_bytes())).await;
        assert_eq!(wire.close_code().await, Some(answer), "{what}");
    }
    let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
    wire.frame_of(TEXT).await;
    wire.send(&masked(CLOSE, b"")).await;
    wire.frame_of(CLOSE).await;
    assert_eq!(wire.frame().await, None, "the connection ends behind it");
}
