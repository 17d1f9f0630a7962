//! HTTP calls that register, join, leave and terminate. Each records when it was made and, if that is known, when it
//! took effect.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{Ending, People, admin_token, settled};
use crate::client::raw_http;
use crate::device::{Device, Life};
use crate::history::What;
use crate::record::count;

/// An answer of known outcome, or none.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Value,
    /// Whether an earlier attempt of the same call has an unknown outcome.
    pub again: bool,
}

/// How often a call is attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Until its outcome is known.
    UntilSure,
    /// Once: the caller gives up after "unavailable" or no answer.
    Once,
}

/// How long a call is repeated before it counts as failed.
const NEVER: Duration = Duration::from_secs(60);

/// How long a termination may take once no fault is in its way.
const DONE: Duration = Duration::from_secs(30);

impl People {
    /// Repeats a call until its outcome is known. None: the time is over.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Option<Answer> {
        self.tries(Tries::UntilSure, token, method, path, body).await
    }

    /// The same, or once. None: the outcome is unknown.
    async fn tries(
        &self,
        tries: Tries,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<Answer> {
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
            if tries == Tries::Once {
                count(&self.record.tally.given_up);
                return None;
            }
            sleep(Duration::from_millis(100)).await;
        }
        None
    }

    /// Makes one attempt on one edge.
    pub(super) async fn once(
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
        let patience = self.around.patience + Duration::from_secs(1);
        let answer = timeout(patience, raw_http(edge, request.as_bytes())).await.ok()?.ok()?;
        Some((answer.status, answer.body))
    }

    /// Registers a device and starts it.
    pub async fn registers(
        self: &Arc<Self>,
        user: usize,
        main: bool,
        id: String,
        tries: Tries,
    ) -> Option<Arc<Device>> {
        let (name, token) = &self.users[user];
        let kind = if main { "main" } else { "sub" };
        self.record.write(What::Registering { user: name.clone(), device: id.clone(), main });
        let body = json!({ "kind": kind, "name": kind, "platform": "chaos", "id": id });
        let answer = self.tries(tries, token, "POST", "/v1/devices", &body).await?;
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
        let life = Life::new(device.clone(), self.around.clone(), seed);
        self.lives.lock().unwrap().spawn(life.live());
        Some(device)
    }

    /// Makes a call that adds users to a chat if it succeeds. Returns whether the outcome was known at once.
    pub async fn joins(
        &self,
        who: &[usize],
        chat: &str,
        by: usize,
        path: &str,
        body: Value,
        tries: Tries,
    ) -> Option<bool> {
        for user in who {
            let user = self.users[*user].0.clone();
            self.record.write(What::Joining { user, chat: chat.to_owned() });
        }
        let answer = self.tries(tries, &self.users[by].1, "POST", path, &body).await?;
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

    /// Makes a user leave, or another user remove them. Returns whether the outcome was known at once.
    pub(super) async fn leaves(&self, user: usize, chat: &str, by: usize, tries: Tries) -> Option<bool> {
        let (name, token) = (self.users[user].0.clone(), &self.users[by].1);
        if let Some(chats) = self.chats.lock().unwrap().get_mut(&name) {
            chats.remove(chat);
        }
        self.record.write(What::Leaving { user: name.clone(), chat: chat.to_owned() });
        let (method, path, body) = if by == user {
            ("POST", format!("/v1/chats/{chat}/leave"), json!({}))
        } else {
            ("DELETE", format!("/v1/chats/{chat}/members/{name}"), Value::Null)
        };
        let answer = self.tries(tries, token, method, &path, &body).await?;
        if answer.status == 200 || (answer.status == 404 && answer.again) {
            self.record.write(What::Left { user: name, chat: chat.to_owned(), head: None });
            count(&self.record.tally.provisioned);
        } else {
            eprintln!("!! {method} {path}: {} {}", answer.status, answer.body);
        }
        Some(!answer.again)
    }

    /// Terminates a device, as its user, its user's main, itself or an admin, and waits until it is done.
    pub(super) async fn ends_device(&self, device: &Arc<Device>, by: usize, tries: Tries) {
        let is = |how| {
            self.ended.lock().unwrap().insert(device.id.clone(), how);
        };
        is(Ending::UnderWay);
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
        let Some(answer) = self.tries(tries, &token, "DELETE", &path, &Value::Null).await else {
            if tries == Tries::Once {
                is(Ending::Unknown);
            }
            return;
        };
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
                is(Ending::Done);
                count(&self.record.tally.provisioned);
                return;
            }
            sleep(Duration::from_millis(150)).await;
        }
    }

    /// Returns the devices of unknown state that are under termination according to the server.
    pub async fn half_ended(&self) -> Vec<String> {
        let unknown = self.ends(Ending::Unknown);
        let mut half = Vec::new();
        for (user, _) in self.users.iter().filter(|_| !unknown.is_empty()) {
            let path = format!("/admin/v1/users/{user}/devices?limit=1000");
            let Some(answer) = self.call(&admin_token(), "GET", &path, &Value::Null).await else { continue };
            for device in answer.body["items"].as_array().into_iter().flatten() {
                let id = device["id"].as_str().unwrap_or_default();
                if unknown.iter().any(|unknown| unknown == id) && device["state"] == "terminating" {
                    half.push(id.to_owned());
                }
            }
        }
        half
    }
}
