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

/// The known state of a termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is in progress.
    UnderWay,
    /// It is done.
    Done,
    /// Its caller has given up: it may or may not happen.
    Unknown,
}

/// The state that all users of a run share.
#[derive(Debug)]
pub struct People {
    /// The recorder.
    pub record: Arc<Recorder>,
    /// The edges' addresses.
    pub edges: Arc<[String]>,
    /// Users with their tokens.
    pub users: Vec<(String, String)>,
    around: Arc<Surroundings>,
    /// All devices ever registered.
    devices: Mutex<Vec<Arc<Device>>>,
    /// By user: the chats of which they are a member.
    chats: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Groups, with their owners.
    groups: Mutex<BTreeMap<String, usize>>,
    /// Devices that are being terminated, or were.
    ended: Mutex<BTreeMap<String, Ending>>,
    /// Terminations that took too long.
    pub late: Mutex<Vec<String>>,
    lives: Mutex<JoinSet<()>>,
    seed: u64,
    log: Log,
    over: watch::Sender<bool>,
}

/// Groups that are created at the same time.
const AT_ONCE: usize = 4;

/// Returns a user token that is valid even when an edge's clock is weeks ahead.
pub fn long_lived_token(user: &str) -> String {
    sign(&json!({ "sub": user, "exp": in_seconds(40 * 86_400) }), JWT_SECRET)
}

/// The same for `/admin`.
fn admin_token() -> String {
    sign(&json!({ "sub": "root", "exp": in_seconds(40 * 86_400), "admin": true }), JWT_SECRET)
}

impl People {
    /// Returns users without devices and chats.
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

    /// Returns all devices whose termination hasn't begun.
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

    /// Returns the devices whose termination is in this state.
    pub fn ends(&self, how: Ending) -> Vec<String> {
        let ended = self.ended.lock().unwrap();
        ended.iter().filter(|(_, is)| **is == how).map(|(id, _)| id.clone()).collect()
    }

    /// Returns each user's chats.
    pub fn memberships(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.chats.lock().unwrap().clone()
    }

    /// Returns all chats with members.
    pub fn all_chats(&self) -> BTreeSet<String> {
        self.chats.lock().unwrap().values().flatten().cloned().collect()
    }

    /// Creates chats, and a main for every user, before the first fault.
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

    /// Creates a group of all users.
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

    /// Stops all changes and sends; connects all active devices, with normal behaviour.
    pub fn settle(&self) {
        self.over.send_replace(true);
        self.devices.lock().unwrap().iter().for_each(|device| settled(device));
    }

    /// Disconnects everybody for good.
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
