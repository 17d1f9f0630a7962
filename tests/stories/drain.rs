//! A server stops in order.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Deployment;
use super::client::{Socket, soon};
use super::wire::HANDSHAKE;
use crate::support::{schemas, wait_until};

pub async fn a_stop_is_orderly(on: Deployment) {
    let mut world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, mut bobs) = (alice.phone(0).await, bob.phone(0).await);
    let chat = alice.direct(&bob).await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.stops_acking();
    phone.says_many(&chat, "before the stop", 20).await;
    bobs.hears(&chat, 20).await;
    bobs.acks(&chat, 5).await;

    // Somebody is in the middle of asking for a socket.
    let address = world.addresses()[0].clone();
    let asking = format!("GET /v1/socket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n");
    let mut late = TcpStream::connect(&address).await.expect("connect");
    late.write_all(asking.as_bytes()).await.expect("half a question");
    // An answer to what was asked later: the half is there by now.
    phone.requests(json!({ "type": "ping" })).await.expect("an answer");

    let begun = Instant::now();
    world.edges[0].process().signal(Signal::SIGTERM);
    wait_until("/readyz to say no", Duration::from_secs(2), || async {
        let answer = world.readiness(0).await?;
        (answer.0 == 503).then_some(())
    })
    .await;
    let rest = format!(
        "{}Authorization: Bearer {}\r\n\r\n",
        HANDSHAKE.replace("Connection: Upgrade\r\n", ""),
        phone.token
    );
    late.write_all(rest.as_bytes()).await.expect("the other half");
    let mut answer = String::new();
    soon("an answer to the late", late.read_to_string(&mut answer)).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
    assert!(head.starts_with("HTTP/1.1 503"), "{answer}");
    schemas::answer("GET /v1/socket HTTP/1.1", 503, &head.to_ascii_lowercase(), body);
    assert!(body.contains(r#""code":"draining""#), "{body}");
    // A device that still acknowledges is heard.
    bobs.acks(&chat, 8).await;
    // Nobody new is let in: not at all, or with a reason to go elsewhere.
    if let Ok(mut late) =
        Socket::handshake(&address, "/v1/socket", &[("Authorization", &format!("Bearer {}", alice.token))])
            .await
    {
        let (code, _) = late.closed().await;
        assert!([4300, 4401].contains(&code), "{code}");
    }
    // Who has acknowledged everything goes at once (with a spread), who hasn't has two seconds for it.
    let (phones_end, bobs_end) = tokio::join!(async { (phone.closed().await.0, Instant::now()) }, async {
        (bobs.closed().await.0, Instant::now())
    });
    assert_eq!((phones_end.0, bobs_end.0), (4300, 4300));
    assert!(phones_end.1 < bobs_end.1, "the phone had nothing to wait for");
    let edge = &mut world.edges[0];
    let status = edge.process().wait(Duration::from_secs(10)).await.expect("it ends within 10 s");
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    if world.stack.is_none() {
        return;
    }
    // Elsewhere it goes on: what wasn't acknowledged comes again, in order and at once, not after a timeout of NSQ's.
    bobs.memory().acking = true;
    bobs.connects(1).await;
    assert_eq!(bobs.memory().chat(&chat).unwrap().cursor, 8);
    bobs.hears(&chat, 20).await;
    assert!(bobs.memory().chat(&chat).unwrap().arrived.iter().copied().eq(9..=20));
    phone.connects(1).await;
    phone.says(&chat, "after it").await;
    bobs.hears(&chat, 21).await;
    bobs.acks(&chat, 21).await;
    world.is_drained(&chat, &bobs).await;
}
