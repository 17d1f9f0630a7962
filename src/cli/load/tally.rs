//! What is counted, and the report.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use keepstep_client::{ChatId, Message};
use serde_json::{Value, json};

use super::LoadArgs;
use crate::sync::lock;

/// The length of the stamp that each text begins with.
pub(super) const STAMP: usize = 16;

/// Times in microseconds, in buckets of three significant digits.
#[derive(Debug)]
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        // From 1 µs to 10 minutes; these bounds are valid.
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable!("valid bounds")))
    }

    fn add(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn json(&self) -> Value {
        json!({
            "p50": self.at(0.5), "p90": self.at(0.9), "p99": self.at(0.99), "p999": self.at(0.999),
            "max": self.at(1.0), "count": self.0.len(),
        })
    }

    fn text(&self) -> String {
        format!(
            "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
            self.at(0.5),
            self.at(0.9),
            self.at(0.99),
            self.at(0.999),
            self.at(1.0)
        )
    }
}

/// The messages of one chat.
#[derive(Debug, Default)]
struct ChatTally {
    devices: usize,
    // Durable messages; how many devices have each that came, durable or not yet known to be.
    sent: HashSet<u64>,
    got: HashMap<u64, usize>,
}

#[derive(Debug)]
struct State {
    chats: HashMap<ChatId, ChatTally>,
    reply: Times,
    receive: Times,
    sends: u64,
    deliveries: u64,
    // Deliveries of durable messages that are still to come.
    owed: i64,
    repeated: u64,
    gaps: u64,
    disconnects: u64,
    refused: BTreeMap<String, u64>,
    violations: BTreeMap<String, u64>,
}

/// Counts for all devices of a run.
#[derive(Debug)]
pub(super) struct Tally {
    begun: Instant,
    state: Mutex<State>,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    chat: ChatId,
    at: Duration,
}

impl Sent {
    /// The stamp for the beginning of its text.
    pub(super) fn stamp(&self) -> String {
        format!("{:0STAMP$x}", u64::try_from(self.at.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Counts for one device.
#[derive(Debug)]
pub(super) struct DeviceTally {
    tally: Arc<Tally>,
    seen: HashMap<ChatId, HashSet<u64>>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let state = State {
            chats: HashMap::new(),
            reply: Times::new(),
            receive: Times::new(),
            sends: 0,
            deliveries: 0,
            owed: 0,
            repeated: 0,
            gaps: 0,
            disconnects: 0,
            refused: BTreeMap::new(),
            violations: BTreeMap::new(),
        };
        Self { begun: Instant::now(), state: Mutex::new(state) }
    }

    /// A chat whose messages go to so many devices.
    pub(super) fn expects(&self, chat: ChatId, devices: usize) {
        lock(&self.state).chats.entry(chat).or_default().devices = devices;
    }

    pub(super) fn device(self: &Arc<Self>) -> DeviceTally {
        DeviceTally { tally: self.clone(), seen: HashMap::new() }
    }

    /// A message goes out.
    pub(super) fn sends(&self, chat: ChatId) -> Sent {
        Sent { chat, at: self.begun.elapsed() }
    }

    /// It is durable.
    pub(super) fn sent(&self, sent: Sent, seq: u64) {
        let took = self.begun.elapsed().saturating_sub(sent.at);
        let mut state = lock(&self.state);
        state.sends += 1;
        state.reply.add(took);
        let chat = state.chats.entry(sent.chat).or_default();
        let mut owed = 0;
        if chat.sent.insert(seq) {
            owed = chat.devices as i64 - chat.got.get(&seq).copied().unwrap_or(0) as i64;
        }
        state.owed += owed;
    }

    pub(super) fn refused(&self, why: &str) {
        *lock(&self.state).refused.entry(why.to_owned()).or_default() += 1;
    }

    /// Whether durable messages are still on their way.
    pub(super) fn is_waiting(&self) -> bool {
        lock(&self.state).owed > 0
    }

    /// How it stands, in a line.
    pub(super) fn line(&self) -> String {
        let state = lock(&self.state);
        format!(
            "{} sent, {} delivered, p99 {:.1} ms to receive",
            state.sends,
            state.deliveries,
            state.receive.at(0.99)
        )
    }

    /// All that was counted.
    pub(super) fn report(&self, args: &LoadArgs) -> Report {
        let state = lock(&self.state);
        let missing = |chat: &ChatTally| {
            let of = |seq| chat.devices.saturating_sub(chat.got.get(seq).copied().unwrap_or(0)) as u64;
            chat.sent.iter().map(of).sum::<u64>()
        };
        let seconds = args.seconds as f64;
        Report {
            figures: json!({
                "users": args.users,
                "devices": args.users * args.devices,
                "chats": state.chats.len(),
                "seconds": args.seconds,
                "seed": args.seed,
                "sends": state.sends,
                "sends_per_s": state.sends as f64 / seconds,
                "deliveries": state.deliveries,
                "deliveries_per_s": state.deliveries as f64 / seconds,
                "reply_ms": state.reply.json(),
                "receive_ms": state.receive.json(),
                "lost": state.chats.values().map(missing).sum::<u64>(),
                "repeated": state.repeated,
                "gaps": state.gaps,
                "disconnects": state.disconnects,
                "refused": state.refused,
                "violations": state.violations,
            }),
            reply: state.reply.text(),
            receive: state.receive.text(),
        }
    }
}

impl DeviceTally {
    pub(super) fn message(&mut self, message: &Message) {
        let now = self.tally.begun.elapsed();
        let is_new = self.seen.entry(message.chat).or_default().insert(message.seq);
        let stamp = message.text().and_then(|text| u64::from_str_radix(text.get(..STAMP)?, 16).ok());
        let mut state = lock(&self.tally.state);
        if !is_new {
            state.repeated += 1;
            return;
        }
        state.deliveries += 1;
        if let Some(stamp) = stamp {
            state.receive.add(now.saturating_sub(Duration::from_nanos(stamp)));
        }
        let chat = state.chats.entry(message.chat).or_default();
        *chat.got.entry(message.seq).or_default() += 1;
        let owed = i64::from(chat.sent.contains(&message.seq));
        state.owed -= owed;
    }

    pub(super) fn gap(&self, messages: u64) {
        lock(&self.tally.state).gaps += messages;
    }

    pub(super) fn violation(&self, what: &str) {
        *lock(&self.tally.state).violations.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn disconnected(&self) {
        lock(&self.tally.state).disconnects += 1;
    }
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Report {
    figures: Value,
    reply: String,
    receive: String,
}

impl Report {
    pub(super) fn json(&self) -> &Value {
        &self.figures
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let of = |name: &str| self.figures[name].as_u64().unwrap_or(0);
        let rate = |name: &str| self.figures[name].as_f64().unwrap_or(0.0);
        let mut text = format!(
            "{} users with {} devices in {} chats, {} s\n\n",
            of("users"),
            of("devices"),
            of("chats"),
            of("seconds")
        );
        let _ = writeln!(text, "  sent                {:>9}  {:.1}/s", of("sends"), rate("sends_per_s"));
        let _ = writeln!(
            text,
            "  delivered           {:>9}  {:.1}/s",
            of("deliveries"),
            rate("deliveries_per_s")
        );
        let _ = writeln!(text, "  send to reply, ms   {}", self.reply);
        let _ = writeln!(text, "  send to receive, ms {}", self.receive);
        for name in ["lost", "repeated", "gaps", "disconnects"] {
            let _ = writeln!(text, "  {name:<19} {:>9}", of(name));
        }
        for name in ["refused", "violations"] {
            for (why, count) in self.figures[name].as_object().into_iter().flatten() {
                let _ = writeln!(text, "  {name}: {count} x {why}");
            }
        }
        text.trim_end().to_owned()
    }

    /// What a server must not do: an error says what it did.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let of = |name: &str| self.figures[name].as_u64().unwrap_or(0);
        let bad: Vec<String> = ["lost", "repeated", "gaps"]
            .into_iter()
            .filter(|name| of(name) > 0)
            .map(|name| format!("{} messages: {name}", of(name)))
            .chain(
                ["refused", "violations"]
                    .into_iter()
                    .filter(|name| self.figures[*name].as_object().is_some_and(|all| !all.is_empty()))
                    .map(|name| format!("{name}: {}", self.figures[name])),
            )
            .collect();
        if bad.is_empty() { Ok(()) } else { Err(bad.join("; ")) }
    }
}
