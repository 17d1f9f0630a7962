//! One account at full tilt: every call and every frame, from as many devices as it may have, as fast as it is served.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::client::user_token;
use super::flood::Flood;
use super::wire::{BINARY, PING, TEXT, call, connect, frame, upgrade};

/// Who it is.
const USER: &str = "flood-0";
/// Connections that make calls.
const CALLERS: usize = 24;
/// Chats that it goes on in.
const CHATS: usize = 64;

impl Flood {
    /// See the module.
    pub async fn tilt(self: Arc<Self>) {
        let devices = Arc::new(self.account(USER).await);
        let chats = Arc::new(Mutex::new(vec![self.chat(USER, "nobody").await]));
        let (tokens, rooms) = (devices.clone(), chats.clone());
        self.many(devices.len(), move |flood, n| {
            let (token, chats) = (tokens[n].clone(), rooms.clone());
            async move {
                sleep(Duration::from_millis(if n == 0 { 0 } else { 300 })).await;
                let (stream, status) = upgrade(flood.edge, &token).await?;
                if status != 101 {
                    return Err(std::io::Error::other("refused"));
                }
                let (mut input, mut output) = stream.into_split();
                let read = async {
                    let mut bytes = vec![0; 64 << 10];
                    while input.read(&mut bytes).await? > 0 {}
                    Ok(())
                };
                let write = async {
                    for id in 0..2_000u64 {
                        let chat = one_of(&chats);
                        output.write_all(&said(id, &chat)).await?;
                        flood.did.done.fetch_add(1, Relaxed);
                    }
                    Ok(())
                };
                tokio::select! {
                    end = read => end,
                    end = write => end,
                }
            }
        });
        self.many(CALLERS, move |flood, n| {
            let (devices, chats) = (devices.clone(), chats.clone());
            async move {
                let mut stream = connect(flood.edge).await?;
                loop {
                    let chat = one_of(&chats);
                    let (method, path, body) = asked(&chat);
                    // Some calls are a user's, some a device's.
                    let token =
                        if n % 2 == 0 { user_token(USER) } else { devices[n % devices.len()].clone() };
                    let (status, answer) =
                        call(&mut stream, flood.edge, (method, &path, &token), &body).await?;
                    flood.count(status);
                    let Some(id) = answer["id"].as_str().filter(|_| status < 400 && method == "POST") else {
                        continue;
                    };
                    match path.as_str() {
                        "/v1/chats" => {
                            let mut chats = chats.lock().expect("whole");
                            if chats.len() == CHATS {
                                let old = rand::rng().random_range(0..CHATS);
                                chats.swap_remove(old);
                            }
                            chats.push(id.to_owned());
                        }
                        "/v1/devices" => {
                            let end = format!("/v1/devices/{id}");
                            let (status, _) =
                                call(&mut stream, flood.edge, ("DELETE", &end, &token), "").await?;
                            flood.count(status);
                        }
                        _ => {}
                    }
                }
            }
        });
    }
}

/// Any of these chats.
fn one_of(chats: &Mutex<Vec<String>>) -> String {
    chats.lock().expect("whole").choose(&mut rand::rng()).cloned().unwrap_or_default()
}

/// One frame of a device.
fn said(id: u64, chat: &str) -> Vec<u8> {
    let mut chance = rand::rng();
    let text = |size: usize| "x".repeat(size);
    let said = match chance.random_range(0..14) {
        0..4 => {
            let size = *[20, 200, 2_000, 60_000].choose(&mut chance).unwrap_or(&20);
            json!({ "type": "send", "id": id, "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text", "content": text(size) })
        }
        4 => json!({ "type": "ack", "chat": chat, "seq": chance.random_range(1..1_000) }),
        5 => json!({ "type": "read", "id": id, "chat": chat, "seq": chance.random_range(1..1_000) }),
        6 => json!({ "type": "history", "id": id, "chat": chat, "limit": 100 }),
        7 => json!({ "type": "typing", "chat": chat }),
        8 => json!({ "type": "watch", "id": id, "users": [stranger(), stranger(), stranger()] }),
        9 => {
            json!({ "type": "history_page", "request": "none", "messages": vec![text(1_000); 50], "more": false })
        }
        10 => json!({ "type": "ready" }),
        11 => Value::from(text(1_000)),
        12 => return frame(PING, &[b'x'; 125]),
        _ => return frame(BINARY, &[0; 1_000]),
    };
    frame(TEXT, said.to_string().as_bytes())
}

/// One call: its method, path and body.
fn asked(chat: &str) -> (&'static str, String, String) {
    let mut chance = rand::rng();
    let of = |rest: &str| format!("/v1/chats/{chat}{rest}");
    let (method, path, body) = match chance.random_range(0..22) {
        0 => ("POST", "/v1/chats".to_owned(), json!({ "kind": "direct", "with": stranger() })),
        1 => (
            "POST",
            "/v1/chats".to_owned(),
            json!({ "kind": "group", "name": uuid::Uuid::new_v4(), "public": true }),
        ),
        2 => (
            "POST",
            "/v1/chats".to_owned(),
            json!({ "kind": "group", "name": uuid::Uuid::new_v4(), "password": "a password" }),
        ),
        3 => (
            "POST",
            "/v1/chats".to_owned(),
            json!({ "kind": "group", "name": "many", "members": (0..50).map(|_| stranger()).collect::<Vec<_>>() }),
        ),
        4 => ("POST", of("/leave"), json!({})),
        5 => ("POST", of("/members"), json!({ "user": stranger() })),
        6 => ("DELETE", of(&format!("/members/{}", stranger())), Value::Null),
        7 => ("POST", "/v1/chats/join".to_owned(), json!({ "name": stranger(), "password": "a guess" })),
        8 => ("POST", of("/join"), json!({ "password": "a guess" })),
        9..12 => {
            let content = "x".repeat(60_000);
            let message = json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": content });
            ("POST", of("/messages"), message)
        }
        12 => ("GET", of("/messages?limit=100"), Value::Null),
        13 => ("GET", "/v1/chats?limit=100".to_owned(), Value::Null),
        14 => {
            ("POST", "/v1/devices".to_owned(), json!({ "kind": "sub", "name": "flood", "platform": "abuse" }))
        }
        15 => ("GET", "/v1/devices".to_owned(), Value::Null),
        16 => ("POST", "/v1/links".to_owned(), json!({ "name": "flood", "platform": "abuse" })),
        17 => ("GET", format!("/v1/links/{}?wait=1", stranger()), Value::Null),
        18 => ("PUT", format!("/v1/blocks/{}", stranger()), Value::Null),
        19 => ("GET", "/v1/blocks".to_owned(), Value::Null),
        20 => ("GET", "/v1/invitations".to_owned(), Value::Null),
        _ => ("GET", "/v1/offsets".to_owned(), Value::Null),
    };
    (method, path, if body.is_null() { String::new() } else { body.to_string() })
}

fn stranger() -> String {
    format!("stranger-{}", rand::rng().random_range(0..1_000_000))
}
