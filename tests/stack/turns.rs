//! One user's queues delay nobody else's. nsqd creates and deletes channels one after the other, and saves all of them
//! each time, so the requests of one user would delay those of others.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::stories::user::User;
use crate::support::{Edge, Stack};

/// The time of a change at an nsqd with some ten thousand channels.
const CHANGE: Duration = Duration::from_millis(15);

/// Returns an nsqd's HTTP address behind which changes are made one after the other, each in its time.
async fn slow_nsqd(http: String) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let one_at_a_time = Arc::new(Semaphore::new(1));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(passes(client, http.clone(), one_at_a_time.clone()));
        }
    });
    address
}

async fn passes(mut client: TcpStream, http: String, one_at_a_time: Arc<Semaphore>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let changes =
        ["/topic/create", "/channel/create", "/channel/delete"].iter().any(|path| text.contains(path));
    let turn = if changes { one_at_a_time.acquire().await.ok() } else { None };
    if changes {
        tokio::time::sleep(CHANGE).await;
    }
    let closing = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let Ok(mut nsqd) = TcpStream::connect(&http).await else { return };
    let mut answer = Vec::new();
    if nsqd.write_all(closing.as_bytes()).await.is_ok() {
        let _ = nsqd.read_to_end(&mut answer).await;
    }
    drop(turn);
    let _ = client.write_all(&answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_devices_all_the_time_holds_up_nobody_else() {
    const CHATS: usize = 60;
    let stack = Stack::start().await;
    let mut nsqd = Vec::new();
    for one in &stack.nsqd {
        nsqd.push(format!("http://{}?tcp={}", slow_nsqd(one.http()).await, one.tcp()));
    }
    let config = stack.edge().set("KEEPSTEP_NSQD", nsqd.join(","));
    let config = ["KEEPSTEP_CREATES_PER_MINUTE", "KEEPSTEP_DEVICES_PER_HOUR", "KEEPSTEP_DEVICES_PER_DAY"]
        .into_iter()
        .fold(config, |config, name| config.set(name, "100000"));
    let edge = Edge::start(config).await;
    edge.ready().await;
    let edges: Arc<[String]> = [edge.listen()].into();
    let [mallory, bob, carol] = ["mallory", "bob", "carol"].map(|name| User::new(name, edges.clone()));
    for user in [&bob, &carol] {
        user.registers("main").await;
    }
    for n in 0..CHATS {
        mallory.group(&format!("group {n}")).await;
    }
    let begins = async |with: &User| {
        let begun = Instant::now();
        bob.group("a group").await;
        bob.direct(with).await;
        begun.elapsed()
    };
    let calm = begins(&carol).await;
    // Five loops of one account that register and end.
    let loops: Vec<_> = (0..5)
        .map(|_| {
            let mallory = mallory.clone();
            tokio::spawn(async move {
                for _ in 0.. {
                    let body = json!({ "kind": "sub", "name": "a loop", "platform": "tests" });
                    let made = mallory.api(0).post("/v1/devices", body).await;
                    if made.status == 201 {
                        let device = made.body["device"]["id"].as_str().unwrap().to_owned();
                        mallory.api(0).delete(&format!("/v1/devices/{device}")).await;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut slowest = Duration::ZERO;
    for n in 0..6 {
        let stranger = User::new(&format!("stranger-{n}"), edges.clone());
        stranger.registers("main").await;
        slowest = slowest.max(begins(&stranger).await);
    }
    loops.iter().for_each(|one| one.abort());
    eprintln!("two chats: {calm:?} in calm, {slowest:?} at the slowest beside five loops");
    assert!(slowest < Duration::from_millis(2000), "{slowest:?} (in calm {calm:?})");
}
