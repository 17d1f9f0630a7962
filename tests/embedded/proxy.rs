//! The campaign's proxy does to a link what it says, and nothing else.

#[path = "../chaos/proxy.rs"]
#[allow(dead_code)]
mod link;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::support::free_port;
use link::{FaultProfile, Proxy};

/// Longer than anything here takes when it works.
const SOON: Duration = Duration::from_secs(20);
/// What doesn't come in this time is held.
const HELD: Duration = Duration::from_millis(200);

/// A server that says everything twice: what it hears, to us and back to the client; behind a proxy.
struct Echo {
    proxy: Proxy,
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().port();
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        let _ = tell.send(buffer[..length].to_vec());
                        if stream.write_all(&buffer[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Echo { proxy: Proxy::start(free_port(), server).await.unwrap(), heard }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.addr()).await.unwrap()
    }

    /// A connection on which something has passed already.
    async fn connected(&mut self) -> TcpStream {
        let mut stream = self.connect().await;
        say(&mut stream, b"hello").await;
        assert_eq!(hear(&mut stream, 5).await, b"hello");
        assert_eq!(self.heard.recv().await.unwrap(), b"hello");
        stream
    }
}

async fn say(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).await.unwrap();
}

async fn hear(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut words = vec![0; length];
    timeout(SOON, stream.read_exact(&mut words)).await.expect("an echo in time").unwrap();
    words
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    timeout(HELD, stream.read_u8()).await.is_err()
}

async fn is_over(stream: &mut TcpStream) -> bool {
    matches!(timeout(SOON, stream.read_u8()).await, Ok(Err(_)))
}

#[tokio::test]
async fn in_fine_weather_everything_passes_and_ends_are_told() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    let much = vec![7; 300_000];
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; much.len()];
    let both = async { tokio::join!(to.write_all(&much), from.read_exact(&mut back)) };
    timeout(SOON, both).await.expect("all of it in time").1.unwrap();
    assert_eq!(back, much);
    assert_eq!(echo.proxy.seen().troubled.load(Relaxed), 0);
    stream.shutdown().await.unwrap();
    assert!(is_over(&mut stream).await);
}

#[tokio::test]
async fn a_slow_link_takes_its_time() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    echo.proxy.set(FaultProfile::Delay(Duration::from_millis(100)));
    let began = Instant::now();
    say(&mut stream, b"slow").await;
    assert_eq!(hear(&mut stream, 4).await, b"slow");
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(echo.proxy.seen().troubled.load(Relaxed), 8);
}

#[tokio::test]
async fn a_narrow_link_lets_a_little_through() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    echo.proxy.set(FaultProfile::Throttle(20_000));
    // The read that is under way may still take much at once.
    say(&mut stream, b"first").await;
    hear(&mut stream, 5).await;
    let began = Instant::now();
    say(&mut stream, &[1; 10_000]).await;
    hear(&mut stream, 10_000).await;
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_cut_link_breaks_what_is_open_and_what_is_new() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    echo.proxy.set(FaultProfile::Cut);
    assert!(is_over(&mut stream).await);
    assert!(is_over(&mut echo.connect().await).await);
    assert_eq!(echo.proxy.seen().cut.load(Relaxed), 2);
    echo.proxy.set(FaultProfile::Fine);
    echo.connected().await;
}

#[tokio::test]
async fn a_half_open_link_holds_everything_until_it_heals() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    echo.proxy.set(FaultProfile::HalfOpen);
    say(&mut stream, b"held").await;
    assert!(is_silent(&mut stream).await);
    assert!(echo.heard.try_recv().is_err());
    // One that is new is open, too, and as silent.
    let mut fresh = echo.connect().await;
    say(&mut fresh, b"anybody?").await;
    assert!(is_silent(&mut fresh).await);
    echo.proxy.set(FaultProfile::Fine);
    assert_eq!(hear(&mut stream, 4).await, b"held");
    assert_eq!(hear(&mut fresh, 8).await, b"anybody?");
}

#[tokio::test]
async fn a_one_way_link_carries_questions_only() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    echo.proxy.set(FaultProfile::OneWay);
    say(&mut stream, b"heard").await;
    assert_eq!(timeout(SOON, echo.heard.recv()).await.unwrap().unwrap(), b"heard");
    assert!(is_silent(&mut stream).await);
    echo.proxy.set(FaultProfile::Fine);
    assert_eq!(hear(&mut stream, 5).await, b"heard");
}

#[tokio::test]
async fn without_its_proxy_a_link_is_broken() {
    let mut echo = Echo::start().await;
    let mut stream = echo.connected().await;
    drop(echo.proxy);
    assert!(is_over(&mut stream).await);
}
