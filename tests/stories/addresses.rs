//! Client addresses, behind proxies too; and one address can't crowd out others.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{Answer, Socket, raw_http, soon};
use super::links::{Page, stranger};
use super::wire::{HANDSHAKE, Wire};
use super::{Deployment, World};
use crate::support::{PATIENCE, wait_until};

/// Makes a request through a proxy: a page that requests a link.
async fn page(world: &World, edge: usize, said: &str) -> Answer {
    let edge = &world.addresses()[edge % world.edges.len()];
    let body = json!({ "name": "Firefox", "platform": "web" }).to_string();
    let request = format!(
        "POST /v1/links HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\n{said}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    raw_http(edge, request.as_bytes()).await.expect("an answer")
}

pub async fn an_address_is_known_behind_a_balancer(on: Deployment) {
    let world = on
        .with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")
        .with("KEEPSTEP_LINKS_PER_MINUTE", "2")
        .start()
        .await;
    let x = |said: &str| format!("X-Forwarded-For: {said}\r\n");
    // Each row is one client, whatever the header looks like; three times, and the third is too much.
    for [first, second, third] in [
        [x("203.0.113.1"), x("198.51.100.9, 203.0.113.1"), x("203.0.113.1, 10.1.2.3")],
        [x("2001:db8:1:2::1"), x("2001:db8:1:2:ffff::9"), x("[2001:db8:1:2::7]:4711")],
        ["for=203.0.113.2", "For=\"203.0.113.2:80\";proto=https", "for=198.51.100.9, for=203.0.113.2"]
            .map(|said| format!("Forwarded: {said}\r\n")),
        // Junk, nothing, and two headers of which one is the client's own: the balancer's.
        [x("203.0.113.3, junk"), String::new(), x("203.0.113.4") + "Forwarded: for=203.0.113.5\r\n"],
    ] {
        page(&world, 0, &first).await.with(201);
        page(&world, 1, &second).await.with(201);
        let refused = page(&world, 0, &third).await;
        assert!(refused.head.contains("\r\nretry-after: 60\r\n"), "{}", refused.head);
        refused.problem(429, "too_many_requests");
    }
    page(&world, 1, &x("203.0.113.6")).await.with(201);
}

pub async fn an_address_that_is_nobodys_proxy_is_not_believed(on: Deployment) {
    let world = on
        .with("KEEPSTEP_TRUSTED_PROXIES", "10.0.0.0/8")
        .with("KEEPSTEP_LINKS_PER_MINUTE", "2")
        .start()
        .await;
    page(&world, 0, "X-Forwarded-For: 203.0.113.1\r\n").await.with(201);
    page(&world, 0, "Forwarded: for=203.0.113.2\r\n").await.with(201);
    page(&world, 0, "X-Forwarded-For: 203.0.113.3\r\n").await.problem(429, "too_many_requests");
}

/// Opens links for an address until one is refused; returns how many succeeded.
async fn takes(world: &World, address: &str) -> usize {
    let said = format!("X-Forwarded-For: {address}\r\n");
    for taken in 0.. {
        let answer = page(world, taken, &said).await;
        match answer.status {
            201 => {}
            _ => {
                assert!(answer.head.contains("\r\nretry-after: 120\r\n"), "{}", answer.head);
                answer.problem(429, "too_many_requests");
                return taken;
            }
        }
    }
    unreachable!()
}

pub async fn one_address_leaves_places_for_the_pages_of_others(on: Deployment) {
    let world =
        on.with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.0/8").with("KEEPSTEP_LINKS_WAITING", "40").start().await;
    let first = takes(&world, "198.51.1.1").await;
    assert!((1..=5).contains(&first), "the first address took {first} of 40 places");
    // However many take all they can, the next one still gets in.
    let mut all = first;
    for other in 2..=12 {
        let taken = takes(&world, &format!("198.51.{other}.1")).await;
        assert!(taken >= 1, "address {other} got no place; {all} are taken");
        all += taken;
    }
    assert!(all < 40, "{all} of 40 places are taken");
    // A page that says whose it is has a share of its user's.
    let alice = world.user("alice");
    alice.api(0).post("/v1/links", json!({ "name": "Firefox", "platform": "web" })).await.with(201);
}

pub async fn addresses_beside_each_other_leave_places_for_the_pages_of_others(on: Deployment) {
    let world =
        on.with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.0/8").with("KEEPSTEP_LINKS_WAITING", "40").start().await;
    for (household, most) in [("2001:db8:1", 8), ("2001:db8:2", 7)] {
        let mut all = 0;
        // A quarter of what is free are for all of its networks; each of them alone has less.
        for network in 0..16 {
            all += takes(&world, &format!("{household}:{network:x}::1")).await;
        }
        assert!((1..=most).contains(&all), "{household} took {all} of 40 places");
    }
    assert!(takes(&world, "2001:db8:3::1").await >= 1, "no place for an address elsewhere");
    let alice = world.user("alice");
    alice.api(0).post("/v1/links", json!({ "name": "Firefox", "platform": "web" })).await.with(201);
}

pub async fn a_decision_gives_its_place_back_to_the_address(on: Deployment) {
    let world = on.with("KEEPSTEP_LINKS_WAITING", "8").start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let first = Page::opens(&stranger(&world, 0)).await;
    let wish = json!({ "name": "Firefox", "platform": "web" });
    stranger(&world, 1).post("/v1/links", wish).await.problem(429, "too_many_requests");
    first.decided(&phone.api(), json!({ "approve": false })).await.with(200);
    Page::opens(&stranger(&world, 1)).await;
}

pub async fn connections_behind_a_balancer_are_counted_by_their_client(on: Deployment) {
    let world = on
        .with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.1")
        .with("KEEPSTEP_MAX_CONNECTIONS_PER_IP", "3")
        .start()
        .await;
    let edge = world.addresses()[0].clone();
    let mut tokens = Vec::new();
    for name in ["alice", "bob", "carol", "dave", "eve"] {
        tokens.push(format!("Bearer {}", world.user(name).registers("main").await.token));
    }
    let open = async |who: usize, from: &str| {
        let headers = [("Authorization", tokens[who].as_str()), ("X-Forwarded-For", from)];
        Socket::handshake(&edge, "/v1/socket", &headers).await
    };
    let mut sockets = Vec::new();
    for (who, from) in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2::3"].into_iter().enumerate() {
        sockets.push(open(who, from).await.expect("a socket"));
    }
    assert_eq!(open(3, "2001:db8:1:2::4").await.unwrap_err(), "429");
    page(&world, 0, "X-Forwarded-For: 2001:db8:1:2::5\r\n").await.problem(429, "too_many_requests");
    // Nobody else is concerned, not even the balancer itself.
    let _other = open(4, "2001:db8:1:3::1").await.expect("a socket of another network");
    page(&world, 0, "").await.with(201);
    // One that ends makes room.
    sockets.pop();
    wait_until("room for another", PATIENCE, async || open(3, "2001:db8:1:2::6").await.ok()).await;
}

pub async fn an_address_opens_connections_at_a_pace_and_others_do_not_wait(on: Deployment) {
    let world = on
        .with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.1")
        .with("KEEPSTEP_NEW_CONNECTIONS_PER_IP", "10")
        .start()
        .await;
    let edge = world.addresses()[0].clone();
    let ready = async |from: &str| {
        let request = format!(
            "GET /v1/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {from}\r\n\r\n"
        );
        raw_http(&edge, request.as_bytes()).await.expect("an answer").with(200)
    };
    let begun = Instant::now();
    let many = async {
        futures_util::future::join_all((0..20).map(|_| ready("203.0.113.9"))).await;
        begun.elapsed()
    };
    let others = async {
        for n in 1..=20 {
            ready(&format!("198.51.100.{n}")).await;
        }
        begun.elapsed()
    };
    let (many, others) = tokio::join!(many, others);
    assert!(many > Duration::from_millis(1_800), "20 of one address took {many:?}, at 10 a second");
    assert!(others < many, "20 of other addresses took {others:?}, those of one {many:?}");
}

/// Sends raw bytes and returns the answer; nothing, if the server closes.
async fn exchange(edge: &str, said: &[u8]) -> String {
    let mut stream = TcpStream::connect(edge).await.expect("connect");
    let _ = stream.write_all(said).await;
    let mut answer = Vec::new();
    let _ = soon("an answer or the end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn with_head(head: &[u8]) -> Vec<u8> {
    let body = r#"{"name":"Firefox","platform":"web"}"#;
    let request = format!(
        "POST /v1/links HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    [head, request.as_bytes()].concat()
}

pub async fn a_balancer_says_whose_a_connection_is_before_it(on: Deployment) {
    let world = on
        .with("KEEPSTEP_PROXY_PROTOCOL", "true")
        .with("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.1")
        .with("KEEPSTEP_HEADER_TIMEOUT", "500ms")
        .with("KEEPSTEP_LINKS_PER_MINUTE", "2")
        .start()
        .await;
    let edge = world.addresses()[0].clone();
    let v2 = |last: u8| {
        let addresses = [203, 0, 113, last, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
    };
    let v1 = b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n".to_vec();
    for (head, status) in [(v1.clone(), "201"), (v2(1), "201"), (v1, "429"), (v2(2), "201")] {
        let answer = exchange(&edge, &with_head(&head)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    // The balancer's own question, a health check.
    let answer = exchange(&edge, &with_head(b"PROXY UNKNOWN\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // Without the head there is nothing to be had here, nor by a head that is none, is too long or never ends.
    let (long, far) = ("1".repeat(200), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec());
    for head in [
        Vec::new(),
        b"PROXY TCP4 nobody 127.0.0.1 4711 80\r\n".to_vec(),
        format!("PROXY TCP4 {long} 127.0.0.1 4711 80\r\n").into_bytes(),
        far,
    ] {
        let said = with_head(&head);
        assert_eq!(exchange(&edge, &said).await, "", "{:?}", String::from_utf8_lossy(&head));
    }
    for head in [&b""[..], b"PROXY TCP4 203", &v2(3)[..20]] {
        assert_eq!(exchange(&edge, head).await, "", "{:?}", String::from_utf8_lossy(head));
    }
    // Health and metrics are asked for without.
    assert_eq!(world.readiness(0).await.expect("an answer").0, 200);
}

pub async fn only_a_trusted_proxy_says_whose_a_connection_is(on: Deployment) {
    let world = on
        .with("KEEPSTEP_PROXY_PROTOCOL", "true")
        .with("KEEPSTEP_TRUSTED_PROXIES", "10.0.0.0/8")
        .start()
        .await;
    let said = with_head(b"PROXY TCP4 203.0.113.1 127.0.0.1 4711 80\r\n");
    assert_eq!(exchange(&world.addresses()[0], &said).await, "");
}

pub async fn a_socket_goes_through_a_balancer(on: Deployment) {
    let world = on.with("KEEPSTEP_PROXY_PROTOCOL", "true").start().await;
    let edge = world.addresses()[0].clone();
    let head = format!(
        "PROXY TCP6 2001:db8::7 ::1 4711 80\r\nGET /v1/socket?token=none HTTP/1.1\r\nHost: {edge}\r\n{HANDSHAKE}\r\n"
    );
    let (wire, head) = Wire::handshake(&edge, &head).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // A bad token is told on the socket: it works.
    assert_eq!(wire.close_code().await, Some(4401));
}
