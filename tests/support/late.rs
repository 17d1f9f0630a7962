//! A link to Redis on which one call, or its answer, is late: from a request with a mark on, everything in that
//! direction of its connection is held until the test releases it, even if the sender has disconnected. Redis can't
//! tell such a call from a current one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The request, and what follows it.
    Request,
    /// Its answer.
    Answer,
}

/// The state of the hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Everything passes.
    Open,
    /// Waits for the next request with this mark.
    Armed(Vec<u8>, What),
    /// The request has come.
    Holding(What),
    /// The request was released.
    LetGo,
    /// Redis has answered it.
    Answered,
    /// Nothing passes on any connection.
    Frozen,
}

type Stages = Arc<watch::Sender<Stage>>;

/// See the module. Dropping it closes it to new connections.
#[derive(Debug)]
pub struct LateLink {
    port: u16,
    stage: Stages,
    task: JoinHandle<()>,
}

impl LateLink {
    /// Listens for a server at `127.0.0.1:port`.
    pub async fn to(server: &str) -> LateLink {
        let server: SocketAddr = server.parse().expect("an address");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listen");
        let port = listener.local_addr().expect("an address").port();
        let stage = Arc::new(watch::Sender::new(Stage::Open));
        let stages = stage.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                // Whether the call that is meant is this connection's.
                let mine = Arc::new(watch::Sender::new(false));
                tokio::spawn(up(from_client, to_server, stages.clone(), mine.clone()));
                tokio::spawn(down(from_server, to_client, stages.clone(), mine));
            }
        });
        LateLink { port, stage, task }
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Holds the next request with this mark, or its answer.
    pub fn hold(&self, mark: &str, what: What) {
        self.stage.send_replace(Stage::Armed(mark.as_bytes().to_vec(), what));
    }

    /// Waits until it has come.
    pub async fn held(&self) {
        self.until(|stage| matches!(stage, Stage::Holding(_))).await;
    }

    /// Releases it, and waits until Redis has answered it.
    pub async fn let_go(&self) {
        self.stage.send_replace(Stage::LetGo);
        self.until(|stage| *stage == Stage::Answered).await;
    }

    /// Stops everything from now on.
    pub fn freeze(&self) {
        self.stage.send_replace(Stage::Frozen);
    }

    async fn until(&self, wanted: impl Fn(&Stage) -> bool) {
        let mut stage = self.stage.subscribe();
        let wait = stage.wait_for(wanted);
        tokio::time::timeout(super::wait::PATIENCE, wait).await.expect("in time").expect("it lives");
    }
}

impl Drop for LateLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, stages: Stages, mine: Arc<watch::Sender<bool>>) {
    let (mut chunk, mut waiting) = (vec![0; 64 * 1024], Vec::new());
    let mut over = false;
    while !over {
        let held = is_held(&stages.borrow(), *mine.borrow(), What::Request);
        if !held && !waiting.is_empty() {
            over = to.write_all(&waiting).await.is_err();
            waiting.clear();
        }
        let length = tokio::select! {
            length = from.read(&mut chunk) => length.unwrap_or(0),
            () = passes(&stages, &mine, What::Request), if held => continue,
        };
        over |= length == 0;
        stages.send_if_modified(|stage| {
            let Stage::Armed(mark, what) = stage else { return false };
            let found = chunk[..length].windows(mark.len().max(1)).any(|bytes| bytes == mark.as_slice());
            if found {
                mine.send_replace(true);
                *stage = Stage::Holding(*what);
            }
            found
        });
        waiting.extend_from_slice(&chunk[..length]);
        if !is_held(&stages.borrow(), *mine.borrow(), What::Request) {
            over |= to.write_all(&waiting).await.is_err();
            waiting.clear();
        }
    }
    if !waiting.is_empty() {
        // Who sent it is gone.
        passes(&stages, &mine, What::Request).await;
        let _ = to.write_all(&waiting).await;
        tokio::time::sleep(super::wait::PATIENCE).await;
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    stages: Stages,
    mine: Arc<watch::Sender<bool>>,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        passes(&stages, &mine, What::Answer).await;
        let _ = to.write_all(&chunk[..length]).await;
        let is_mine = *mine.borrow();
        stages.send_if_modified(|stage| {
            let answered = is_mine && *stage == Stage::LetGo;
            if answered {
                *stage = Stage::Answered;
            }
            answered
        });
    }
}

fn is_held(stage: &Stage, mine: bool, what: What) -> bool {
    *stage == Stage::Frozen || (mine && *stage == Stage::Holding(what))
}

async fn passes(stages: &Stages, mine: &watch::Sender<bool>, what: What) {
    let mut stage = stages.subscribe();
    let _ = stage.wait_for(|stage| !is_held(stage, *mine.borrow(), what)).await;
}
