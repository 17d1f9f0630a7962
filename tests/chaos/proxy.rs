//! A TCP proxy that does to a link what networks do: delay, throttle, cut, hold without a word, in one direction or both.
//! What was held goes on when the link heals, as with a real network.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Fine,
    /// Each piece takes so much longer.
    Delay(Duration),
    /// So many bytes a second in each direction.
    Throttle(u64),
    /// Connections break, and new ones break at once.
    Cut,
    /// Connections stay open and nothing passes.
    HalfOpen,
    /// What the client says arrives, the answers don't.
    OneWay,
}

/// What the link has seen, since it was made.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections that are open now.
    pub open: AtomicU64,
    /// Connections that were broken by a cut.
    pub cut: AtomicU64,
    /// Bytes that came while they couldn't pass freely: delayed, throttled or held.
    pub troubled: AtomicU64,
}

/// One link. Dropped, its connections break.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port, for a server at another one.
    pub async fn start(port: u16, server: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (weather, watched) = watch::channel(Weather::Fine);
        let seen = Arc::new(Seen::default());
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
        let task = tokio::spawn(accept(listener, server, watched, seen.clone()));
        Ok(Proxy { port, weather, seen, task })
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on it is like this.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// What it has seen.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections see that the sender of the weather is gone.
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    weather: watch::Receiver<Weather>,
    seen: Arc<Seen>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // No descriptors, say: later.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if *weather.borrow() == Weather::Cut {
            seen.cut.fetch_add(1, Relaxed);
            continue;
        }
        let (weather, seen) = (weather.clone(), seen.clone());
        tokio::spawn(async move {
            seen.open.fetch_add(1, Relaxed);
            connection(client, server, weather, &seen).await;
            seen.open.fetch_sub(1, Relaxed);
        });
    }
}

/// One connection, until one of its ends is over or it is cut.
async fn connection(
    client: TcpStream,
    server: SocketAddr,
    mut weather: watch::Receiver<Weather>,
    seen: &Seen,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (up, down) = (weather.clone(), weather.clone());
    let both = async {
        tokio::join!(
            pump(from_client, to_server, up, true, seen),
            pump(from_server, to_client, down, false, seen)
        )
    };
    tokio::select! {
        _ = both => {}
        // Cut, or the proxy is gone.
        _ = weather.wait_for(|weather| *weather == Weather::Cut) => drop(seen.cut.fetch_add(1, Relaxed)),
    }
}

/// Passes bytes on in one direction until its source is over; then the other side is told so.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    upward: bool,
    seen: &Seen,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let most = match *weather.borrow() {
            Weather::Throttle(a_second) => usize::try_from(a_second / 20).unwrap_or(1).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let length = match from.read(&mut buffer[..most]).await {
            Ok(0) | Err(_) => break,
            Ok(length) => length,
        };
        let now = *weather.borrow();
        if now != Weather::Fine && !(now == Weather::OneWay && upward) {
            seen.troubled.fetch_add(length as u64, Relaxed);
        }
        match now {
            Weather::Delay(by) => sleep(by).await,
            Weather::Throttle(_) => sleep(Duration::from_millis(50)).await,
            _ => {}
        }
        let held =
            |weather: &Weather| *weather == Weather::HalfOpen || (*weather == Weather::OneWay && !upward);
        if weather.wait_for(|weather| !held(weather)).await.is_err()
            || to.write_all(&buffer[..length]).await.is_err()
        {
            break;
        }
    }
    // Fails when the other side is gone already.
    let _ = to.shutdown().await;
}
