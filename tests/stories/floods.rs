//! Floods of clients that read nothing and wait for nothing: they cost the server little, others are answered, and
//! memory is given back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::client::{PATIENCE, raw_http, soon};
use super::{Deployment, World};
use crate::support::wait_until;

const MIB: f64 = (1 << 20) as f64;

/// Returns the resident memory of the first edge.
async fn memory(world: &World) -> f64 {
    world.edges[0].metric("process_resident_memory_bytes").await
}

/// Returns its maximum in the next half second, in which everything on its way arrives.
async fn most_memory(world: &World) -> f64 {
    let mut most = memory(world).await;
    for _ in 0..5 {
        sleep(Duration::from_millis(100)).await;
        most = most.max(memory(world).await);
    }
    most
}

/// Waits until the first edge has given back all memory but this much.
async fn gives_back(world: &World, before: f64, but: f64) {
    let mut now = 0.0;
    let given = async || {
        now = memory(world).await;
        (now <= before + but).then_some(())
    };
    let what = format!("memory to be given back to {} MiB and {} MiB", before / MIB, but / MIB);
    wait_until(&what, PATIENCE, given).await;
}

pub async fn hashing_passwords_is_bounded_whoever_hangs_up(on: Deployment) {
    let world = on.with("KEEPSTEP_CREATES_PER_MINUTE", "1000000").start().await;
    let edge = world.addresses()[0].clone();
    let bob = world.user("bob");
    bob.api(0).post("/v1/chats", json!({ "kind": "group", "password": "first" })).await.with(201);
    let before = memory(&world).await;
    let body = json!({ "kind": "group", "password": "sesame" }).to_string();
    let (mut most, mut threads) = (before, 0.0f64);
    for n in 0..80 {
        let token = world.user(&format!("alice{}", n % 20)).token;
        let request = format!(
            "POST /v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&edge).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("ask");
        // Long enough for the hash to begin, and too short for it to end.
        sleep(Duration::from_millis(10)).await;
        drop(stream);
        if n % 10 == 9 {
            most = most.max(memory(&world).await);
            threads = threads.max(world.edges[0].metric("process_threads").await);
        }
    }
    assert!(most < before + 80.0 * MIB, "{} MiB before, {} at most", before / MIB, most / MIB);
    assert!(threads < 40.0, "{threads} threads");
    // Whoever waits for the answer gets it, and nothing stays behind.
    bob.api(0).post("/v1/chats", json!({ "kind": "group", "password": "last" })).await.with(201);
    gives_back(&world, before, 8.0 * MIB).await;
}

pub async fn one_user_does_not_take_all_turns_at_passwords(on: Deployment) {
    let world = on.with("KEEPSTEP_CREATES_PER_MINUTE", "1000000").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let group = json!({ "kind": "group", "password": "sesame" });
    let api = alice.api(0);
    let flood = join_all((0..40).map(|_| api.post("/v1/chats", group.clone())));
    let others = async {
        for _ in 0..3 {
            bob.api(0).post("/v1/chats", group.clone()).await.with(201);
        }
    };
    let (answers, ()) = tokio::join!(flood, others);
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert!(!made.is_empty() && !refused.is_empty(), "{} made, {} refused", made.len(), refused.len());
    for answer in refused {
        assert!(answer.head.contains("\r\nretry-after: 2\r\n"), "{}", answer.head);
        answer.problem(429, "too_many_requests");
    }
    alice.api(0).post("/v1/chats", group).await.with(201);
}

/// Sends the head of a request with a body, and this much of the body.
async fn begins(edge: &str, path: &str, token: Option<&str>, length: usize, part: usize) -> TcpStream {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {length}\r\n\r\n");
    let mut stream = TcpStream::connect(edge).await.expect("connect");
    stream.write_all(head.as_bytes()).await.expect("send a head");
    // A server that doesn't want it closes.
    let _ = stream.write_all(&vec![b' '; part]).await;
    stream
}

/// Reads until the server closes; returns the head of a complete answer in lower case.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut some = [0; 4096];
    let whole = |answer: &[u8]| String::from_utf8_lossy(answer).contains("\r\n\r\n{");
    while !whole(&answer) {
        match soon("an answer", stream.read(&mut some)).await {
            Ok(count @ 1..) => answer.extend_from_slice(&some[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}

pub async fn a_body_of_nobody_is_not_read(on: Deployment) {
    let world = on.start().await;
    let edge = world.addresses()[0].clone();
    let before = memory(&world).await;
    let bad = format!("{}x", world.user("alice").token);
    let mut streams = Vec::new();
    for n in 0..500 {
        let path = ["/v1/chats", "/v1/devices", "/v1/links", "/admin/v1/channels/sweep"][n % 4];
        // Without one a link may be asked for.
        let token = (n % 8 > 3 || path == "/v1/links").then_some(bad.as_str());
        // All but its last byte, which never comes.
        streams.push(begins(&edge, path, token, 131_072, 131_071).await);
    }
    let now = most_memory(&world).await;
    assert!(now < before + 24.0 * MIB, "{} MiB before, {} with 500 bodies", before / MIB, now / MIB);
    for mut stream in streams {
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("http/1.1 401"), "{answer}");
    }
    gives_back(&world, before, 8.0 * MIB).await;
}

pub async fn bodies_that_one_user_half_sends_are_bounded(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let chat = alice.direct(&bob).await;
    let send = format!("/v1/chats/{chat}/messages");
    let edge = world.addresses()[0].clone();
    let before = memory(&world).await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(begins(&edge, &send, Some(&alice.token), 131_072, 131_071).await);
    }
    let now = most_memory(&world).await;
    assert!(now < before + 24.0 * MIB, "{} MiB before, {} with 300 bodies", before / MIB, now / MIB);
    // Others aren't concerned.
    let said = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": "x".repeat(60_000) });
    bob.api(0).post(&send, said).await.with(200);
    let (mut late, mut refused) = (0, 0);
    for mut stream in streams {
        let answer = answer(&mut stream).await;
        if answer.starts_with("http/1.1 429") {
            assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
            refused += 1;
        } else {
            assert!(answer.starts_with("http/1.1 400") && answer.contains("didn't come in time"), "{answer}");
            late += 1;
        }
    }
    assert!(late > 10 && refused > 100, "{late} were waited for, {refused} refused");
    gives_back(&world, before, 8.0 * MIB).await;
}

/// Returns two users, one of whom has a phone, with this many large messages in their chat.
async fn much_said(world: &World, count: usize) -> (super::user::User, super::device::Device, String) {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.registers("main").await;
    let chat = alice.direct(&bob).await;
    for n in 0..count {
        let said = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": format!("{n} {}", "x".repeat(60_000)) });
        bob.api(n).post(&format!("/v1/chats/{chat}/messages"), said).await.with(200);
    }
    (bob, phone, chat)
}

pub async fn a_page_of_messages_is_bounded_in_bytes(on: Deployment) {
    let world = on.start().await;
    let (_, phone, chat) = much_said(&world, 22).await;
    let (mut seqs, mut before) = (Vec::new(), u64::MAX >> 11);
    loop {
        let page = phone.api().get(&format!("/v1/chats/{chat}/messages?before={before}")).await;
        assert!(page.text.len() < 262_144 + 1_000, "a page of {} bytes", page.text.len());
        let page = page.with(200);
        let mut part: Vec<u64> =
            page["items"].as_array().unwrap().iter().map(|one| one["seq"].as_u64().unwrap()).collect();
        assert!((1..=4).contains(&part.len()), "{part:?}");
        before = part[0];
        part.append(&mut seqs);
        seqs = part;
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seqs, (1..=22).collect::<Vec<_>>());
}

/// Requests a page of messages and reads nothing of it, with small buffers.
async fn asks_and_does_not_read(edge: &str, token: &str, chat: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(edge.parse().expect("an address")).await.expect("connect");
    let request =
        format!("GET /v1/chats/{chat}/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    stream
}

pub async fn slow_readers_take_little(on: Deployment) {
    let world = on.start().await;
    let (bob, phone, chat) = much_said(&world, 100).await;
    let edge = world.addresses()[0].clone();
    let before = most_memory(&world).await;
    let mut streams = Vec::new();
    for _ in 0..80 {
        streams.push(asks_and_does_not_read(&edge, &phone.token, &chat).await);
    }
    let now = most_memory(&world).await;
    assert!(now < before + 40.0 * MIB, "{} MiB before, {} with 80 readers", before / MIB, now / MIB);
    let bobs = bob.registers("main").await;
    let page = bobs.api().get(&format!("/v1/chats/{chat}/messages?limit=1")).await;
    assert!(page.with(200)["items"].as_array().is_some(), "another user is answered");
    drop(streams);
    gives_back(&world, before, 8.0 * MIB).await;
}

pub async fn an_answer_that_nobody_takes_ends(on: Deployment) {
    let world = on
        .with("KEEPSTEP_WRITE_TIMEOUT", "500ms")
        .with("KEEPSTEP_HISTORY_PAGE_BYTES", "8388608")
        .with("KEEPSTEP_HISTORY_FRAME_BYTES", "60000000")
        .with("KEEPSTEP_MAX_CONNECTIONS_PER_IP", "2")
        // An idle connection isn't what ends here.
        .with("KEEPSTEP_HEADER_TIMEOUT", "5m")
        .start()
        .await;
    let (bob, phone, chat) = much_said(&world, 100).await;
    let bobs = bob.registers("main").await;
    let edge = world.addresses()[0].clone();
    let asks = async || {
        raw_http(&edge, b"GET /v1/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.is_ok()
    };
    // Two connections are all that an address may have here, and two of its users take nothing of what theirs bring. (Again, if
    // one was too many because another had just not ended.)
    let both = async || {
        let silent = asks_and_does_not_read(&edge, &bobs.token, &chat).await;
        let slow = asks_and_does_not_read(&edge, &phone.token, &chat).await;
        if asks().await { None } else { Some((silent, slow)) }
    };
    let (silent, mut slow) = wait_until("two connections", PATIENCE, both).await;
    let trickle = async {
        // A byte now and then.
        while slow.read_u8().await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let both_end = wait_until("both to be closed", PATIENCE, async || {
        let _one = TcpStream::connect(&edge).await.ok()?;
        asks().await.then_some(())
    });
    tokio::select! {
        () = both_end => {}
        () = trickle => {}
    }
    drop(silent);
    // Who reads gets all of it.
    let token = &phone.token;
    let request = format!(
        "GET /v1/chats/{chat}/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let page = wait_until("the page", PATIENCE, async || {
        raw_http(&edge, request.as_bytes()).await.ok().filter(|answer| answer.status == 200)
    });
    assert_eq!(page.await.body["items"].as_array().map(Vec::len), Some(100));
}

pub async fn lists_are_counted(on: Deployment) {
    let world = on.with("KEEPSTEP_LISTS_PER_MINUTE", "8").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.registers("main").await;
    let chat = alice.direct(&bob).await;
    let paths = [
        "/v1/chats".to_owned(),
        "/v1/devices".to_owned(),
        "/v1/offsets".to_owned(),
        "/v1/invitations".to_owned(),
        "/v1/blocks".to_owned(),
        format!("/v1/chats/{chat}"),
    ];
    for (n, path) in paths.iter().enumerate() {
        alice.api(n).get(path).await.with(200);
    }
    let messages = format!("/v1/chats/{chat}/messages");
    for _ in 0..2 {
        phone.api().get(&messages).await.with(200);
    }
    for (n, path) in paths.iter().chain([&messages]).enumerate() {
        let refused = world.api(n, &phone.token).get(path).await;
        assert!(refused.head.contains("\r\nretry-after: 60\r\n"), "{}", refused.head);
        refused.problem(429, "too_many_requests");
    }
    bob.api(0).get("/v1/chats").await.with(200);
}

pub async fn a_list_of_chats_is_bounded_in_members(on: Deployment) {
    let world = on.with("KEEPSTEP_PAGE_MEMBERS", "5").start().await;
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let mut chats = Vec::new();
    for n in 0..9 {
        let chat = alice.group("a group").await;
        for member in [&bob, &carol].into_iter().take(n % 3) {
            alice.invites(&chat, member).await;
        }
        chats.push(chat);
    }
    chats.sort();
    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = alice.api(listed.len()).get(&format!("/v1/chats?limit=1000{after}")).await.with(200);
        let items = page["items"].as_array().unwrap();
        let members: usize = items.iter().map(|chat| chat["members"].as_array().unwrap().len()).sum();
        assert!(!items.is_empty() && members <= 5, "{members} members: {page}");
        listed.extend(items.iter().map(|chat| chat["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, chats);
}
