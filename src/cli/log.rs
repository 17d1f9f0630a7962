//! The log of the server: where it goes, how it looks, and who may say what in it.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Begins to log, to the standard error: the standard output is for results. The filter was checked with the settings.
pub fn start(log: &LogConfig) {
    let all = tracing_subscriber::registry().with(EnvFilter::new(&log.filter)).with(filter_fn(harmless));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => all.with(lines).init(),
        LogFormat::Json => all.with(lines.json().flatten_event(true)).init(),
    }
}

/// Whether this event may be written, however the filter is set. What libraries say below `info` isn't ours to vouch for:
/// they tell what passes through them (tungstenite, at `trace`, each frame with its payload, and so every message; hyper
/// and reqwest requests with their addresses). Our own events name ids and codes, never a token or content.
fn harmless(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::INFO || own(event.target())
}

fn own(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    matches!(name, "keepstep" | "keepstep_nsq")
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn own_is_what_is_written_here() {
        for (target, is) in [
            ("keepstep", true),
            ("keepstep::session::chats", true),
            ("keepstep_nsq::publisher", true),
            ("tungstenite::protocol", false),
            ("keepstepper", false),
            ("log", false),
        ] {
            assert_eq!(own(target), is, "{target}");
        }
    }
}
