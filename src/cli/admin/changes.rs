//! The commands that change something.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use reqwest::Method;
use serde_json::Value;

use super::{Format, SweepArgs, show, views};
use crate::{
    cli::{Failure, client::Client, table::plain},
    domain::id::DeviceId,
};

/// Interval of checks with `--wait`.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Terminates a device, and waits for the end of it at most for `wait`.
pub(super) async fn remove(
    client: &Client,
    device: DeviceId,
    wait: Option<Duration>,
    format: Format,
) -> Result<(), Failure> {
    let answer = client.call(Method::DELETE, &["admin", "v1", "devices", &device.to_string()], &[]).await?;
    let termination = answer.get("termination").unwrap_or(&answer);
    let Some(id) = termination.get("id").and_then(Value::as_str).map(str::to_owned) else {
        return Err(Failure::run("the server answered without a termination: is it Keepstep?"));
    };
    let Some(patience) = wait else {
        return show(format, &answer, || format!("termination {id}: {}", state_of(termination)));
    };
    let until = tokio::time::Instant::now() + patience;
    loop {
        let now = client.call(Method::GET, &["v1", "terminations", &id], &[]).await?;
        let now = now.get("termination").unwrap_or(&now);
        let done = state_of(now) == "done";
        if done || tokio::time::Instant::now() >= until {
            show(format, now, || {
                let deleted = plain(now.get("channels_deleted").unwrap_or(&Value::Null));
                let missing = views::unreachable(now.get("unreachable").unwrap_or(&Value::Null));
                format!("termination {id}: {}, {deleted} channels deleted{missing}", state_of(now))
            })?;
            let late = "the termination isn't done yet; the server goes on trying: look at it again later";
            return if done { Ok(()) } else { Err(Failure::run(late)) };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Deletes orphan queues; a dry run lists them.
pub(super) async fn sweep(client: &Client, args: &SweepArgs, format: Format) -> Result<(), Failure> {
    if !args.yes && !args.dry_run {
        confirm("Delete queues that are nobody's? What is in them is lost. (--dry-run shows them.)")?;
    }
    let limit = args.limit.map(|limit| limit.to_string());
    let query = [
        args.dry_run.then_some(("dry_run", "true")),
        args.foreign.then_some(("foreign", "true")),
        limit.as_deref().map(|limit| ("limit", limit)),
    ];
    let query: Vec<_> = query.into_iter().flatten().collect();
    let swept = client.call(Method::POST, &["admin", "v1", "channels", "sweep"], &query).await?;
    show(format, &swept, || views::swept(&swept))?;
    match swept.get("failed").and_then(Value::as_u64) {
        None | Some(0) => Ok(()),
        Some(failed) => Err(Failure::run(format!("{failed} of them couldn't be deleted: sweep again later"))),
    }
}

/// Asks the operator for confirmation. Without a terminal `--yes` is required.
pub(super) fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nobody is there to be asked: give --yes to go on, or --dry-run to look first",
        ));
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(Failure::run("nothing was changed"))
    }
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
