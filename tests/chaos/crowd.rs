//! Idle devices: they receive nothing, and must stay connected.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::{Came, Socket};
use crate::closes::Close;
use crate::device::uuid;
use crate::people::{People, long_lived_token};
use crate::record::Recorder;

/// The number of devices.
pub const SIZE: usize = 200;

/// How many are registered at the same time, which isn't what is tested here.
const AT_ONCE: usize = 10;

/// The longest wait of a device: its edge is far from its store.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them. Dropping it disconnects them.
#[derive(Debug)]
pub struct Crowd {
    /// Their devices, which are in no history.
    pub devices: HashSet<String>,
    over: watch::Sender<bool>,
    lives: JoinSet<()>,
}

/// One of them.
struct Idler {
    user: String,
    device: String,
    token: String,
}

impl Crowd {
    /// Registers them, in pairs with a chat each, and connects them to one edge for the crowd's lifetime.
    pub async fn gather(people: &People, edge: usize, seed: u64) -> Option<Crowd> {
        let mut random = StdRng::seed_from_u64(seed);
        let names: Vec<String> = (0..SIZE).map(|n| format!("idle-{n}")).collect();
        let mut idlers = Vec::new();
        for names in names.chunks(AT_ONCE) {
            let registering = names.iter().map(|name| registered(people, name, uuid(&mut random)));
            idlers.extend(join_all(registering).await.into_iter().collect::<Option<Vec<_>>>()?);
            let chats = names.chunks(2).map(|pair| acquainted(people, pair, uuid(&mut random)));
            join_all(chats).await.into_iter().collect::<Option<Vec<()>>>()?;
        }
        let (over, address) = (watch::Sender::new(false), people.edges[edge].clone());
        let (connected, mut arrivals) = tokio::sync::mpsc::channel(SIZE);
        let devices = idlers.iter().map(|idler: &Idler| idler.device.clone()).collect();
        let mut lives = JoinSet::new();
        for idler in idlers {
            let (record, address, connected) = (people.record.clone(), address.clone(), connected.clone());
            lives.spawn(idler.live(record, edge, address, over.subscribe(), connected));
        }
        for _ in 0..SIZE {
            if !matches!(timeout(PATIENCE, arrivals.recv()).await, Ok(Some(()))) {
                eprintln!("!! not all of the {SIZE} are connected");
                return None;
            }
        }
        Some(Crowd { devices, over, lives })
    }

    /// Disconnects them for good.
    pub async fn goes(mut self) {
        self.over.send_replace(true);
        while self.lives.join_next().await.is_some() {}
    }
}

async fn registered(people: &People, user: &str, device: String) -> Option<Idler> {
    let body = json!({ "kind": "main", "name": "idle", "platform": "chaos", "id": device });
    let answer = people.call(&long_lived_token(user), "POST", "/v1/devices", &body).await?;
    let Some(token) = answer.body["token"].as_str().map(str::to_owned) else {
        eprintln!("!! {user}: {} {}", answer.status, answer.body);
        return None;
    };
    Some(Idler { user: user.to_owned(), device, token })
}

async fn acquainted(people: &People, pair: &[String], chat: String) -> Option<()> {
    let [one, other] = pair else { return None };
    let body = json!({ "kind": "direct", "id": chat, "with": other });
    let answer = people.call(&long_lived_token(one), "POST", "/v1/chats", &body).await?;
    if !(200..300).contains(&answer.status) {
        eprintln!("!! {one} with {other}: {} {}", answer.status, answer.body);
        return None;
    }
    Some(())
}

impl Idler {
    async fn live(
        self,
        record: Arc<Recorder>,
        edge: usize,
        address: String,
        mut over: watch::Receiver<bool>,
        connected: tokio::sync::mpsc::Sender<()>,
    ) {
        let authorization = format!("Bearer {}", self.token);
        let mut arrived = Some(connected);
        while !*over.borrow() {
            let headers = [("Authorization", authorization.as_str())];
            let opening = Socket::handshake(&address, "/v1/socket", &headers);
            if let Ok(Ok(mut socket)) = timeout(Duration::from_secs(15), opening).await {
                let end = tokio::select! {
                    end = stays(&mut socket, &mut arrived) => end,
                    _ = over.wait_for(|over| *over) => return,
                };
                if let Some((code, reason)) = end {
                    let (user, device) = (self.user.clone(), self.device.clone());
                    let (at, socket) = (record.now(), 0);
                    let close = Close { at, device, user, socket, edge, code, reason, idle: None };
                    record.closes.lock().unwrap().push(close);
                }
            }
            // Not all in the same millisecond, as clients are told to.
            let pause = Duration::from_millis(rand::random_range(200..3000));
            let _ = timeout(pause, over.wait_for(|over| *over)).await;
        }
    }
}

/// Waits for the end of a connection; returns the server's code and reason, if it gave one.
async fn stays(
    socket: &mut Socket,
    arrived: &mut Option<tokio::sync::mpsc::Sender<()>>,
) -> Option<(u16, String)> {
    loop {
        match socket.come().await {
            Came::Frame(_) => {
                if let Some(arrived) = arrived.take() {
                    let _ = arrived.send(()).await;
                }
            }
            Came::Closed(code, reason) => return Some((code, reason)),
            Came::Lost => return None,
        }
    }
}
