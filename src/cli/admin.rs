//! `keepstep admin`: what the admin API says, as tables; and the removal of a device.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Client, ServerArgs},
    print,
    table::{Cell, plain, table, utc},
};
use crate::{
    config::values,
    domain::id::{DeviceId, UserId},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  export KEEPSTEP_URL=http://127.0.0.1:8080 KEEPSTEP_JWT_SECRET=...   # or KEEPSTEP_ADMIN_TOKEN
  keepstep admin devices alice
  keepstep admin channels 0b1c2d3e-0000-4000-8000-000000000001
  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --dry-run
  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --yes --wait

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 the server can't be reached.";

/// The arguments of `keepstep admin`.
#[derive(Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
    /// Print the server's JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Subcommand)]
enum AdminCommand {
    /// List the devices of a user
    #[command(after_help = "Example:\n  keepstep admin devices alice --json")]
    Devices {
        /// Whose
        user: UserId,
    },
    /// List the queues of a device: what waits, what is on the way, who takes it
    #[command(after_help = "Example:\n  keepstep admin channels 0b1c2d3e-0000-4000-8000-000000000001")]
    Channels {
        /// Whose queues
        device: DeviceId,
    },
    /// Terminate a device: its token dies at once, its queues are deleted everywhere
    #[command(
        after_help = "Example:\n  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --yes --wait\n\n\
                      With --wait the exit code is 0 only when every queue is gone; 1 when some nsqd couldn't be reached in \
                      time (the server goes on trying)."
    )]
    Remove {
        /// Which device
        device: DeviceId,
        /// Only say what would be deleted, and how many messages are undelivered
        #[arg(long, conflicts_with_all = ["wait", "yes"])]
        dry_run: bool,
        /// Wait until every queue is gone
        #[arg(long)]
        wait: bool,
        /// For how long --wait waits
        #[arg(long, default_value = "60s", value_parser = values::duration, value_name = "TIME")]
        wait_timeout: Duration,
        /// Don't ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Between two looks of `--wait`.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Runs one admin command.
///
/// # Errors
///
/// When the server refuses (exit code 1), when something is missing on the command line (2), or when the server can't be
/// reached (3).
pub async fn run(args: AdminArgs) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    match args.command {
        AdminCommand::Devices { user } => {
            let (items, _) = client.list(&["admin", "v1", "users", user.as_str(), "devices"]).await?;
            let shown = table(DEVICES, &items);
            show(args.json, &json!({"items": items}), || shown)
        }
        AdminCommand::Channels { device } => {
            let (items, last) =
                client.list(&["admin", "v1", "devices", &device.to_string(), "channels"]).await?;
            let unreachable = last.get("unreachable").cloned().unwrap_or_else(|| json!([]));
            let shown = [table(CHANNELS, &items), unreachable_line(&unreachable)].concat();
            show(args.json, &json!({"items": items, "unreachable": unreachable}), || shown)
        }
        AdminCommand::Remove { device, dry_run: true, .. } => {
            let path = ["admin", "v1", "devices", &device.to_string()];
            let answer = client.call(Method::DELETE, &path, &[("dry_run", "true")]).await?;
            show(args.json, &answer, || dry_run_text(&answer))
        }
        AdminCommand::Remove { device, wait, wait_timeout, yes, .. } => {
            if !yes {
                confirm(device)?;
            }
            remove(&client, device, wait.then_some(wait_timeout), args.json).await
        }
    }
}

async fn remove(
    client: &Client,
    device: DeviceId,
    wait: Option<Duration>,
    json: bool,
) -> Result<(), Failure> {
    let answer = client.call(Method::DELETE, &["admin", "v1", "devices", &device.to_string()], &[]).await?;
    let termination = answer.get("termination").unwrap_or(&answer);
    let Some(id) = termination.get("id").and_then(Value::as_str).map(str::to_owned) else {
        return Err(Failure::run("the server answered without a termination: is it Keepstep?"));
    };
    let Some(patience) = wait else {
        return show(json, &answer, || format!("termination {id}: {}", state_of(termination)));
    };
    let until = tokio::time::Instant::now() + patience;
    loop {
        let now = client.call(Method::GET, &["v1", "terminations", &id], &[]).await?;
        let now = now.get("termination").unwrap_or(&now);
        let done = state_of(now) == "done";
        if done || tokio::time::Instant::now() >= until {
            show(json, now, || {
                let deleted = plain(now.get("channels_deleted").unwrap_or(&Value::Null));
                let missing = unreachable_line(now.get("unreachable").unwrap_or(&Value::Null));
                format!("termination {id}: {}, {deleted} channels deleted{missing}", state_of(now))
            })?;
            let late = "the termination isn't done yet; the server goes on trying: look at it again later";
            return if done { Ok(()) } else { Err(Failure::run(late)) };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Asks the operator; a script has to say `--yes`.
fn confirm(device: DeviceId) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nobody is there to be asked: give --yes to remove, or --dry-run to look first",
        ));
    }
    eprint!(
        "Remove device {device}? Its undelivered messages are lost and its id is never used again. [y/N] "
    );
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::run("nothing was removed"))
    }
}

fn show(json: bool, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if json { print(&value.to_string()) } else { print(&text()) }
}

fn state_of(termination: &Value) -> &str {
    // Only known words, so that nothing of the answer reaches the terminal unchecked.
    match termination.get("state").and_then(Value::as_str) {
        Some("accepted") => "accepted",
        Some("pending") => "pending",
        Some("done") => "done",
        _ => "unknown",
    }
}

fn unreachable_line(list: &Value) -> String {
    match list.as_array() {
        Some(list) if !list.is_empty() => {
            format!("\nunreachable: {}", list.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

fn dry_run_text(answer: &Value) -> String {
    let count = |name: &str| match answer.get(name) {
        Some(Value::Array(list)) => list.len().to_string(),
        Some(value) => plain(value),
        None => "-".to_owned(),
    };
    let channels = answer.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
    let head = format!(
        "would delete {} channels in {} chats; {} messages are undelivered (as of {} UTC)",
        channels.len(),
        count("chats"),
        count("undelivered"),
        utc(crate::domain::now_millis()),
    );
    let missing = unreachable_line(answer.get("unreachable").unwrap_or(&Value::Null));
    if channels.is_empty() {
        format!("{head}{missing}")
    } else {
        format!("{head}\n{}{missing}", table(CHANNELS, &channels))
    }
}

const DEVICES: &[(&str, Cell)] = &[
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

const CHANNELS: &[(&str, Cell)] = &[
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
