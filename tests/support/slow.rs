//! A link that takes its time: every piece arrives late by a random time of a range, in order, however much is under way.
//! (The campaign's proxy delays one piece after the other, so it is narrow, too; this one only is long.)

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// See the module. Dropped, no new connections are made.
#[derive(Debug)]
pub struct SlowLink {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How late a piece arrives, in each direction, in milliseconds.
    late: Mutex<Range<u64>>,
    /// Pieces to the server that hold this arrive so much later.
    held: Mutex<Option<(String, Duration)>>,
    /// When Redis was asked for the read offsets of somebody.
    reads: Mutex<Vec<Instant>>,
}

impl SlowLink {
    /// A fast link to a server, for now.
    pub async fn start(server: &str) -> SlowLink {
        let server: SocketAddr = server.parse().expect("an address");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(accept(listener, server, shared.clone()));
        SlowLink { port, shared, task }
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on each piece takes so long in each direction; a round trip twice as long.
    pub fn takes(&self, milliseconds: Range<u64>) {
        *self.shared.late.lock().unwrap() = milliseconds;
    }

    /// From now on whatever is said to the server with this in it, and what is said behind it on that connection, takes so
    /// much longer.
    pub fn holds(&self, what: &str, longer: Duration) {
        *self.shared.held.lock().unwrap() = Some((what.to_owned(), longer));
    }

    /// Most questions for read offsets that were asked within any stretch of this length, since the last call.
    pub fn reads_within(&self, stretch: Duration) -> usize {
        let reads = std::mem::take(&mut *self.shared.reads.lock().unwrap());
        let mut most = 0;
        for (n, first) in reads.iter().enumerate() {
            most = most.max(reads[n..].iter().take_while(|at| **at < *first + stretch).count());
        }
        most
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                pass(from_client, to_server, &shared, true),
                pass(from_server, to_client, &shared, false)
            );
        });
    }
}

/// One direction.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, upward: bool) {
    let (road, mut end) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let enters = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let piece = buffer[..length].to_vec();
            if upward {
                let count = reads_in(&piece);
                shared.reads.lock().unwrap().extend(vec![Instant::now(); count]);
            }
            let late = shared.late.lock().unwrap().clone();
            let late = Duration::from_millis(if late.is_empty() { 0 } else { rand::random_range(late) });
            let held = shared.held.lock().unwrap().clone().filter(|(what, _)| upward && holds(&piece, what));
            let late = late + held.map_or(Duration::ZERO, |(_, longer)| longer);
            if road.send((Instant::now() + late, piece)).is_err() {
                break;
            }
        }
    };
    let leaves = async move {
        while let Some((at, piece)) = end.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(enters, leaves);
}

fn holds(piece: &[u8], what: &str) -> bool {
    piece.windows(what.len()).any(|window| window == what.as_bytes())
}

/// How many commands of a piece ask for the key of a user's read offsets; the channel of its events isn't it.
fn reads_in(piece: &[u8]) -> usize {
    const END: &[u8] = b":read\r\n";
    let ends = piece.windows(END.len()).enumerate().filter(|(_, window)| *window == END);
    ends.filter(|(at, _)| {
        let name = piece[..*at].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        !name.starts_with(b"__keyspace")
    })
    .count()
}
