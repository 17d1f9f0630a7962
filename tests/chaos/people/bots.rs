//! Bots that send over HTTP, sometimes very many messages at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::sleep;

use super::People;
use crate::device::{GIVEN_UP, favourite, uuid};
use crate::history::What;
use crate::plan::Log;
use crate::record::count;

/// More messages than a short log keeps. The log keeps at most four times as many unconfirmed ones, and a run may lose
/// none here; so no bot sends as many while an nsqd is down.
const MANY: usize = 144;

/// How many of them at the same time.
const AT_ONCE: usize = 16;

impl People {
    /// Runs a bot, which sends over HTTP until the end.
    pub async fn bot(self: Arc<Self>, user: usize, seed: u64) {
        let (mut random, over) = (StdRng::seed_from_u64(seed), self.over.subscribe());
        let (name, token) = self.users[user].clone();
        while !*over.borrow() {
            sleep(Duration::from_millis(random.random_range(20..150))).await;
            let chats: Vec<String> =
                self.chats.lock().unwrap().get(&name).into_iter().flatten().cloned().collect();
            let Some(chat) = favourite(&chats, &mut random) else { continue };
            if self.log == Log::Short && random.random_ratio(1, 60) && !self.record.tally.nsqd_away() {
                self.says_much(&name, &token, chat, &mut random).await;
            } else {
                self.says(&name, &token, chat, &mut random).await;
            }
        }
    }

    /// With a short log, one bot has just sent more than the log keeps, so that only the queues have the messages.
    pub async fn has_said_much(&self, seed: u64) {
        if self.log == Log::Long {
            return;
        }
        let (mut random, (name, token)) = (StdRng::seed_from_u64(seed), &self.users[0]);
        let chats: Vec<String> =
            self.chats.lock().unwrap().get(name).into_iter().flatten().cloned().collect();
        if let Some(chat) = favourite(&chats, &mut random) {
            self.says_much(name, token, chat, &mut random).await;
        }
    }

    /// Sends so much that the log has dropped the first message before a slow device has the last.
    async fn says_much(&self, user: &str, token: &str, chat: &str, random: &mut StdRng) {
        for _ in 0..MANY / AT_ONCE {
            let mut speakers: Vec<StdRng> =
                (0..AT_ONCE).map(|_| StdRng::seed_from_u64(random.random())).collect();
            join_all(speakers.iter_mut().map(|random| self.says(user, token, chat, random))).await;
        }
    }

    async fn says(&self, user: &str, token: &str, chat: &str, random: &mut StdRng) {
        let key = uuid(random);
        let content = "y".repeat(random.random_range(1..300));
        let body = json!({ "key": key, "kind": "text", "content": content });
        let path = format!("/v1/chats/{chat}/messages");
        // It gives up some time, or at once: its outcome is unknown then.
        let tries = if random.random_ratio(1, GIVEN_UP) { 1 } else { 20 };
        for _ in 0..tries {
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
}
