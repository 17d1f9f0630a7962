//! The server's log: where it goes, its format, and what may be in it.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, Targets, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    config::{LogConfig, LogFormat},
    spans,
};

/// Starts to log to standard error. The filter was checked with the settings.
pub fn start(log: &LogConfig) {
    match plain(&log.filter) {
        // It takes no lock when a span is entered, which each step of a session does.
        Some(filter) => start_with(filter, log.format),
        None => {
            let filter = EnvFilter::new(&log.filter);
            let spans = format!("{}=error", spans::TARGET).parse();
            start_with(spans.into_iter().fold(filter, EnvFilter::add_directive), log.format);
        }
    }
}

/// Returns a filter of levels and targets that lets the spans pass, so that each line has an id. None: the filter asks for
/// spans by their fields.
fn plain(filter: &str) -> Option<Targets> {
    let is_plain = !filter.contains('[') && !filter.trim().is_empty();
    let targets = filter.parse::<Targets>().ok().filter(|_| is_plain)?;
    Some(targets.with_target(spans::TARGET, LevelFilter::ERROR))
}

fn start_with(filter: impl Layer<Registry> + Send + Sync, format: LogFormat) {
    let all = tracing_subscriber::registry().with(filter).with(filter_fn(harmless));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => all.with(lines).init(),
        LogFormat::Json => all.with(lines.json().flatten_event(true)).init(),
    }
}

/// Returns whether an event may be written, whatever the filter says. Below `info` libraries write what passes through them:
/// tungstenite each frame with its payload, hyper and reqwest addresses. Our events name ids and codes, never a token or
/// content.
fn harmless(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::INFO || own(event.target())
}

fn own(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    matches!(name, "keepstep" | "keepstep_nsq")
}

#[cfg(test)]
#[path = "../../tests/unit/cli/log.rs"]
mod tests;
