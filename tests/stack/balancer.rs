//! The shipped load balancer does what its comments say.

use std::io::ErrorKind::WouldBlock;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::stories::client::{Api, Socket, admin_token, raw_http, soon, user_token};
use crate::stories::user::User;
use crate::support::{Edge, EdgeConfig, Haproxy, PATIENCE, stays, wait_for, wait_until};

async fn edge(settings: &[(&str, &str)]) -> Edge {
    let config = EdgeConfig::embedded().set("KEEPSTEP_TRUSTED_PROXIES", "127.0.0.1");
    let edge =
        Edge::start(settings.iter().fold(config, |config, (name, value)| config.set(name, *value))).await;
    edge.ready().await;
    edge
}

/// Connects from another address of this machine.
async fn connect(from: u8, to: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
    socket.connect(to.parse().expect("an address")).await
}

/// Sends a request from an address; returns the head of the answer in lower case, empty if there is none.
async fn asks(from: u8, to: &str, request: &str) -> String {
    soon("an answer", async {
        let mut answer = Vec::new();
        if let Ok(mut stream) = connect(from, to).await {
            let _ = stream.write_all(request.as_bytes()).await;
            let _ = stream.read_to_end(&mut answer).await;
        }
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        answer.split("\r\n\r\n").next().unwrap_or_default().to_owned()
    })
    .await
}

fn page(headers: &str) -> String {
    let body = r#"{"name":"Firefox","platform":"web"}"#;
    let length = body.len();
    format!(
        "POST /v1/links HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

fn has_status(head: &str, status: u16) -> bool {
    head.starts_with(&format!("http/1.1 {status} "))
}

#[tokio::test]
async fn an_edge_limits_by_the_address_that_the_balancer_saw() {
    let edge = edge(&[("KEEPSTEP_LINKS_PER_MINUTE", "3")]).await;
    let haproxy = Haproxy::start(&edge, &[]).await;
    let to = haproxy.clients();
    // Whatever a client says of itself.
    for said in ["", "X-Forwarded-For: 203.0.113.1\r\n", "Forwarded: for=203.0.113.2\r\n"] {
        let head = asks(2, &to, &page(said)).await;
        assert!(has_status(&head, 201), "{said}: {head}");
    }
    for said in ["", "X-Forwarded-For: 203.0.113.3\r\n", "Forwarded: for=203.0.113.4\r\n"] {
        let head = asks(2, &to, &page(said)).await;
        assert!(has_status(&head, 429), "{said}: {head}");
    }
    let head = asks(3, &to, &page("")).await;
    assert!(has_status(&head, 201), "another address: {head}");
}

#[tokio::test]
async fn the_console_is_for_the_inside() {
    let edge = edge(&[]).await;
    let haproxy = Haproxy::start(&edge, &[]).await;
    for path in
        ["/admin", "/admin/", "/admin/main.js", "/admin/v1/overview", "/metrics", "/readyz", "/healthz"]
    {
        let head = asks(1, &haproxy.clients(), &get(path)).await;
        assert!(has_status(&head, 404), "{path}: {head}");
    }
    // Written in other ways it leads nowhere either, and in full it is the same.
    for path in
        ["//admin/v1/overview", "/%61dmin/v1/overview", "/./admin/v1/overview", "/x/../admin/v1/overview"]
    {
        let head = asks(1, &haproxy.clients(), &get(path)).await;
        assert!(has_status(&head, 404) || has_status(&head, 400), "{path}: {head}");
    }
    let head = asks(1, &haproxy.clients(), &get("http://x/admin/v1/overview")).await;
    assert!(has_status(&head, 404), "{head}");
    let token = admin_token();
    Api::new(&haproxy.admins(), &token).get("/admin/v1/overview").await.with(200);
    assert_eq!(Api::new(&haproxy.clients(), &token).get("/v1/chats").await.status, 200);
    assert!(has_status(&asks(1, &haproxy.admins(), &get("/admin")).await, 200));
}

#[tokio::test]
async fn one_source_leaves_room_for_others() {
    let edge = edge(&[]).await;
    let settings = [("SOURCE_CONNECTIONS", "4"), ("SOURCE_REQUESTS", "30")];
    let haproxy = Haproxy::start(&edge, &settings).await;
    let to = haproxy.clients();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.extend(connect(2, &to).await.ok());
    }
    // What is too many is closed without a word. Not by the order in which they came: haproxy's threads take them side by side.
    let open =
        |stream: &TcpStream| matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == WouldBlock);
    wait_until("four to be left", PATIENCE, async || {
        held.retain(open);
        (held.len() <= 4).then_some(())
    })
    .await;
    assert!(!held.is_empty(), "all were closed");
    assert!(has_status(&asks(3, &to, &get("/v1/none")).await, 404), "another source gets in");
    drop(held);
    wait_until("too many requests", PATIENCE, async || {
        let head = asks(2, &to, &get("/v1/none")).await;
        assert!(head.is_empty() || has_status(&head, 404) || has_status(&head, 429), "{head}");
        (has_status(&head, 429) && head.contains("retry-after: 10")).then_some(())
    })
    .await;
    assert!(has_status(&asks(3, &to, &get("/v1/none")).await, 404), "another source is answered");
}

#[tokio::test]
async fn sockets_pass_and_tls_is_asked_for_again() {
    let edge = edge(&[]).await;
    let haproxy = Haproxy::start(&edge, &[]).await;
    let alice = User::with_token("alice", &user_token("alice"), [haproxy.clients()].into());
    let phone = alice.registers("main").await;
    Socket::open(&haproxy.clients(), &phone.token).await;
    assert!(!asks(1, &haproxy.clients(), &get("/v1/none")).await.contains("strict-transport-security"));

    let haproxy = Haproxy::start_with_tls(&edge).await;
    for path in ["/", "/admin"] {
        let (to, request) = (haproxy.clients(), get(path));
        let answer = tokio::task::spawn_blocking(move || {
            let mut client = Command::new("openssl")
                .args(["s_client", "-quiet", "-connect", &to])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("run openssl");
            client.stdin.take().expect("its input").write_all(request.as_bytes()).expect("ask");
            client.wait_with_output().expect("an answer").stdout
        });
        let answer = soon("an answer over TLS", answer).await.expect("openssl ends");
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{path}: {answer}");
    }
}

/// Returns the status for a request without a token: 401 from an edge, anything else without one.
async fn status(haproxy: &Haproxy) -> u16 {
    let address = haproxy.clients();
    let request = format!(
        "POST /v1/chats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    raw_http(&address, request.as_bytes()).await.map_or(0, |answer| answer.status)
}

#[tokio::test]
async fn an_edge_that_takes_nobody_gets_nobody() {
    const MOST: usize = 8;
    let mut healthy = Edge::start(EdgeConfig::embedded()).await;
    let full = EdgeConfig::embedded().set("KEEPSTEP_MAX_CONNECTIONS", MOST.to_string());
    let full = Edge::start(full).await;
    let mut seats = Vec::new();
    for _ in 0..MOST {
        seats.push(TcpStream::connect(full.listen()).await.expect("a seat"));
    }
    full.ready().await;
    let mut haproxy = Haproxy::start(&full, &[("EDGE_2", &healthy.listen())]).await;
    // It begins with both of them.
    wait_for("haproxy to see it", PATIENCE, async || {
        let log = haproxy.process().log();
        if log.contains("Server edges/edge-1 is DOWN") { Ok(()) } else { Err(log) }
    })
    .await;
    let served = async |what: &str| {
        wait_for(what, PATIENCE, async || match status(&haproxy).await {
            401 => Ok(()),
            other => Err(other),
        })
        .await;
        // From then on each, and on each edge that is in.
        stays(Duration::from_millis(500), async || assert_eq!(status(&haproxy).await, 401, "{what}")).await;
    };
    served("the healthy edge to serve everybody").await;
    drop(seats);
    wait_for("the other one to be served by, too", PATIENCE, async || {
        // While its seats are given back it may hang up.
        let request = get("/v1/ready");
        match raw_http(&full.listen(), request.as_bytes()).await.map_or(0, |answer| answer.status) {
            200 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    healthy.kill9();
    served("the other edge to serve everybody").await;
}
