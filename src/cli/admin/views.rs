//! The answers as text: tables with a footer.

use serde_json::Value;

use crate::{
    cli::table::{Cell, plain, table, utc},
    domain::now_millis,
};

/// Columns of a table.
pub(super) type Columns = &'static [(&'static str, Cell)];

/// The devices of one user, without the sums of their queues.
pub(super) const DEVICES_OF_USER: Columns = &[
    ("DEVICE", Cell::Plain("id")),
    ("KIND", Cell::Plain("kind")),
    ("STATE", Cell::Plain("state")),
    ("ONLINE", Cell::Flag("online")),
    ("EDGE", Cell::Plain("edge")),
    ("LAST SEEN (UTC)", Cell::Time("last_seen")),
    ("CREATED (UTC)", Cell::Time("created")),
    ("PLATFORM", Cell::Plain("platform")),
    ("NAME", Cell::Plain("name")),
];

/// The queues of a device.
pub(super) const CHANNELS: Columns = &[
    ("CHAT", Cell::Plain("chat")),
    ("NODE", Cell::Plain("node")),
    ("DEPTH", Cell::Plain("depth")),
    ("IN FLIGHT", Cell::Plain("in_flight")),
    ("REQUEUES", Cell::Plain("requeues")),
    ("OLDEST", Cell::Span("oldest_ms")),
    ("CONSUMERS", Cell::Plain("consumers")),
    ("CONSUMER", Cell::Plain("consumer")),
    ("FROM", Cell::Plain("from")),
    ("CURSOR", Cell::Plain("cursor")),
    ("HEAD", Cell::Plain("head")),
];

/// Devices with the sums of their queues.
pub(super) const DEVICES: Columns = &[
    ("DEVICE", Cell::Plain("device")),
    ("USER", Cell::Plain("user")),
    ("KIND", Cell::Plain("kind")),
    ("ONLINE", Cell::Flag("online")),
    ("EDGE", Cell::Plain("edge")),
    ("LAST SEEN (UTC)", Cell::Time("last_seen")),
    ("CHATS", Cell::Plain("chats")),
    ("UNDELIVERED", Cell::Plain("undelivered")),
    ("OLDEST", Cell::Span("oldest_ms")),
    ("IN FLIGHT", Cell::Plain("in_flight")),
    ("REQUEUES", Cell::Plain("requeues")),
    ("NAME", Cell::Plain("name")),
];

/// Users with the sums of their devices.
pub(super) const USERS: Columns = &[
    ("USER", Cell::Plain("user")),
    ("DEVICES", Cell::Plain("devices")),
    ("ONLINE", Cell::Plain("online")),
    ("CHATS", Cell::Plain("chats")),
    ("UNDELIVERED", Cell::Plain("undelivered")),
    ("OLDEST", Cell::Span("oldest_ms")),
    ("LAST SEEN (UTC)", Cell::Time("last_seen")),
];

/// Orphan queues.
pub(super) const ORPHANS: Columns = &[
    ("NODE", Cell::Plain("node")),
    ("CHAT", Cell::Plain("chat")),
    ("DEVICE", Cell::Plain("device")),
    ("USER", Cell::Plain("user")),
    ("REASON", Cell::Plain("reason")),
    ("FOREIGN", Cell::Flag("foreign")),
    ("DEPTH", Cell::Plain("depth")),
];

const SWEPT: Columns = &[
    ("RESULT", Cell::Plain("result")),
    ("NODE", Cell::Plain("node")),
    ("CHAT", Cell::Plain("chat")),
    ("DEVICE", Cell::Plain("device")),
    ("REASON", Cell::Plain("reason")),
    ("DEPTH", Cell::Plain("depth")),
    ("DETAIL", Cell::Plain("detail")),
];

/// The audit log.
pub(super) const AUDIT: Columns = &[
    ("WHEN (UTC)", Cell::Time("at")),
    ("WHO", Cell::Plain("who")),
    ("ACTION", Cell::Plain("action")),
    ("DRY RUN", Cell::Flag("dry_run")),
    ("RESULT", Cell::Plain("result")),
    ("CODE", Cell::Plain("code")),
    ("USER", Cell::Plain("user")),
    ("DEVICE", Cell::Plain("device")),
    ("DETAIL", Cell::Plain("detail")),
];

const EDGES: Columns = &[
    ("EDGE", Cell::Plain("edge")),
    ("MAINS", Cell::Plain("mains")),
    ("SUBS", Cell::Plain("subs")),
    ("CHATS", Cell::Plain("chats")),
    ("SENDS", Cell::Plain("sends")),
    ("FROM NSQ", Cell::Plain("deliveries_nsq")),
    ("FROM LOG", Cell::Plain("deliveries_log")),
    ("REFILLS", Cell::Plain("refills")),
    ("GAPS", Cell::Plain("gaps")),
    ("OUTBOX", Cell::Plain("outbox")),
    ("OLDEST", Cell::Span("outbox_oldest_ms")),
    ("SINCE (UTC)", Cell::Time("started")),
];

const SERVERS: Columns = &[
    ("SERVER", Cell::Plain("node")),
    ("ROLE", Cell::Plain("role")),
    ("QUEUES", Cell::Plain("queues")),
    ("DEPTH", Cell::Plain("depth")),
    ("IN FLIGHT", Cell::Plain("in_flight")),
    ("PROBLEM", Cell::Plain("problem")),
];

const STORE: Columns = &[
    ("STORE", Cell::Plain("role")),
    ("PING MS", Cell::Plain("ping_ms")),
    ("MEMORY", Cell::Plain("used_memory")),
    ("OF", Cell::Plain("max_memory")),
    ("AOF", Cell::Plain("aof")),
    ("CLIENTS", Cell::Plain("clients")),
    ("PROBLEM", Cell::Plain("problem")),
];

/// Returns a table each of edges, the store and NSQ.
pub(super) fn overview(answer: &Value) -> String {
    let rows = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let store: Vec<Value> = answer.get("redis").cloned().into_iter().collect();
    let unfinished = plain(answer.get("terminations_unfinished").unwrap_or(&Value::Null));
    [
        table(EDGES, &rows("edges")),
        table(STORE, &store),
        table(SERVERS, &rows("broker")),
        format!("terminations unfinished: {unfinished}"),
    ]
    .join("\n\n")
}

/// Returns the result of a sweep: each queue, and the counts.
pub(super) fn swept(answer: &Value) -> String {
    let count = |name: &str| plain(answer.get(name).unwrap_or(&Value::Null));
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let what = match answer.get("dry_run").and_then(Value::as_bool) {
        Some(true) => format!("would delete {}, {} more are left", items.len(), count("left")),
        _ => format!(
            "{} deleted, {} kept, {} failed, {} left",
            count("removed"),
            count("kept"),
            count("failed"),
            count("left")
        ),
    };
    let foreign = match answer.get("foreign").and_then(Value::as_u64) {
        None | Some(0) => String::new(),
        Some(foreign) => format!("; {foreign} may be another deployment's and stay (--foreign)"),
    };
    let missing = unreachable(answer.get("unreachable").unwrap_or(&Value::Null));
    let more = match answer.get("truncated").and_then(Value::as_bool) {
        Some(true) => "; there are more than one look takes, and foreign ones may hide own ones",
        _ => "",
    };
    let rows = if items.is_empty() { String::new() } else { format!("{}\n", table(SWEPT, &items)) };
    format!("{rows}{what}{foreign}{more}{missing}")
}

/// Returns the footer of a list: the total, its time, and what is missing.
pub(super) fn footer(shown: usize, page: &Value) -> String {
    let total = page.get("total").map_or_else(|| shown.to_string(), plain);
    let of = page.get("as_of").and_then(Value::as_u64).map(|at| format!(" as of {} UTC", utc(at)));
    let more = match page.get("truncated").and_then(Value::as_bool) {
        Some(true) => "\nthere is more than the server looks at",
        _ => "",
    };
    let missing = unreachable(page.get("unreachable").unwrap_or(&Value::Null));
    format!("\n{shown} of {total}{}{more}{missing}", of.unwrap_or_default())
}

/// Returns a line with the servers that didn't answer.
pub(super) fn unreachable(list: &Value) -> String {
    match list.as_array() {
        Some(list) if !list.is_empty() => {
            format!("\nunreachable: {}", list.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

/// Returns what a termination would do.
pub(super) fn dry_run(answer: &Value) -> String {
    let count = |name: &str| match answer.get(name) {
        Some(Value::Array(list)) => list.len().to_string(),
        Some(value) => plain(value),
        None => "-".to_owned(),
    };
    let channels = answer.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
    let sockets = match (answer.get("sockets").and_then(Value::as_u64), answer.get("edge")) {
        (Some(sockets @ 1..), Some(edge)) => format!("would close {sockets} socket on {}; ", plain(edge)),
        _ => String::new(),
    };
    let head = format!(
        "{sockets}would delete {} channels in {} chats; {} messages are undelivered (as of {} UTC)",
        channels.len(),
        count("chats"),
        count("undelivered"),
        utc(now_millis()),
    );
    let missing = unreachable(answer.get("unreachable").unwrap_or(&Value::Null));
    if channels.is_empty() {
        format!("{head}{missing}")
    } else {
        format!("{head}\n{}{missing}", table(CHANNELS, &channels))
    }
}
