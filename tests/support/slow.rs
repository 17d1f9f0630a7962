//! A link with latency: every piece arrives late by a random time in a range, in order, whatever the amount in transit.
//! (The campaign's proxy delays piece after piece, so it also limits bandwidth.) It runs in its own thread, so a
//! story's thousand clients don't add delay.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// See the module. Dropping it cuts the link.
#[derive(Debug)]
pub struct SlowLink {
    port: u16,
    shared: Arc<Shared>,
    // Goes with it, and then its thread ends.
    _stands: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The delay of a piece in each direction, in milliseconds.
    late: Mutex<Range<u64>>,
    /// The target of new connections.
    server: Mutex<Option<SocketAddr>>,
    /// Extra delay of pieces to the server that contain this.
    held: Mutex<Option<(String, Duration)>>,
    /// When Redis was asked for somebody's read offsets.
    reads: Mutex<Vec<Instant>>,
    /// The longest delay of a piece beyond the intended one.
    overdue: Mutex<Duration>,
}

impl Shared {
    fn was_late(&self, by: Duration) {
        let mut overdue = self.overdue.lock().unwrap();
        *overdue = by.max(*overdue);
    }
}

impl SlowLink {
    /// Returns a link to a server, without delay at first.
    pub async fn start(server: &str) -> SlowLink {
        let server: SocketAddr = server.parse().expect("an address");
        let shared = Arc::<Shared>::default();
        *shared.server.lock().unwrap() = Some(server);
        let ((stands, falls), (says, port)) = (oneshot::channel(), oneshot::channel());
        let to_server = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                says.send(listener.local_addr().expect("an address").port()).expect("somebody waits for it");
                tokio::select! {
                    () = accept(listener, to_server) => {}
                    _ = falls => {}
                }
            });
        });
        SlowLink { port: port.await.expect("the link's thread listens"), shared, _stands: stands }
    }

    /// Sends new connections to another server from now on; open ones stay.
    pub fn leads_to(&self, server: &str) {
        *self.shared.server.lock().unwrap() = Some(server.parse().expect("an address"));
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sets the delay of each piece in each direction; a round trip takes twice as long.
    pub fn takes(&self, milliseconds: Range<u64>) {
        *self.shared.late.lock().unwrap() = milliseconds;
    }

    /// Delays pieces to the server that contain this, and what follows them on their connection, by this much more.
    pub fn holds(&self, what: &str, longer: Duration) {
        *self.shared.held.lock().unwrap() = Some((what.to_owned(), longer));
    }

    /// Returns the longest delay beyond the intended one: caused by a busy machine, not by the story.
    pub fn overdue(&self) -> Duration {
        *self.shared.overdue.lock().unwrap()
    }

    /// Returns the most requests for read offsets within any period of this length, since the last call.
    pub fn reads_within(&self, stretch: Duration) -> usize {
        let reads = std::mem::take(&mut *self.shared.reads.lock().unwrap());
        let mut most = 0;
        for (n, first) in reads.iter().enumerate() {
            most = most.max(reads[n..].iter().take_while(|at| **at < *first + stretch).count());
        }
        most
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        let server = shared.server.lock().unwrap().expect("a server");
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
        let mut due = Instant::now();
        while let Some((at, piece)) = end.recv().await {
            // Not before the piece in front of it.
            due = due.max(at);
            // Also a sleep that is over lasts until the clock's next tick, a millisecond or two: with none to wait, that made a
            // round trip of 0.2 ms one of 3.3.
            if at > Instant::now() {
                sleep_until(at).await;
            }
            shared.was_late(due.elapsed());
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

/// Returns how many commands of a piece read a user's read offsets; the channel of their events doesn't count.
fn reads_in(piece: &[u8]) -> usize {
    const END: &[u8] = b":read\r\n";
    let ends = piece.windows(END.len()).enumerate().filter(|(_, window)| *window == END);
    ends.filter(|(at, _)| {
        let name = piece[..*at].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        !name.starts_with(b"__keyspace")
    })
    .count()
}
