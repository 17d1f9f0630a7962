//! The people of a run: their chats and devices, who comes and goes while faults rage, and the bots. Every call is tried
//! again until it is answered for sure, on any edge, with the same ids.

mod coming;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{admin_token, raw_http, user_token};
use crate::device::{Device, Life, uuid};
use crate::history::What;
use crate::record::{Recorder, count};

/// An answer for sure, or none.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Value,
    /// Whether an earlier try of the same call has an unknown outcome.
    pub again: bool,
}

/// What everybody in a run shares.
#[derive(Debug)]
pub struct People {
    /// Who writes.
    pub record: Arc<Recorder>,
    /// The edges' addresses.
    pub edges: Arc<[String]>,
    /// Users with their tokens.
    pub users: Vec<(String, String)>,
    /// All devices that were ever registered.
    devices: Mutex<Vec<Arc<Device>>>,
    /// By user: the chats that they are in.
    chats: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Devices that are being ended or have ended, and whether that is done.
    ended: Mutex<BTreeMap<String, bool>>,
    /// Ends that took longer than promised.
    pub late: Mutex<Vec<String>>,
    lives: Mutex<JoinSet<()>>,
    seed: u64,
    over: watch::Sender<bool>,
}

/// How long one call may take before it is tried again.
const CALL: Duration = Duration::from_secs(4);

/// How long anything is tried before it counts as never.
const NEVER: Duration = Duration::from_secs(60);

/// How long an end may take once nothing is in its way.
const DONE: Duration = Duration::from_secs(30);

impl People {
    /// Users without anything.
    pub fn new(record: Arc<Recorder>, edges: Arc<[String]>, users: usize, seed: u64) -> Arc<People> {
        let users = ["alice", "bob", "carol", "dave"].iter().take(users);
        let users = users.map(|name| ((*name).to_owned(), user_token(name))).collect();
        Arc::new(People {
            record,
            edges,
            users,
            devices: Mutex::default(),
            chats: Mutex::default(),
            ended: Mutex::default(),
            late: Mutex::default(),
            lives: Mutex::default(),
            seed,
            over: watch::Sender::new(false),
        })
    }

    /// All devices that live: nobody has begun to end them.
    pub fn living(&self) -> Vec<Arc<Device>> {
        let ended = self.ended.lock().unwrap();
        self.devices
            .lock()
            .unwrap()
            .iter()
            .filter(|device| !ended.contains_key(&device.id))
            .cloned()
            .collect()
    }

    /// Ends under way, and ids of all that are done.
    pub fn ends(&self) -> (usize, Vec<String>) {
        let ended = self.ended.lock().unwrap();
        let open = ended.values().filter(|done| !**done).count();
        (open, ended.iter().filter(|(_, done)| **done).map(|(id, _)| id.clone()).collect())
    }

    /// By user: the chats that they are in.
    pub fn memberships(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.chats.lock().unwrap().clone()
    }

    /// All chats that somebody is in.
    pub fn all_chats(&self) -> BTreeSet<String> {
        self.chats.lock().unwrap().values().flatten().cloned().collect()
    }

    /// Tries until an answer is sure. None when the time is over.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Option<Answer> {
        let (deadline, mut again, mut turn) = (Instant::now() + NEVER, false, rand::random_range(0..60usize));
        while Instant::now() < deadline {
            turn += 1;
            if let Some((status, body)) = self.once(turn, token, method, path, body).await {
                match status {
                    503 => count(&self.record.tally.unavailable),
                    429 => {}
                    _ => return Some(Answer { status, body, again }),
                }
                // "Draining" says for sure that nothing happened.
                again |= status == 503 && body["code"] != "draining";
            } else {
                again = true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// One try on one edge.
    async fn once(
        &self,
        edge: usize,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let edge = &self.edges[edge % self.edges.len()];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = timeout(CALL, raw_http(edge, request.as_bytes())).await.ok()?.ok()?;
        Some((answer.status, answer.body))
    }

    /// Registers a device and sets it going.
    pub async fn registers(self: &Arc<Self>, user: usize, main: bool, id: String) -> Option<Arc<Device>> {
        let (name, token) = &self.users[user];
        let kind = if main { "main" } else { "sub" };
        self.record.write(What::Registering { user: name.clone(), device: id.clone(), main });
        let body = json!({ "kind": kind, "name": kind, "platform": "chaos", "id": id });
        let answer = self.call(token, "POST", "/v1/devices", &body).await?;
        let device_token = answer.body["token"].as_str()?.to_owned();
        self.record.write(What::Registered { device: id.clone() });
        count(&self.record.tally.provisioned);
        let device = Device::new(id, name.clone(), main, device_token);
        let mut devices = self.devices.lock().unwrap();
        let seed = self.seed.wrapping_add(devices.len() as u64 + 1);
        // `settle` goes through the list, under its lock: who comes after that has to settle by itself.
        if *self.over.borrow() {
            settled(&device);
        }
        devices.push(device.clone());
        let life = Life::new(device.clone(), self.edges.clone(), self.record.clone(), seed);
        self.lives.lock().unwrap().spawn(life.live());
        Some(device)
    }

    /// A call after which users are in a chat, if it succeeds. Whether it was sure at once.
    pub async fn joins(&self, who: &[usize], chat: &str, by: usize, path: &str, body: Value) -> Option<bool> {
        for user in who {
            let user = self.users[*user].0.clone();
            self.record.write(What::Joining { user, chat: chat.to_owned() });
        }
        let answer = self.call(&self.users[by].1, "POST", path, &body).await?;
        if !(200..300).contains(&answer.status) {
            eprintln!("!! {path}: {} {}", answer.status, answer.body);
            return None;
        }
        for user in who {
            let user = self.users[*user].0.clone();
            self.chats.lock().unwrap().entry(user.clone()).or_default().insert(chat.to_owned());
            self.record.write(What::Joined { user, chat: chat.to_owned() });
        }
        count(&self.record.tally.provisioned);
        Some(!answer.again)
    }

    /// A user leaves. Whether it was sure at once.
    async fn leaves(&self, user: usize, chat: &str) -> Option<bool> {
        let (name, token) = self.users[user].clone();
        if let Some(chats) = self.chats.lock().unwrap().get_mut(&name) {
            chats.remove(chat);
        }
        self.record.write(What::Leaving { user: name.clone(), chat: chat.to_owned() });
        let answer = self.call(&token, "POST", &format!("/v1/chats/{chat}/leave"), &json!({})).await?;
        if answer.status == 200 || (answer.status == 404 && answer.again) {
            self.record.write(What::Left { user: name, chat: chat.to_owned(), head: None });
            count(&self.record.tally.provisioned);
        } else {
            eprintln!("!! leave: {} {}", answer.status, answer.body);
        }
        Some(!answer.again)
    }

    /// Ends a device, by its user, its user's main, itself or an admin, and waits until it is done.
    async fn ends_device(&self, device: &Arc<Device>, by: usize) {
        self.ended.lock().unwrap().insert(device.id.clone(), false);
        self.record.write(What::Ending { device: device.id.clone() });
        let of_user =
            self.users.iter().find(|(name, _)| *name == device.user).map(|(_, token)| token.clone());
        let of_main = self.living().into_iter().find(|main| main.main && main.user == device.user);
        let (token, path) = match (by % 3, of_user, of_main) {
            (0, ..) => (admin_token(), format!("/admin/v1/devices/{}", device.id)),
            (1, _, Some(main)) => (main.token.clone(), format!("/v1/devices/{}", device.id)),
            (_, Some(token), _) => (token, format!("/v1/devices/{}", device.id)),
            _ => return,
        };
        let Some(answer) = self.call(&token, "DELETE", &path, &Value::Null).await else { return };
        let Some(termination) = answer.body["termination"]["id"].as_str().filter(|_| answer.status == 202)
        else {
            eprintln!("!! end of {}: {} {}", device.id, answer.status, answer.body);
            return;
        };
        self.record.write(What::Accepted { device: device.id.clone() });
        let accepted = self.record.now();
        let path = format!("/v1/terminations/{termination}");
        let deadline = Instant::now() + 2 * NEVER;
        while Instant::now() < deadline {
            if let Some(answer) = self.call(&admin_token(), "GET", &path, &Value::Null).await
                && answer.body["state"] == "done"
            {
                let since = accepted.max(self.record.tally.fault.load(Relaxed));
                let took = Duration::from_micros(self.record.now().saturating_sub(since));
                if took > DONE {
                    let late = format!("the end of {} took {took:?} after the last fault", device.id);
                    self.late.lock().unwrap().push(late);
                }
                self.record.write(What::Done { device: device.id.clone() });
                self.ended.lock().unwrap().insert(device.id.clone(), true);
                count(&self.record.tally.provisioned);
                return;
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    /// Chats and a main for everybody, before anything goes wrong.
    pub async fn gather(self: &Arc<Self>, random: &mut StdRng) -> Option<()> {
        for user in 0..self.users.len() {
            self.registers(user, true, uuid(random)).await?;
        }
        for owner in 0..2 {
            self.group(owner, random).await?;
        }
        for (a, b) in [(0, 1), (1, 2)] {
            let id = uuid(random);
            let body = json!({ "kind": "direct", "id": id, "with": self.users[b].0 });
            self.joins(&[a, b], &id, a, "/v1/chats", body).await?;
        }
        self.registers(0, false, uuid(random)).await?;
        self.registers(1, false, uuid(random)).await?;
        Some(())
    }

    /// A group of everybody.
    pub async fn group(&self, owner: usize, random: &mut StdRng) -> Option<()> {
        let id = uuid(random);
        let body = json!({ "kind": "group", "id": id, "name": format!("group {id}"), "public": true });
        self.joins(&[owner], &id, owner, "/v1/chats", body).await?;
        for user in (0..self.users.len()).filter(|user| *user != owner) {
            self.joins(&[user], &id, user, &format!("/v1/chats/{id}/join"), json!({})).await?;
        }
        Some(())
    }

    /// A bot says things by HTTP until it is over.
    pub async fn bot(self: Arc<Self>, user: usize, seed: u64) {
        let (mut random, over) = (StdRng::seed_from_u64(seed), self.over.subscribe());
        let (name, token) = self.users[user].clone();
        while !*over.borrow() {
            sleep(Duration::from_millis(random.random_range(20..150))).await;
            let chats: Vec<String> =
                self.chats.lock().unwrap().get(&name).into_iter().flatten().cloned().collect();
            let Some(chat) = chats.choose(&mut random) else { continue };
            self.says(&name, &token, chat, &mut random).await;
        }
    }

    async fn says(&self, user: &str, token: &str, chat: &str, random: &mut StdRng) {
        let key = uuid(random);
        let content = "y".repeat(random.random_range(1..300));
        let body = json!({ "key": key, "kind": "text", "content": content });
        let path = format!("/v1/chats/{chat}/messages");
        // It gives up some time: its outcome is unknown then.
        for _ in 0..20 {
            let (of, to) = (user.to_owned(), chat.to_owned());
            self.record.write(What::Sending { user: of, device: None, chat: to.clone(), key: key.clone() });
            match self.once(random.random_range(0..60), token, "POST", &path, &body).await {
                Some((200, answer)) => {
                    let seq = answer["seq"].as_u64().unwrap_or_default();
                    self.record.write(What::Sent { chat: to, key, seq });
                    return;
                }
                Some((503, _)) => count(&self.record.tally.unavailable),
                Some((429, _)) => {}
                Some((_, answer)) => {
                    let code = answer["code"].as_str().unwrap_or_default().to_owned();
                    self.record.write(What::Refused { chat: to, key, code });
                    return;
                }
                None => count(&self.record.tally.unknown),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Nobody comes or goes or speaks any more; whoever lives is connected and behaves.
    pub fn settle(&self) {
        self.over.send_replace(true);
        self.devices.lock().unwrap().iter().for_each(|device| settled(device));
    }

    /// Everybody goes for good.
    pub async fn go(&self) {
        for device in self.devices.lock().unwrap().iter() {
            device.told(|orders| orders.over = true);
        }
        let mut lives = std::mem::take(&mut *self.lives.lock().unwrap());
        while lives.join_next().await.is_some() {}
    }
}

fn settled(device: &Device) {
    device.told(|orders| {
        (orders.online, orders.talks, orders.acks, orders.reads) = (true, false, true, true);
    });
}
