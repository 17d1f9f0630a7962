//! `keepstep load`: users who talk, on a running server, as clients that stand on the SDK. It measures what they notice: times,
//! errors, messages that were lost or came twice.
//!
//! `crowd` sets the scene and takes it down, `talk` sends and receives, `tally` counts and reports.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use clap::Args;
use tokio::time::{Instant, interval};

use self::{crowd::Crowd, tally::Tally};
use super::{Failure, print, token::Signing};
use crate::config::numbers;

mod crowd;
mod talk;
mod tally;

pub(super) const EXAMPLES: &str = "\
Examples:
  KEEPSTEP_JWT_SECRET=... keepstep load --url http://127.0.0.1:8080
      Ten users with a phone and a web session each, in four chats, for half a minute.
  KEEPSTEP_JWT_SECRET=... keepstep load --users 500 --devices 1 --chats 10 --size 5 --think 20s --seconds 120
      2,500 messages a minute from 500 phones, each to 5 devices.
  KEEPSTEP_JWT_SECRET=... keepstep load --json | jq .receive_ms.p99
      The report for machines.

The devices, and the users' part in the chats, are removed afterwards, unless --keep. What limits one user (docs/settings.md)
also limits these: setting up waits where the server says so.

Exit codes: 0 every message came once and in order, 1 not so, or the server refused something; 3 it cannot be reached.";

/// The arguments of `keepstep load`.
#[derive(Args)]
pub struct LoadArgs {
    /// URL (http or https) of the server; its secret is in KEEPSTEP_JWT_SECRET
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Users
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count)]
    users: usize,
    /// Devices of each user: a main and subs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count)]
    devices: usize,
    /// Chats of each user
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count)]
    chats: usize,
    /// Members of a chat; 2: direct chats
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = size)]
    size: usize,
    /// Mean time between two messages of a user; the times are exponentially distributed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = numbers::period)]
    think: Duration,
    /// Length of a message's text, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = text)]
    bytes: usize,
    /// Time for which they talk, in seconds
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seed of who is in which chat, and of the times
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave devices and chats as they are at the end
    #[arg(long)]
    keep: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    signing: Signing,
}

fn count(text: &str) -> Result<usize, String> {
    between(text, 1, 100_000)
}

fn size(text: &str) -> Result<usize, String> {
    between(text, 2, 10_000)
}

// The stamp at the beginning of each text.
fn text(text: &str) -> Result<usize, String> {
    between(text, tally::STAMP, 60_000)
}

fn between(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("write a number from {least} to {most}"))
}

/// The longest wait for messages that are under way at the end.
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(1);

/// Applies the load, and reports.
///
/// # Errors
/// The server can't be reached or refuses something; a message was lost, came twice or out of order.
pub async fn run(args: LoadArgs) -> Result<(), Failure> {
    if args.size > args.users {
        return Err(Failure::usage(
            "--size is the number of a chat's members: there must be as many --users",
        ));
    }
    let progress = Progress { shown: std::io::stderr().is_terminal() };
    let crowd = Crowd::sets_the_scene(&args, &progress).await?;
    let tally = Arc::new(Tally::new());
    let played = tokio::select! {
        played = play(&args, &crowd, &tally, &progress) => played,
        _ = tokio::signal::ctrl_c() => Err(Failure::run("interrupted")),
    };
    if !args.keep {
        progress.says("removing devices and chats");
        crowd.leaves().await;
    }
    progress.ends();
    played?;
    let report = tally.report(&args);
    if args.json {
        print(&report.json().to_string())?
    } else {
        print(&report.text())?
    }
    report.verdict().map_err(Failure::run)
}

async fn play(
    args: &LoadArgs,
    crowd: &Crowd,
    tally: &Arc<Tally>,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut talk = talk::Talk::connect(args, crowd, tally).await?;
    let (begun, length) = (Instant::now(), Duration::from_secs(args.seconds));
    talk.begin(begun + length);
    let mut ticks = interval(PROGRESS);
    while begun.elapsed() < length {
        ticks.tick().await;
        progress.says(&format!("{:>3} of {} s: {}", begun.elapsed().as_secs(), args.seconds, tally.line()));
    }
    let ended = Instant::now();
    talk.ends_sending().await;
    while tally.is_waiting() && ended.elapsed() < LAST_WAIT {
        progress.says(&format!("waiting for what is under way: {}", tally.line()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    talk.disconnects().await;
    Ok(())
}

/// One line on the terminal that is written over and over; nothing if there is no terminal.
struct Progress {
    shown: bool,
}

impl Progress {
    fn says(&self, what: &str) {
        if self.shown {
            eprint!("\r\x1b[2K{what}");
        }
    }

    fn ends(&self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/cli/load.rs"]
mod tests;
