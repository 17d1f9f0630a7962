//! Changes during faults: members, devices, connections.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{People, Tries};
use crate::device::{Device, Orders, uuid};

impl People {
    /// Makes changes until the end: members, devices, connections.
    pub async fn come_and_go(self: Arc<Self>, seed: u64, members: bool) {
        let (mut random, mut over) = (StdRng::seed_from_u64(seed), self.over.subscribe());
        // Whom an unknown outcome may still move, and who can't come back by themselves.
        let (mut unsure, mut removed) = (BTreeSet::new(), BTreeSet::new());
        let groups: Vec<(String, usize)> =
            self.groups.lock().unwrap().iter().map(|(chat, owner)| (chat.clone(), *owner)).collect();
        while !*over.borrow() {
            let pause = Duration::from_millis(random.random_range(200..1500));
            let _ = timeout(pause, over.wait_for(|over| *over)).await;
            if *over.borrow() {
                return;
            }
            let user = random.random_range(0..self.users.len());
            let living = self.living();
            let subs: Vec<Arc<Device>> = living.iter().filter(|device| !device.main).cloned().collect();
            // Some never ask again when something goes wrong: whatever is half done is then the server's to finish.
            let tries = if random.random_ratio(1, 2) { Tries::Once } else { Tries::UntilSure };
            let what = if members { random.random_range(0..60) } else { random.random_range(60..100) };
            match what {
                0..30 => {
                    let Some((chat, owner)) = groups.choose(&mut random).cloned() else { continue };
                    // The owners stay, so that the chat does.
                    let user = random.random_range(2..self.users.len());
                    let whom = (user, chat.clone());
                    if unsure.contains(&whom) {
                        continue;
                    }
                    let is_in = self
                        .chats
                        .lock()
                        .unwrap()
                        .get(&self.users[user].0)
                        .is_some_and(|chats| chats.contains(&chat));
                    let by_owner = random.random_ratio(1, 2);
                    let sure = if is_in {
                        if by_owner {
                            removed.insert(whom.clone());
                        }
                        self.leaves(user, &chat, if by_owner { owner } else { user }, tries).await
                    } else if by_owner || removed.remove(&whom) {
                        removed.remove(&whom);
                        let body = json!({ "user": self.users[user].0 });
                        let path = format!("/v1/chats/{chat}/members");
                        self.joins(&[user], &chat, owner, &path, body, tries).await
                    } else {
                        let path = format!("/v1/chats/{chat}/join");
                        self.joins(&[user], &chat, user, &path, json!({}), tries).await
                    };
                    if sure != Some(true) {
                        unsure.insert(whom);
                    }
                }
                60..82 => {
                    let theirs = subs.iter().filter(|device| device.user == self.users[user].0).count();
                    if theirs < 3 {
                        self.registers(user, false, uuid(&mut random), tries).await;
                    }
                }
                82..100 if subs.len() > 2 => {
                    let Some(device) = subs.choose(&mut random) else { continue };
                    self.ends_device(device, random.random_range(0..60), tries).await;
                }
                30..42 => {
                    away(living.iter().filter(|device| device.main), &mut random, |orders, on| {
                        orders.online = on
                    })
                    .await
                }
                42..48 => away(living.iter(), &mut random, |orders, on| orders.acks = on).await,
                48..54 => away(living.iter(), &mut random, |orders, on| orders.reads = on).await,
                54..60 => {
                    if let Some(device) = living.choose(&mut random) {
                        device.told(|orders| orders.round += 1);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Changes the behaviour of one device for a while.
async fn away<'a>(
    among: impl Iterator<Item = &'a Arc<Device>>,
    random: &mut StdRng,
    change: impl Fn(&mut Orders, bool),
) {
    let among: Vec<_> = among.collect();
    let Some(device) = among.choose(random) else { return };
    device.told(|orders| change(orders, false));
    // Often longer than the time to acknowledge: then more has been said than a short log keeps.
    let most = if random.random_ratio(1, 3) { 15_000 } else { 4000 };
    sleep(Duration::from_millis(random.random_range(300..most))).await;
    device.told(|orders| change(orders, true));
}
