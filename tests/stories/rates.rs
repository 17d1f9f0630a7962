//! Rates belong to the device and its user, and reconnecting doesn't reset them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{timeout, timeout_at};

use super::Deployment;
use super::client::Socket;
use super::device::Device;
use super::user::User;
use super::wire::{HANDSHAKE, TEXT, Wire, masked};

/// Sends through its own socket, waits for the answers, and disconnects; returns how many were accepted.
async fn sends(edge: &str, device: &Device, chat: &str, count: u64) -> u64 {
    let mut socket = Socket::open(edge, &device.token).await;
    socket.frame_of("welcome").await;
    for id in 0..count {
        let (key, content) = (uuid::Uuid::new_v4(), id.to_string());
        let frame =
            json!({ "type": "send", "id": id, "chat": chat, "key": key, "kind": "text", "content": content });
        socket.send(&frame).await;
    }
    let mut taken = 0;
    for _ in 0..count {
        taken += u64::from(socket.frame_of("reply").await.get("ok").is_some());
    }
    socket.close().await;
    taken
}

pub async fn hanging_up_gives_no_new_rate(on: Deployment) {
    let world = on
        .with("KEEPSTEP_FRAMES_PER_SECOND", "20")
        .with("KEEPSTEP_FRAMES_BURST", "40")
        .with("KEEPSTEP_RATE_PATIENCE", "0s")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.registers("main").await;
    let chat = alice.direct(&bob).await;
    let (begun, mut taken) = (Instant::now(), 0);
    let edges = world.addresses();
    // At all edges in turn.
    for edge in edges.iter().cycle().take(12) {
        taken += sends(edge, &phone, &chat, 35).await;
    }
    // Each edge has a burst for who is new there; beyond it, the rate.
    let most = 40.0 * edges.len() as f64 + 20.0 * begun.elapsed().as_secs_f64() + 1.0;
    assert!((taken as f64) <= most, "{taken} of 420 sends taken in {:?}", begun.elapsed());
    assert!(taken >= 40, "only {taken} taken");
}

pub async fn all_devices_of_a_user_have_a_rate_together(on: Deployment) {
    let world = on
        .with("KEEPSTEP_FRAMES_PER_SECOND", "10")
        .with("KEEPSTEP_FRAMES_BURST", "30")
        .with("KEEPSTEP_USER_RATE_FACTOR", "2")
        .with("KEEPSTEP_RATE_PATIENCE", "0s")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let bobs = bob.phone(0).await;
    let chat = alice.direct(&bob).await;
    let edge = &world.addresses()[0];
    let (begun, mut taken) = (Instant::now(), 0);
    let _phone = alice.phone(0).await;
    for _ in 0..5 {
        let device = alice.registers("sub").await;
        taken += sends(edge, &device, &chat, 30).await;
    }
    let most = 60.0 + 20.0 * begun.elapsed().as_secs_f64() + 1.0;
    assert!((taken as f64) <= most && taken >= 60, "{taken} of 150 sends taken in {:?}", begun.elapsed());
    // Over HTTP it is the same account.
    let answers = futures_util::future::join_all((0..60).map(|n| {
        let (api, path) = (alice.api(0), format!("/v1/chats/{chat}/messages"));
        let message = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": n.to_string() });
        async move { api.post(&path, message).await }
    }))
    .await;
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(refused > 0, "60 more were taken at once");
    // Others aren't concerned.
    bobs.says(&chat, "calm down").await;
}

pub async fn large_messages_count_for_more(on: Deployment) {
    let world = on.with("KEEPSTEP_FRAMES_PER_SECOND", "1").with("KEEPSTEP_FRAMES_BURST", "10").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chat = alice.direct(&bob).await;
    let path = format!("/v1/chats/{chat}/messages");
    let message =
        |size: usize| json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "x".repeat(size) });
    // Each counts as four: after two of them there is room for small ones only.
    for _ in 0..2 {
        alice.api(0).post(&path, message(60_000)).await.ok();
    }
    alice.api(0).post(&path, message(60_000)).await.problem(429, "too_many_requests");
    bob.api(0).post(&path, message(60_000)).await.ok();
}

pub async fn messages_count_for_more_where_many_get_them(on: Deployment) {
    let world = on
        .with("KEEPSTEP_FRAMES_PER_SECOND", "1")
        .with("KEEPSTEP_FRAMES_BURST", "40")
        .with("KEEPSTEP_SUBS_PER_USER", "80")
        .with("KEEPSTEP_DEVICES_PER_HOUR", "100")
        .with("KEEPSTEP_DEVICES_PER_DAY", "100")
        .start()
        .await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let (small, large) = (alice.group("nobody else").await, carol.direct(&bob).await);
    let says = async |user: &User, chat: &str| {
        let message = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "x".repeat(60_000) });
        user.api(0).post(&format!("/v1/chats/{chat}/messages"), message).await
    };
    let until_refused = async |user: &User, chat: &str| {
        let mut taken = 0;
        loop {
            let answer = says(user, chat).await;
            if answer.status != 200 {
                answer.problem(429, "too_many_requests");
                break taken;
            }
            taken += 1;
        }
    };
    bob.registers("main").await;
    for _ in 0..80 {
        bob.registers("sub").await;
    }
    // Each counts as four for its bytes, and in the large chat as four more, because NSQ copies 4.8 MB.
    let (alone, to_many) = (until_refused(&alice, &small).await, until_refused(&carol, &large).await);
    assert!((10..13).contains(&alone) && (5..8).contains(&to_many), "{alone} alone, {to_many} to 81 devices");
    assert_eq!(says(&bob, &large).await.status, 200, "it is the sender's own");
}

pub async fn a_device_that_connects_again_and_again_is_told_when_it_may(on: Deployment) {
    let world = on.with("KEEPSTEP_CONNECTS_PER_MINUTE", "5").start().await;
    let alice = world.user("alice");
    let phone = alice.registers("main").await;
    let edge = world.addresses()[0].clone();
    for _ in 0..5 {
        let mut socket = Socket::open(&edge, &phone.token).await;
        socket.frame_of("welcome").await;
        socket.close().await;
    }
    let request = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\n{HANDSHAKE}Authorization: Bearer {}\r\n\r\n",
        phone.token
    );
    let (_, head) = Wire::handshake(&edge, &request).await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after: 12\r\n"), "{head}");
    // Others aren't concerned.
    world.user("bob").phone(0).await;
}

pub async fn what_is_no_frame_is_not_read_without_end(on: Deployment) {
    let world = on.with("KEEPSTEP_FRAMES_PER_SECOND", "20").with("KEEPSTEP_FRAMES_BURST", "20").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (_phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    let chat = bob.direct(&alice).await;
    let piece = masked(0x00, b"");
    let junk = json!({ "type": "history_page", "request": "nobody's", "more": false,
        "messages": vec![Value::from("x".repeat(1000)); 100] });
    let junk = junk.to_string();
    let floods = [
        // The beginning of a frame, and then nothing, in many pieces.
        ("carol", masked(0x01, b"{"), piece.repeat((256 << 10) / piece.len())),
        ("dave", Vec::new(), masked(TEXT, junk.as_bytes())),
        (
            "erin",
            Vec::new(),
            masked(TEXT, br#"{"type":"ack","chat":"3f396dde-0000-4000-8000-000000000000","seq":1}"#)
                .repeat(4000),
        ),
    ];
    for (user, first, flood) in floods {
        let phone = world.user(user).registers("main").await;
        let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
        wire.frame_of(TEXT).await;
        wire.send(&first).await;
        let mut sent = 0;
        while sent < 128 << 20 && timeout(Duration::from_secs(1), wire.send(&flood)).await.is_ok() {
            sent += flood.len();
        }
        assert!(sent < 48 << 20, "the server has read {} MiB of {user}'s", sent >> 20);
    }
    bobs.says(&chat, "beside it").await;
}

pub async fn pieces_of_a_frame_are_counted_one_by_one(on: Deployment) {
    let world = on.start().await;
    let phone = world.user("alice").registers("main").await;
    let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
    wire.frame_of(TEXT).await;
    wire.send(&masked(0x01, b"{")).await;
    let pieces = masked(0x00, b"").repeat(1024);
    // What the operating system takes, the server hasn't: the first two seconds fill that.
    let (full, end) = (Instant::now() + Duration::from_secs(2), Instant::now() + Duration::from_secs(5));
    let mut taken = 0;
    while timeout_at(end.into(), wire.send(&pieces)).await.is_ok() {
        taken += if Instant::now() > full { pieces.len() } else { 0 };
    }
    assert!(taken < 512 << 10, "the server has read {} KiB of empty pieces in 3 s", taken >> 10);
}

pub async fn refused_frames_are_read_more_slowly(on: Deployment) {
    let world = on.with("KEEPSTEP_RATE_PATIENCE", "0s").start().await;
    let phone = world.user("alice").registers("main").await;
    let mut wire = Wire::open(&world.addresses()[0], &phone.token).await;
    wire.frame_of(TEXT).await;
    let read = br#"{"type":"read","id":1,"chat":"3f396dde-0000-4000-8000-000000000000","seq":1}"#;
    let reads = masked(TEXT, read).repeat(50);
    // 500 at once, and 1,000 that are refused.
    let (used, end) = (Instant::now() + Duration::from_secs(2), Instant::now() + Duration::from_secs(5));
    let mut answered = 0;
    loop {
        let some = async {
            wire.send(&reads).await;
            for _ in 0..50 {
                wire.frame_of(TEXT).await;
            }
        };
        if timeout_at(end.into(), some).await.is_err() {
            break;
        }
        answered += if Instant::now() > used { 50 } else { 0 };
    }
    assert!(answered < 2_000, "the server has answered {answered} frames in 3 s, most of which it refused");
}

pub async fn a_device_of_many_chats_connects_less_often(on: Deployment) {
    let world = on
        .with("KEEPSTEP_CONNECTS_PER_MINUTE", "6")
        .with("KEEPSTEP_CREATES_PER_MINUTE", "1000")
        .start()
        .await;
    let alice = world.user("alice");
    for n in 0..210 {
        alice.group(&format!("group {n}")).await;
    }
    let phone = alice.registers("main").await;
    let edge = world.addresses()[0].clone();
    // The first tells how many chats it has: from then on each counts as three.
    for _ in 0..2 {
        let mut socket = Socket::open(&edge, &phone.token).await;
        socket.frame_of("welcome").await;
        socket.close().await;
    }
    let request = format!(
        "GET /v1/socket HTTP/1.1\r\nHost: {edge}\r\n{HANDSHAKE}Authorization: Bearer {}\r\n\r\n",
        phone.token
    );
    let (_, head) = Wire::handshake(&edge, &request).await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 429") && head.contains("retry-after: 30\r\n"), "{head}");
}
