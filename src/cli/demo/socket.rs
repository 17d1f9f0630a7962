//! One line of a device: the task that owns the socket, hears every frame, and answers what has to be answered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    PATIENCE,
    cast::Role,
    device::{Order, Shared},
    memory::{number, text},
};

/// When each message was sent, by its key: all devices of the demo are in this process, so one clock serves them all.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Mutex<HashMap<String, Instant>>>);

impl Clock {
    /// Notes that a message goes out now.
    pub fn note(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), Instant::now());
    }

    fn sent(&self, frame: &Value) -> Option<Instant> {
        let key = frame.get("key").and_then(Value::as_str)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

/// 1006: it ended without a close frame.
const ABNORMAL: u16 = 1006;
/// 1005: a close frame without a code.
const NO_CODE: u16 = 1005;

struct Hearing {
    shared: Arc<Shared>,
    role: Role,
    line: u64,
    clock: Clock,
    // The next seq of each chat on this line: cursor + 1, and then one after the other.
    next: HashMap<String, u64>,
}

/// Serves a socket to its end, whichever side ends it.
pub(super) async fn serve(
    mut socket: WebSocketStream<TcpStream>,
    mut orders: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
    role: Role,
    line: u64,
    clock: Clock,
) {
    let mut hearing = Hearing { shared: shared.clone(), role, line, clock, next: HashMap::new() };
    let mut led = true;
    let end = loop {
        let heard = tokio::select! {
            order = orders.recv(), if led => match order {
                Some(Order::Say(text)) => vec![text],
                Some(Order::Cut) => break (ABNORMAL, "cut here".to_owned()),
                // A line that is given up for a newer one stays open: ending it is the server's part.
                None => {
                    led = false;
                    continue;
                }
                Some(Order::HangUp) => break hang_up(&mut socket).await,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => hearing.hear(text.as_str()),
                Some(Ok(Message::Close(Some(frame)))) => break (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None))) => break (NO_CODE, String::new()),
                // Pings are answered by the library when it is read on.
                Some(Ok(_)) => continue,
                Some(Err(error)) => break (ABNORMAL, error.to_string()),
                None => break (ABNORMAL, "the connection ended".to_owned()),
            },
        };
        let saying = async {
            for text in heard {
                socket.feed(Message::text(text)).await?;
            }
            socket.flush().await
        };
        match timeout(PATIENCE, saying).await {
            Ok(Ok(())) => {}
            // The server may have closed while we spoke; its close frame may still be there to be read.
            Ok(Err(error)) => break last_words(&mut socket).await.unwrap_or((ABNORMAL, error.to_string())),
            Err(_) => break (ABNORMAL, "the server doesn't take anything".to_owned()),
        }
    };
    shared.change(|memory| memory.close(line, end.0, end.1));
    // So that the server's side ends too; a cut line just goes.
    if end.0 != ABNORMAL {
        let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
    }
}

async fn hang_up(socket: &mut WebSocketStream<TcpStream>) -> (u16, String) {
    let _ = timeout(PATIENCE, socket.close(None)).await;
    last_words(socket).await.unwrap_or((NO_CODE, String::new()))
}

async fn last_words(socket: &mut WebSocketStream<TcpStream>) -> Option<(u16, String)> {
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                return Some((frame.code.into(), frame.reason.to_string()));
            }
        }
        None
    };
    timeout(Duration::from_secs(1), reading).await.ok().flatten()
}

impl Hearing {
    /// What is to be said to that.
    fn hear(&mut self, frame: &str) -> Vec<String> {
        let Ok(value) = serde_json::from_str::<Value>(frame) else {
            self.fault(format!("a frame that isn't JSON: {}", frame.chars().take(60).collect::<String>()));
            return Vec::new();
        };
        match value.get("type").and_then(Value::as_str).unwrap_or_default() {
            "welcome" => self.welcome(value),
            "message" => return self.message(value),
            "reply" => self.reply(&value),
            "read" => {
                if let (Some(chat), Some(seq)) = (text(&value, "chat"), number(&value, "seq")) {
                    self.shared.change(|memory| memory.read_moved(&chat, seq));
                }
            }
            "chat" => {
                let entry = value.get("entry");
                if let Some((chat, cursor)) =
                    entry.and_then(|entry| text(entry, "id").zip(number(entry, "cursor")))
                {
                    self.next.insert(chat, cursor + 1);
                }
            }
            "device" => {
                if let (Some(event), Some(device)) = (text(&value, "event"), text(&value, "device")) {
                    self.shared.change(|memory| memory.event(event, device));
                }
            }
            "history_request" => return vec![self.lend(&value)],
            "gap" | "error" => self.fault(frame.chars().take(200).collect()),
            // The contract may grow; what isn't known is passed over.
            _ => {}
        }
        Vec::new()
    }

    fn welcome(&mut self, value: Value) {
        if !self.next.is_empty() {
            self.fault("a second welcome on the same line".to_owned());
        }
        for entry in value.get("chats").and_then(Value::as_array).into_iter().flatten() {
            if let Some((chat, cursor)) = text(entry, "id").zip(number(entry, "cursor")) {
                self.next.insert(chat, cursor + 1);
            }
        }
        let line = self.line;
        self.shared.change(|memory| memory.welcomed(line, value));
    }

    fn message(&mut self, value: Value) -> Vec<String> {
        let Some((chat, seq)) = text(&value, "chat").zip(number(&value, "seq")) else {
            self.fault("a message without chat or seq".to_owned());
            return Vec::new();
        };
        let due = self.next.insert(chat.clone(), seq + 1);
        if due != Some(seq) {
            self.fault(format!(
                "#{seq} came where {} was due",
                due.map_or("nothing".to_owned(), |due| format!("#{due}"))
            ));
        }
        let (line, sent) = (self.line, self.clock.sent(&value));
        let hold = self.shared.change(|memory| {
            memory.arrived(line, &chat, seq, value, sent);
            memory.hold_acks
        });
        if hold { Vec::new() } else { vec![json!({"type": "ack", "chat": chat, "seq": seq}).to_string()] }
    }

    fn reply(&mut self, value: &Value) {
        let Some(id) = number(value, "id") else { return self.fault("a reply without its id".to_owned()) };
        let answer = match (value.get("ok"), value.get("error")) {
            (Some(ok), None) => Ok(ok.clone()),
            (None, Some(error)) => {
                let said = |name: &str| text(error, name).unwrap_or_default();
                Err(format!("{} ({})", said("code"), said("message")))
            }
            _ => return self.fault(format!("a reply to {id} that isn't exactly one of ok and error")),
        };
        self.shared.change(|memory| memory.replied(id, answer));
    }

    /// A phone lends its past.
    fn lend(&mut self, value: &Value) -> String {
        let request = text(value, "request").unwrap_or_default();
        let asked = text(value, "chat").zip(number(value, "before")).zip(number(value, "limit"));
        let Some(((chat, before), limit)) = asked else {
            self.fault("a history_request that lacks something".to_owned());
            return json!({"type": "history_error", "request": request, "code": "unavailable"}).to_string();
        };
        if !self.role.is_main() {
            self.fault("a history_request to a web session".to_owned());
        }
        let memory = self.shared.memory();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (messages, more) = memory.chat(&chat).map(|copy| copy.page(before, limit)).unwrap_or_default();
        json!({"type": "history_page", "request": request, "messages": messages, "more": more}).to_string()
    }

    fn fault(&self, text: String) {
        self.shared.change(|memory| memory.faults.push(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_that_is_not_the_next_one_is_seen() {
        let shared = Arc::new(Shared::default());
        let clock = Clock::default();
        let mut hearing =
            Hearing { shared: shared.clone(), role: Role::BobPhone, line: 1, clock, next: HashMap::new() };
        let welcome = json!({"type": "welcome", "chats": [{"id": "c", "cursor": 4, "read": 0}]});
        assert!(hearing.hear(&welcome.to_string()).is_empty());
        let mut come =
            |seq: u64| hearing.hear(&json!({"type": "message", "chat": "c", "seq": seq}).to_string());
        assert_eq!(come(5), [r#"{"chat":"c","seq":5,"type":"ack"}"#]);
        assert!(shared.memory().faults.is_empty());
        come(7);
        come(7);
        assert_eq!(shared.memory().faults, ["#7 came where #6 was due", "#7 came where #8 was due"]);
    }
}
