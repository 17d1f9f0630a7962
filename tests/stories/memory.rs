//! A device's state: its copy of the chats, and the frames from its socket. It checks the contract's rules of delivery
//! frame by frame, without I/O.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::client::Came;
use crate::support::schemas;

/// A chat on the device.
#[derive(Debug, Default)]
pub struct Chat {
    /// Messages above it are delivered live.
    pub from: u64,
    /// The cursor in the last `welcome` or `chat joined`.
    pub cursor: u64,
    /// The read offset, as far as known.
    pub read: u64,
    /// The read offset in the last frame about it.
    told: u64,
    /// The last seq on this socket; at first the cursor.
    pub last: u64,
    /// The highest acknowledgement confirmed by the server.
    pub confirmed: u64,
    /// All live messages ever received.
    pub messages: BTreeMap<u64, Value>,
    /// The seqs in the order of this socket.
    pub arrived: Vec<u64>,
    /// The ranges reported as gaps, on any socket.
    pub gaps: Vec<(u64, u64)>,
}

impl Chat {
    /// Returns the contents of a range of messages.
    pub fn contents(&self, seqs: std::ops::RangeInclusive<u64>) -> Vec<&str> {
        self.messages
            .range(seqs)
            .map(|(_, message)| message["content"].as_str().unwrap_or_default())
            .collect()
    }
}

/// How a phone answers a `history_request`.
#[derive(Clone, Copy, Debug)]
pub enum Phone {
    /// With its stored messages.
    Honestly,
    /// Not at all: the request stays in the inbox.
    Never,
    /// With the frames that this makes of the request and the correct answer.
    With(fn(&Value, Value) -> Vec<Value>),
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    id: String,
    /// The first frame of this socket; null before it.
    pub welcome: Value,
    /// Frames other than messages and replies, in order, until a story takes them.
    pub inbox: Vec<Value>,
    /// How the server closed this socket.
    pub closed: Option<(u16, String)>,
    /// Whether this socket ended without a close frame.
    pub lost: bool,
    /// Violations of the contract.
    pub faults: Vec<String>,
    /// Whether it acknowledges automatically.
    pub acking: bool,
    /// How it answers history requests.
    pub phone: Phone,
    /// Whether the servers have lost data: gaps may come, and cursors and offsets may have decreased.
    pub expects_loss: bool,
    /// Whether replies that nobody waits for are dropped instead of being faults.
    pub deaf: bool,
    chats: BTreeMap<String, Chat>,
    asked: u64,
    replies: HashMap<u64, Option<Value>>,
    // The chats of `read` frames that aren't answered yet.
    reads: HashMap<u64, String>,
}

impl Memory {
    /// Returns the state of a device that has never been connected.
    pub fn new(id: &str) -> Memory {
        Memory {
            id: id.to_owned(),
            welcome: Value::Null,
            inbox: Vec::new(),
            closed: None,
            lost: false,
            faults: Vec::new(),
            acking: true,
            phone: Phone::Honestly,
            expects_loss: false,
            deaf: false,
            chats: BTreeMap::new(),
            asked: 0,
            replies: HashMap::new(),
            reads: HashMap::new(),
        }
    }

    /// Begins a new socket: drops the state of the old one, keeps the copy of the chats.
    pub fn begins(&mut self) {
        (self.welcome, self.closed, self.lost) = (Value::Null, None, false);
        self.inbox.clear();
        self.replies.clear();
        self.reads.clear();
    }

    /// Returns a chat of the device, if it is in it.
    pub fn chat(&self, chat: &str) -> Option<&Chat> {
        self.chats.get(chat)
    }

    /// Returns a chat that the device must be in.
    #[track_caller]
    pub fn chat_mut(&mut self, chat: &str) -> &mut Chat {
        self.chats.get_mut(chat).unwrap_or_else(|| panic!("the device doesn't know {chat}"))
    }

    /// Returns a new id for a frame.
    pub fn ask(&mut self, frame: &Value) -> u64 {
        self.asked += 1;
        self.replies.insert(self.asked, None);
        if let ("read", Some(chat)) = (frame["type"].as_str().unwrap_or_default(), frame["chat"].as_str()) {
            self.reads.insert(self.asked, chat.to_owned());
        }
        self.asked
    }

    /// Takes the reply to a frame.
    pub fn reply(&mut self, id: u64) -> Option<Result<Value, Value>> {
        let reply = self.replies.get(&id)?.clone()?;
        self.replies.remove(&id);
        Some(match (reply.get("ok"), reply.get("error")) {
            (Some(ok), None) => Ok(ok.clone()),
            (None, Some(error)) => Err(error.clone()),
            _ => panic!("a reply has exactly one of ok and error: {reply}"),
        })
    }

    /// Takes the first frame with these fields out of the inbox.
    pub fn take(&mut self, fields: &Value) -> Option<Value> {
        let wanted = fields.as_object().expect("fields are an object");
        let at =
            self.inbox.iter().position(|frame| wanted.iter().all(|(name, value)| frame[name] == *value))?;
        Some(self.inbox.remove(at))
    }

    /// Handles an input; returns whether the socket is over, and the frames to send.
    pub fn takes(&mut self, came: Came) -> (bool, Vec<Value>) {
        match came {
            Came::Closed(code, reason) => {
                self.faults.extend(schemas::closed(code, &reason).err());
                self.closed = Some((code, reason));
            }
            Came::Lost => self.lost = true,
            Came::Frame(text) => {
                let mut answers = Vec::new();
                if let Err(fault) = self.frame(&text, &mut answers) {
                    self.faults.push(format!("{fault} in {}", text.chars().take(300).collect::<String>()));
                }
                return (false, answers);
            }
        }
        (true, Vec::new())
    }

    fn frame(&mut self, text: &str, answers: &mut Vec<Value>) -> Result<(), String> {
        schemas::frame(text)?;
        let frame: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let kind = frame["type"].as_str().ok_or("a frame without a type")?;
        if self.welcome.is_null() != (kind == "welcome") {
            return Err("welcome comes first, and once".to_owned());
        }
        match kind {
            "welcome" => self.welcomed(frame)?,
            "message" => self.message(text, frame, answers)?,
            "reply" => {
                let id = frame["id"].as_u64();
                if let Some(chat) =
                    id.and_then(|id| self.reads.remove(&id)).and_then(|chat| self.chats.get_mut(&chat))
                {
                    chat.read = chat.read.max(frame["ok"]["seq"].as_u64().unwrap_or_default());
                }
                match id.and_then(|id| self.replies.get_mut(&id)) {
                    Some(slot @ None) => *slot = Some(frame),
                    None if self.deaf => {}
                    _ => return Err("a second reply, or one that nobody asked for".to_owned()),
                }
            }
            "gap" => {
                let number = |name: &str| frame[name].as_u64().unwrap_or_default();
                let (from, to, expected) = (number("from"), number("to"), self.expects_loss);
                let chat = self.known(&frame)?;
                if from != chat.last + 1 || to < from || !expected {
                    return Err(format!("a gap out of order, or unexpected: the last was {}", chat.last));
                }
                chat.gaps.push((from, to));
                chat.last = to;
                self.inbox.push(frame);
            }
            "read" => {
                let (seq, own) = (frame["seq"].as_u64().ok_or("no seq")?, frame["device"] == self.id);
                let chat = self.known(&frame)?;
                // It may say what a reply has said already, but nothing older.
                if own || seq <= chat.told || seq < chat.read {
                    return Err(format!(
                        "an offset that fell or is no news: {} was known, own: {own}",
                        chat.read
                    ));
                }
                (chat.read, chat.told) = (seq, seq);
                self.inbox.push(frame);
            }
            "chat" => {
                match frame["event"].as_str() {
                    Some("joined") => self.entry(&frame["entry"], false)?,
                    Some("left") => {
                        self.chats.remove(frame["chat"].as_str().unwrap_or_default()).ok_or("left twice")?;
                    }
                    _ => {}
                }
                self.inbox.push(frame);
            }
            "history_request" => {
                let honest = self.page(&frame);
                match self.phone {
                    Phone::Honestly => answers.push(honest),
                    Phone::With(make) => answers.extend(make(&frame, honest)),
                    Phone::Never => {}
                }
                self.inbox.push(frame);
            }
            _ => self.inbox.push(frame),
        }
        Ok(())
    }

    fn known(&mut self, frame: &Value) -> Result<&mut Chat, String> {
        let chat = frame["chat"].as_str().unwrap_or_default();
        self.chats.get_mut(chat).ok_or_else(|| "a chat that the device isn't in".to_owned())
    }

    fn welcomed(&mut self, frame: Value) -> Result<(), String> {
        if frame["device"] != self.id || frame["protocol"] != 1 {
            return Err("a welcome for somebody else".to_owned());
        }
        let entries = frame["chats"].as_array().ok_or("no list of chats")?;
        for entry in entries {
            self.entry(entry, true)?;
        }
        // What isn't listed was left while the device was away.
        self.chats.retain(|id, _| entries.iter().any(|entry| entry["id"] == *id));
        self.welcome = frame;
        Ok(())
    }

    fn entry(&mut self, entry: &Value, again: bool) -> Result<(), String> {
        let number = |name: &str| entry[name].as_u64().ok_or_else(|| format!("no {name} in an entry"));
        let (from, cursor, head, read) =
            (number("from")?, number("cursor")?, number("head")?, number("read")?);
        let id = entry["id"].as_str().ok_or("no id in an entry")?;
        if entry.get("name").is_none() || !matches!(entry["kind"].as_str(), Some("direct" | "group")) {
            return Err("an entry has a kind and a name".to_owned());
        }
        if from > cursor || cursor > head || read > head {
            return Err("from <= cursor <= head and read <= head".to_owned());
        }
        let expects_loss = self.expects_loss;
        let chat = self.chats.entry(id.to_owned()).or_default();
        if chat.from == from && again && !expects_loss && (cursor < chat.confirmed || read < chat.read) {
            return Err(format!("cursor {} or read {} went back", chat.confirmed, chat.read));
        }
        (chat.from, chat.cursor, chat.last, chat.read, chat.told) = (from, cursor, cursor, read, read);
        chat.confirmed = cursor;
        chat.arrived.clear();
        Ok(())
    }

    fn message(&mut self, text: &str, frame: Value, answers: &mut Vec<Value>) -> Result<(), String> {
        let id = frame["chat"].as_str().unwrap_or_default().to_owned();
        let seq = frame["seq"].as_u64().ok_or("a seq is an integer")?;
        if !text.starts_with(&format!(r#"{{"type":"message","chat":"{id}","seq":{seq},"#)) {
            return Err("type, chat, seq come first and in this order".to_owned());
        }
        let acking = self.acking;
        let chat = self.known(&frame)?;
        if seq != chat.last + 1 {
            return Err(format!("out of order: the last was {}", chat.last));
        }
        chat.last = seq;
        chat.arrived.push(seq);
        // What wasn't acknowledged may come again, on another socket, and then it is the same.
        if let Some(before) = chat.messages.insert(seq, frame.clone())
            && before != frame
        {
            return Err(format!("another message than before, which was {before}"));
        }
        if acking {
            answers.push(json!({ "type": "ack", "chat": id, "seq": seq }));
        }
        Ok(())
    }

    /// Returns the correct answer to a `history_request`.
    fn page(&self, request: &Value) -> Value {
        let before = request["before"].as_u64().unwrap_or_default();
        let limit =
            request["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default();
        let messages =
            self.chats.get(request["chat"].as_str().unwrap_or_default()).map(|chat| &chat.messages);
        let below: Vec<&Value> =
            messages.map(|all| all.range(..before).map(|(_, one)| one).collect()).unwrap_or_default();
        let page = &below[below.len().saturating_sub(limit)..];
        let more = below.len() > page.len();
        json!({ "type": "history_page", "request": request["request"], "messages": page, "more": more })
    }

    /// Returns the acknowledgements of everything received; acknowledges automatically from now on.
    pub fn resume_acks(&mut self) -> Vec<Value> {
        self.acking = true;
        let behind = self.chats.iter().filter(|(_, chat)| chat.last > chat.cursor);
        behind.map(|(id, chat)| json!({ "type": "ack", "chat": id, "seq": chat.last })).collect()
    }

    /// Returns a summary for whoever reads a failed test.
    pub fn summary(&self) -> Value {
        let chats: Vec<Value> = self
            .chats
            .iter()
            .map(
                |(id, chat)| json!({ "id": id, "from": chat.from, "cursor": chat.cursor, "last": chat.last }),
            )
            .collect();
        json!({ "inbox": self.inbox, "closed": self.closed, "lost": self.lost, "chats": chats, "faults": self.faults })
    }
}
