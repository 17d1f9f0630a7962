//! The users of a run: their chats and devices, changes during faults, and the bots. Most calls are repeated, on any
//! edge and with the same ids, until their outcome is known; some callers give up.

mod bots;
mod calls;
mod coming;

pub use calls::Tries;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{in_seconds, sign};
use crate::device::{Device, Surroundings, uuid};
use crate::plan::{Log, Plan};
use crate::record::Recorder;
use crate::support::JWT_SECRET;

/// What is known of the end of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody is at it.
    UnderWay,
    /// It is done.
    Done,
    /// Who asked for it has given up: perhaps it comes, perhaps it doesn't.
    Unknown,
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
    around: Arc<Surroundings>,
    /// All devices that were ever registered.
    devices: Mutex<Vec<Arc<Device>>>,
    /// By user: the chats that they are in.
    chats: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Groups, each with who owns it.
    groups: Mutex<BTreeMap<String, usize>>,
    /// Devices that are being ended or have ended.
    ended: Mutex<BTreeMap<String, Ending>>,
    /// Ends that took longer than promised.
    pub late: Mutex<Vec<String>>,
    lives: Mutex<JoinSet<()>>,
    seed: u64,
    log: Log,
    over: watch::Sender<bool>,
}

/// Groups that are made at the same time.
const AT_ONCE: usize = 4;

/// A token that is good also when an edge's clock is weeks ahead.
pub fn long_lived_token(user: &str) -> String {
    sign(&json!({ "sub": user, "exp": in_seconds(40 * 86_400) }), JWT_SECRET)
}

/// The same for `/admin`.
fn admin_token() -> String {
    sign(&json!({ "sub": "root", "exp": in_seconds(40 * 86_400), "admin": true }), JWT_SECRET)
}

impl People {
    /// Users without anything.
    pub fn new(around: Surroundings, plan: &Plan) -> Arc<People> {
        let users = ["alice", "bob", "carol", "dave"].iter().take(plan.users);
        let users = users.map(|name| ((*name).to_owned(), long_lived_token(name))).collect();
        Arc::new(People {
            record: around.record.clone(),
            edges: around.edges.clone(),
            users,
            around: Arc::new(around),
            devices: Mutex::default(),
            chats: Mutex::default(),
            groups: Mutex::default(),
            ended: Mutex::default(),
            late: Mutex::default(),
            lives: Mutex::default(),
            seed: plan.seed,
            log: plan.log,
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

    /// The devices whose end is as far as that.
    pub fn ends(&self, how: Ending) -> Vec<String> {
        let ended = self.ended.lock().unwrap();
        ended.iter().filter(|(_, is)| **is == how).map(|(id, _)| id.clone()).collect()
    }

    /// By user: the chats that they are in.
    pub fn memberships(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.chats.lock().unwrap().clone()
    }

    /// All chats that somebody is in.
    pub fn all_chats(&self) -> BTreeSet<String> {
        self.chats.lock().unwrap().values().flatten().cloned().collect()
    }

    /// Chats and a main for everybody, before anything goes wrong.
    pub async fn gather(self: &Arc<Self>, groups: usize, random: &mut StdRng) -> Option<()> {
        for user in 0..self.users.len() {
            self.registers(user, true, uuid(random), Tries::UntilSure).await?;
        }
        let ids: Vec<String> = (0..groups).map(|_| uuid(random)).collect();
        for ids in ids.chunks(AT_ONCE) {
            let made = ids.iter().enumerate().map(|(owner, id)| self.group(owner % 2, id));
            join_all(made).await.into_iter().collect::<Option<Vec<()>>>()?;
        }
        for (a, b) in [(0, 1), (1, 2)] {
            let id = uuid(random);
            let body = json!({ "kind": "direct", "id": id, "with": self.users[b].0 });
            self.joins(&[a, b], &id, a, "/v1/chats", body, Tries::UntilSure).await?;
        }
        self.registers(0, false, uuid(random), Tries::UntilSure).await?;
        self.registers(1, false, uuid(random), Tries::UntilSure).await?;
        Some(())
    }

    /// A group of everybody.
    pub async fn group(&self, owner: usize, id: &str) -> Option<()> {
        let body = json!({ "kind": "group", "id": id, "name": format!("group {id}"), "public": true });
        self.joins(&[owner], id, owner, "/v1/chats", body, Tries::UntilSure).await?;
        self.groups.lock().unwrap().insert(id.to_owned(), owner);
        for user in (0..self.users.len()).filter(|user| *user != owner) {
            let path = format!("/v1/chats/{id}/join");
            self.joins(&[user], id, user, &path, json!({}), Tries::UntilSure).await?;
        }
        Some(())
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
