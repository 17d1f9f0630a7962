//! A TCP proxy that impairs a link as networks do: delay, throttle, cut, silence, in one direction or both. Held bytes
//! continue when the link heals, as in a real network, even if their sender is gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// The behaviour of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultProfile {
    /// Everything passes.
    Fine,
    /// The server is far away: everything arrives late by this time, with full bandwidth.
    Far(Duration),
    /// Each piece takes this much longer.
    Delay(Duration),
    /// This many bytes a second in each direction.
    Throttle(u64),
    /// Connections break, new ones too.
    Cut,
    /// Connections stay open and nothing passes.
    HalfOpen,
    /// Only the direction to the server works.
    OneWay,
    /// The client's bytes arrive only when this is over, even if the client has given up and disconnected.
    Late,
    /// The same for existing connections; new ones work normally. The number distinguishes one such period from
    /// another.
    LateOfOld(u64),
}

/// What the link has seen since it was created.
#[derive(Debug, Default)]
pub struct Seen {
    /// Open connections.
    pub open: AtomicU64,
    /// Connections broken by a cut.
    pub cut: AtomicU64,
    /// Bytes that were delayed, throttled or held.
    pub troubled: AtomicU64,
    /// Of these, those that arrived after their sender had disconnected.
    pub orphaned: AtomicU64,
}

/// One link. Dropping it breaks its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<FaultProfile>,
    // What it is like when nothing is wrong.
    climate: Mutex<FaultProfile>,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port, for a server at another one.
    pub async fn start(port: u16, server: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (weather, watched) = watch::channel(FaultProfile::Fine);
        let seen = Arc::new(Seen::default());
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
        let task = tokio::spawn(accept(listener, server, watched, seen.clone()));
        Ok(Proxy { port, weather, climate: Mutex::new(FaultProfile::Fine), seen, task })
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sets its behaviour until it heals.
    pub fn set(&self, weather: FaultProfile) {
        self.weather.send_replace(weather);
    }

    /// Sets its behaviour permanently.
    pub fn settle(&self, climate: FaultProfile) {
        *self.climate.lock().unwrap() = climate;
        self.heal();
    }

    /// Restores its normal behaviour.
    pub fn heal(&self) {
        self.weather.send_replace(*self.climate.lock().unwrap());
    }

    /// Returns what it has seen.
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
    weather: watch::Receiver<FaultProfile>,
    seen: Arc<Seen>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // No descriptors, say: later.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        let now = *weather.borrow();
        if now == FaultProfile::Cut {
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

/// Runs one connection, until both of its ends are over or it is cut.
async fn connection(
    client: TcpStream,
    server: SocketAddr,
    mut weather: watch::Receiver<FaultProfile>,
    seen: &Seen,
) {
    let born = *weather.borrow();
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let watched = weather.clone();
    let line = |way| Line { way, born, weather: watched.clone(), seen };
    let both = async {
        tokio::join!(line(Way::Up).pump(from_client, to_server), line(Way::Down).pump(from_server, to_client))
    };
    tokio::select! {
        _ = both => {}
        // Cut, or the proxy is gone.
        _ = weather.wait_for(|weather| *weather == FaultProfile::Cut) => drop(seen.cut.fetch_add(1, Relaxed)),
    }
}

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// One direction of one connection.
struct Line<'s> {
    way: Way,
    // How it was when the connection came.
    born: FaultProfile,
    weather: watch::Receiver<FaultProfile>,
    seen: &'s Seen,
}

/// The maximum number of pieces in transit: with a piece of 16 KiB, 16 MiB.
const ON_THE_WAY: usize = 1024;

impl Line<'_> {
    /// Forwards bytes until their source is over; then ends the other side.
    async fn pump(self, from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (pieces, coming) = mpsc::channel(ON_THE_WAY);
        tokio::join!(self.takes(from, pieces), self.gives(coming, to));
    }

    /// Reads as fast as the link allows.
    async fn takes(&self, mut from: OwnedReadHalf, pieces: mpsc::Sender<(Instant, Vec<u8>)>) {
        let mut weather = self.weather.clone();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let most = match *weather.borrow() {
                FaultProfile::Throttle(a_second) => {
                    usize::try_from(a_second / 20).unwrap_or(1).clamp(1, buffer.len())
                }
                _ => buffer.len(),
            };
            let length = match from.read(&mut buffer[..most]).await {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            let now = *weather.borrow();
            if now != FaultProfile::Fine && !self.passes(now) {
                self.seen.troubled.fetch_add(length as u64, Relaxed);
            }
            let mut due = Instant::now();
            match now {
                FaultProfile::Delay(by) => sleep(by).await,
                FaultProfile::Throttle(_) => sleep(Duration::from_millis(50)).await,
                FaultProfile::Far(by) => due += by,
                _ => {}
            }
            let stands = |weather: &FaultProfile| {
                *weather == FaultProfile::HalfOpen
                    || (*weather == FaultProfile::OneWay && self.way == Way::Down)
            };
            if weather.wait_for(|weather| !stands(weather)).await.is_err()
                || pieces.send((due, buffer[..length].to_vec())).await.is_err()
            {
                return;
            }
        }
    }

    /// Writes the pieces when they are due.
    async fn gives(&self, mut coming: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
        let mut weather = self.weather.clone();
        let mut gone = false;
        while let Some((due, piece)) = coming.recv().await {
            sleep_until(due).await;
            let was_late = !self.arrives(&weather.borrow());
            if weather.wait_for(|weather| self.arrives(weather)).await.is_err() {
                return;
            }
            if was_late && coming.is_closed() {
                self.seen.orphaned.fetch_add(piece.len() as u64, Relaxed);
            }
            // Who can't take it any more must not be why the other side can't go on: an answer to nobody, with the server still
            // reading what came late.
            gone = gone || to.write_all(&piece).await.is_err();
        }
        // Fails when the other side is gone already.
        let _ = to.shutdown().await;
    }

    /// Returns whether this direction works normally.
    fn passes(&self, weather: FaultProfile) -> bool {
        match weather {
            FaultProfile::OneWay => self.way == Way::Up,
            FaultProfile::Late | FaultProfile::LateOfOld(_) => self.arrives(&weather),
            _ => false,
        }
    }

    /// Returns whether a piece may arrive now.
    fn arrives(&self, weather: &FaultProfile) -> bool {
        match weather {
            FaultProfile::Late => self.way == Way::Down,
            FaultProfile::LateOfOld(_) => self.way == Way::Down || self.born == *weather,
            _ => true,
        }
    }
}
