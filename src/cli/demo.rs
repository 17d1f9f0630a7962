//! `keepstep demo`: a day of two people and their five devices, over real sockets, told as a timeline.
//!
//! The demo's devices are clients like any other: they stand on the SDK (`client/`), and know nothing of the server's insides.
//! `cast` and `script` say who and what, `stage` where, `device` (with `memory`) is a client of the SDK, `day` what
//! happens, `screen` and `text` how it looks, `summary` how it ends.

use std::time::{Duration, Instant};

use clap::Args;

use self::{
    day::Day,
    screen::Screen,
    stage::{Ground, Stage},
};
use super::{Failure, token::Signing};

pub mod cast;
pub mod day;
pub mod device;
pub mod marks;
pub mod memory;
pub mod screen;
pub mod script;
pub mod stage;
pub mod summary;
pub mod text;

/// Nothing is waited for longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const EXAMPLES: &str = "\
Examples:
  keepstep demo
      A server in this process, everything in memory; about 25 s. It installs nothing and leaves nothing behind.
  keepstep demo --redis redis://127.0.0.1:6379 --nsqd 127.0.0.1:4151,127.0.0.1:5151 --nsqlookupd 127.0.0.1:4161
      The same on the real stack, with two edges in this process: phones on one, web sessions on the other. Its devices
      are ended and their queues removed afterwards; two empty topics stay in nsqd, and in Redis the keys of two chats
      (all of them begin with --redis-prefix).
  KEEPSTEP_JWT_SECRET=... keepstep demo --url http://127.0.0.1:8080
      The same against a running server.
  keepstep demo --fast --json | jq 'select(.event == \"summary\")'
      Without pauses, one JSON object per event, the summary last.

Exit codes: 0 all devices agree, 1 they do not, or a wait timed out.";

/// The arguments of `keepstep demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Address of Redis, to play on the real stack. Requires --nsqd
    #[arg(long, value_name = "URL", conflicts_with = "url")]
    redis: Option<String>,
    /// HTTP addresses of every nsqd, separated by commas
    #[arg(long, value_name = "ADDRS", conflicts_with = "url")]
    nsqd: Option<String>,
    /// HTTP addresses of every nsqlookupd, separated by commas
    #[arg(long, value_name = "ADDRS", conflicts_with = "url")]
    nsqlookupd: Option<String>,
    /// Prefix of every key of the demo in Redis
    #[arg(long, value_name = "TEXT", default_value = "ks-demo")]
    redis_prefix: String,
    /// URL (http) of a running server to play against; its secret is in KEEPSTEP_JWT_SECRET
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Factor for the pauses between events, from 0 (none) to 100
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = pace)]
    pace: f64,
    /// No pauses: --pace 0
    #[arg(long)]
    fast: bool,
    /// Print one JSON object per event, and a summary at the end
    #[arg(long)]
    json: bool,
    /// When to print colours
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    color: Colour,
    #[command(flatten)]
    signing: Signing,
}

/// Which colours, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Also into a file or a pipe.
    Always,
    /// None.
    Never,
}

fn pace(text: &str) -> Result<f64, String> {
    let pace = text.parse::<f64>().ok().filter(|pace| (0.0..=100.0).contains(pace));
    pace.ok_or_else(|| "write a number from 0 to 100".to_owned())
}

/// Plays the day.
///
/// # Errors
/// When something doesn't come about, or the devices don't agree in the end.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    let screen = Screen::new(args.json, args.color, if args.fast { 0.0 } else { args.pace });
    let mut stage = screen.during("the server starts", Stage::set(args)).await?;
    let agree = play(&screen, &stage, begun).await;
    let drained = stage.strike().await;
    if agree? {
        let (drained, took) = (drained?, begun.elapsed().as_secs_f64());
        let servers = if stage.ground == Ground::Remote {
            String::new()
        } else {
            format!("The servers were drained in {} ms. ", drained.as_millis())
        };
        let said = format!("  {servers}The day took {took:.1} s.");
        return screen.plain(&screen.dim(&said));
    }
    Err(Failure::run(
        "the devices don't agree, or something was seen that the contract doesn't allow: see above",
    ))
}

async fn play(screen: &Screen, stage: &Stage, begun: Instant) -> Result<bool, Failure> {
    let mut day = Day::new(screen, stage)?;
    screen.plain("")?;
    screen.plain(&format!("  {}", screen.bold(&format!("Keepstep: {}", day.title()))))?;
    screen.legend()?;
    let played = tokio::select! {
        played = day.play() => played,
        _ = tokio::signal::ctrl_c() => Err(Failure::run("interrupted")),
    };
    let agree = match played {
        Ok(()) => summary::tell(&day, begun.elapsed()).await,
        Err(failure) => Err(failure),
    };
    if stage.ground != Ground::Embedded {
        let left = screen.during("the demo's devices are ended", day.tidy()).await;
        if left > 0 {
            let said =
                format!("{left} of the demo's devices couldn't be ended: look at the channels of nsqd");
            screen.note("left", &said, serde_json::json!({"devices": left}))?;
        }
    }
    agree
}
