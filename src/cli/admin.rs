//! `keepstep admin`: the admin API as tables (`views`), and its changes (`changes`).

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Client, ServerArgs},
    print,
    table::table,
};
use crate::{
    config::numbers,
    domain::{
        id::{DeviceId, UserId},
        now_millis,
    },
};

mod changes;
mod views;

pub(super) const EXAMPLES: &str = "\
Examples:
  export KEEPSTEP_URL=http://127.0.0.1:8080 KEEPSTEP_JWT_SECRET=...   # or KEEPSTEP_ADMIN_TOKEN
  keepstep admin overview
  keepstep admin devices alice
  keepstep admin devices --sort undelivered --limit 20
  keepstep admin channels 0b1c2d3e-0000-4000-8000-000000000001
  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --dry-run
  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --yes --wait
  keepstep admin sweep --dry-run
  keepstep admin audit --since 24h --json

Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 the server cannot be reached.";

/// The arguments of `keepstep admin`.
#[derive(Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
    /// Print JSON, as the server answers it, instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Rows of a list and their order.
#[derive(Args)]
struct ListArgs {
    /// Only rows whose user, id or name contains this text
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Column to sort by
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
    /// Direction of the sort
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Maximum number of rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Order {
    Asc,
    Desc,
}

impl ListArgs {
    fn given(&self) -> bool {
        self.search.is_some() || self.sort.is_some() || self.order.is_some() || self.limit.is_some()
    }

    fn query(&self) -> Vec<(&str, &str)> {
        let order = self.order.map(|order| match order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        });
        let all = [("search", self.search.as_deref()), ("sort", self.sort.as_deref()), ("order", order)];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn rows(&self, default: Option<u32>) -> Option<usize> {
        self.limit.or(default).and_then(|rows| usize::try_from(rows).ok())
    }
}

#[derive(Args)]
struct SweepArgs {
    /// Show what would be deleted; change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Include queues whose device and chat are both unknown to this store. Another deployment on the same nsqd may own them
    #[arg(long)]
    foreign: bool,
    /// Maximum number of queues that are deleted in one call to the server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

/// How answers are printed.
#[derive(Clone, Copy)]
enum Format {
    Tables,
    Json,
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Show all edges, the store, every nsqd, and the rates of sends and deliveries
    #[command(after_help = "Example:\n  keepstep admin overview --json")]
    Overview,
    /// List users with the sums over their devices
    #[command(after_help = "Sorts: user (default), undelivered, devices, online, chats, last_seen.\n\n\
                      Example:\n  keepstep admin users --sort undelivered --limit 20")]
    Users {
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the devices of a user, or of all users
    #[command(after_help = "Sorts: undelivered (default), oldest, last_seen, chats, requeues, user.\n\n\
                      Examples:\n  keepstep admin devices alice --json\n  keepstep admin devices --sort oldest --limit 20")]
    Devices {
        /// User whose devices are listed; without it: all users
        user: Option<UserId>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List the queues of a device: depth, messages in flight, consumer
    #[command(after_help = "Sorts: chat (default), undelivered, oldest, requeues.\n\n\
                      Example:\n  keepstep admin channels 0b1c2d3e-0000-4000-8000-000000000001 --sort undelivered")]
    Channels {
        /// Device whose queues are listed
        device: DeviceId,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Terminate a device: revoke its token at once, delete its queues on every nsqd
    #[command(
        after_help = "Example:\n  keepstep admin remove 0b1c2d3e-0000-4000-8000-000000000001 --yes --wait\n\n\
                      With --wait the exit code is 0 when every queue is deleted, and 1 when an nsqd could not be reached in \
                      time; the server goes on trying."
    )]
    Remove {
        /// Device to terminate
        device: DeviceId,
        /// Show what would be deleted and how many messages are undelivered; change nothing
        #[arg(long, conflicts_with_all = ["wait", "yes"])]
        dry_run: bool,
        /// Wait until every queue is deleted
        #[arg(long)]
        wait: bool,
        /// Maximum time for --wait
        #[arg(long, default_value = "60s", value_parser = numbers::duration, value_name = "TIME")]
        wait_timeout: Duration,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Close all sockets of a user; its devices and queues stay
    #[command(after_help = "Example:\n  keepstep admin kick alice")]
    Kick {
        /// User whose sockets are closed
        user: UserId,
    },
    /// List orphan queues: those of no device that should have one
    #[command(after_help = "Example:\n  keepstep admin orphans --json")]
    Orphans {
        /// Only rows whose chat, device, user or nsqd contains this text
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Maximum number of rows
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: Option<u32>,
    },
    /// Delete orphan queues; each is checked twice, and again before it is deleted
    #[command(after_help = "Examples:\n  keepstep admin sweep --dry-run\n  keepstep admin sweep --yes\n\n\
                      The exit code is 1 when a queue could not be deleted.")]
    Sweep(SweepArgs),
    /// Show the audit log, newest entries first
    #[command(
        after_help = "Examples:\n  keepstep admin audit --since 24h --action device.end\n  keepstep admin audit --json"
    )]
    Audit {
        /// Only entries of this admin
        #[arg(long, value_name = "USER")]
        who: Option<UserId>,
        /// Only entries of this action: device.end, user.kick or channels.sweep
        #[arg(long, value_name = "ACTION")]
        action: Option<String>,
        /// Only entries younger than this, such as 24h or 7d
        #[arg(long, value_parser = numbers::duration, value_name = "TIME")]
        since: Option<Duration>,
        /// Maximum number of entries
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// Default number of rows of a list of everything.
const ROWS: u32 = 100;

/// Runs one admin command.
///
/// # Errors
/// The server refuses (exit code 1), an argument is missing (2), or the server can't be reached (3).
pub async fn run(args: AdminArgs) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let format = if args.json { Format::Json } else { Format::Tables };
    match args.command {
        AdminCommand::Overview => {
            let overview = client.call(Method::GET, &["admin", "v1", "overview"], &[]).await?;
            show(format, &overview, || views::overview(&overview))
        }
        AdminCommand::Users { list } => {
            let lines = client.rows(&["admin", "v1", "users"], &list.query(), list.rows(Some(ROWS))).await?;
            show_lines(format, &lines, views::USERS)
        }
        AdminCommand::Devices { user: Some(user), list } if !list.given() => {
            let path = ["admin", "v1", "users", user.as_str(), "devices"];
            let (items, _) = client.rows(&path, &[], None).await?;
            show(format, &json!({"items": items}), || table(views::DEVICES_OF_USER, &items))
        }
        AdminCommand::Devices { user, list } => {
            let mut query = list.query();
            query.extend(user.as_ref().map(|user| ("user", user.as_str())));
            let lines = client.rows(&["admin", "v1", "devices"], &query, list.rows(Some(ROWS))).await?;
            show_lines(format, &lines, views::DEVICES)
        }
        AdminCommand::Channels { device, list } => {
            let path = ["admin", "v1", "devices", &device.to_string(), "channels"];
            let (items, last) = client.rows(&path, &list.query(), list.rows(None)).await?;
            let unreachable = last.get("unreachable").cloned().unwrap_or_else(|| json!([]));
            let text = || [table(views::CHANNELS, &items), views::unreachable(&unreachable)].concat();
            show(format, &json!({"items": items, "unreachable": unreachable}), text)
        }
        AdminCommand::Remove { device, dry_run: true, .. } => {
            let path = ["admin", "v1", "devices", &device.to_string()];
            let answer = client.call(Method::DELETE, &path, &[("dry_run", "true")]).await?;
            show(format, &answer, || views::dry_run(&answer))
        }
        AdminCommand::Remove { device, wait, wait_timeout, yes, .. } => {
            if !yes {
                changes::confirm(&format!(
                    "Remove device {device}? Its undelivered messages are lost and its id is never used again."
                ))?;
            }
            changes::remove(&client, device, wait.then_some(wait_timeout), format).await
        }
        AdminCommand::Kick { user } => {
            let path = ["admin", "v1", "users", user.as_str(), "kick"];
            let answer = client.call(Method::POST, &path, &[]).await?;
            show(format, &answer, || match answer.get("connected").and_then(Value::as_u64) {
                Some(0) => format!("no device of {user} was connected: nothing to close"),
                Some(1) => format!("the socket of the one connected device of {user} is being closed"),
                Some(count) => {
                    format!("the sockets of the {count} connected devices of {user} are being closed")
                }
                None => format!("the sockets of {user} are being closed"),
            })
        }
        AdminCommand::Orphans { search, limit } => {
            let query: Vec<_> = search.as_deref().map(|text| ("search", text)).into_iter().collect();
            let rows = limit.and_then(|rows| usize::try_from(rows).ok());
            let lines = client.rows(&["admin", "v1", "channels", "orphans"], &query, rows).await?;
            show_lines(format, &lines, views::ORPHANS)
        }
        AdminCommand::Sweep(args) => changes::sweep(&client, &args, format).await,
        AdminCommand::Audit { who, action, since, limit } => {
            let since = since.map(|ago| {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                now_millis().saturating_sub(ago).to_string()
            });
            let query = [
                ("who", who.as_ref().map(UserId::as_str)),
                ("action", action.as_deref()),
                ("since", since.as_deref()),
            ];
            let query: Vec<_> = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let rows = usize::try_from(limit).ok();
            let (items, _) = client.rows(&["admin", "v1", "audit"], &query, rows).await?;
            show(format, &json!({"items": items}), || table(views::AUDIT, &items))
        }
    }
}

fn show(format: Format, value: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    match format {
        Format::Json => print(&value.to_string()),
        Format::Tables => print(&text()),
    }
}

/// Prints rows, and what the last page says of all of them.
fn show_lines(
    format: Format,
    (items, last): &(Vec<Value>, Value),
    columns: views::Columns,
) -> Result<(), Failure> {
    let mut all = last.clone();
    all["items"] = json!(items);
    show(format, &all, || [table(columns, items), views::footer(items.len(), last)].concat())
}
