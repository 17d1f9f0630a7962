//! The healthy pair: two users of another address who talk at an even pace, and how long each message takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::client::{Api, Came, Socket, user_token};

/// Between two messages.
const PACE: Duration = Duration::from_millis(20);

/// See the module. It ends when it is dropped.
#[derive(Debug)]
pub struct Pair {
    state: Arc<Mutex<State>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug, Default)]
struct State {
    sent: HashMap<String, Instant>,
    times: Vec<Duration>,
    // Why it ended, if it did.
    ended: Option<String>,
}

impl State {
    fn arrived(&mut self, key: &str) {
        if let Some(at) = self.sent.remove(key) {
            self.times.push(at.elapsed());
        }
    }
}

/// What was taken in a while.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// How many messages arrived.
    pub count: usize,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds. A message that hasn't arrived counts with its age.
    pub p99: f64,
}

async fn device(edge: &str, user: &str) -> (Socket, Api) {
    let api = Api::new(edge, &user_token(user));
    let new = json!({ "kind": "main", "name": "phone", "platform": "abuse" });
    let registered = api.post("/v1/devices", new).await.ok();
    let token = registered["token"].as_str().expect("a token").to_owned();
    let mut socket = Socket::open(edge, &token).await;
    socket.frame_of("welcome").await;
    (socket, api)
}

fn parsed(came: Came) -> Result<Value, String> {
    match came {
        Came::Frame(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
        other => Err(format!("{other:?}")),
    }
}

impl Pair {
    /// They register, connect, and begin to talk.
    pub async fn start(edge: &str) -> Pair {
        let (mut alice, api) = device(edge, "healthy-alice").await;
        let (mut bob, _) = device(edge, "healthy-bob").await;
        let chat = api.post("/v1/chats", json!({ "kind": "direct", "with": "healthy-bob" })).await.ok();
        let chat = chat["id"].as_str().expect("an id").to_owned();
        let state = Arc::new(Mutex::new(State::default()));
        let (sent, heard, to) = (state.clone(), state.clone(), chat.clone());
        let sender = tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            for id in 0u64.. {
                tokio::select! {
                    _ = pace.tick() => {
                        let key = uuid::Uuid::new_v4().to_string();
                        let frame = json!({ "type": "send", "id": id, "chat": to, "key": key, "kind": "text", "content": key });
                        sent.lock().unwrap().sent.insert(key, Instant::now());
                        alice.send(&frame).await;
                    }
                    came = alice.come() => match parsed(came) {
                        Ok(frame) if frame["type"] == "message" => {
                            alice.send(&json!({ "type": "ack", "chat": frame["chat"], "seq": frame["seq"] })).await;
                        }
                        Ok(frame) if !frame["error"].is_null() => {
                            return sent.lock().unwrap().ended = Some(format!("alice was refused: {frame}"));
                        }
                        Ok(_) => {}
                        Err(why) => return sent.lock().unwrap().ended = Some(format!("alice: {why}")),
                    },
                }
            }
        });
        let receiver = tokio::spawn(async move {
            loop {
                match parsed(bob.come().await) {
                    Ok(frame) if frame["type"] == "message" => {
                        heard.lock().unwrap().arrived(frame["content"].as_str().unwrap_or_default());
                        bob.send(&json!({ "type": "ack", "chat": frame["chat"], "seq": frame["seq"] })).await;
                    }
                    Ok(_) => {}
                    Err(why) => return heard.lock().unwrap().ended = Some(format!("bob: {why}")),
                }
            }
        });
        Pair { state, tasks: [sender, receiver] }
    }

    /// How it was for so long from now.
    pub async fn times(&self, long: Duration) -> Result<Times, String> {
        self.state.lock().unwrap().times.clear();
        tokio::time::sleep(long).await;
        let mut state = self.state.lock().unwrap();
        if let Some(why) = &state.ended {
            return Err(why.clone());
        }
        let mut times = std::mem::take(&mut state.times);
        let count = times.len();
        times.extend(state.sent.values().map(Instant::elapsed));
        times.sort_unstable();
        let at = |part: f64| {
            let place = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3)
        };
        Ok(Times { count, p50: at(0.5), p99: at(0.99) })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Times {
    /// For a result.
    pub fn json(&self) -> Value {
        json!({ "messages": self.count, "p50_ms": self.p50, "p99_ms": self.p99 })
    }
}
