//! From the figures of all runs to a table: medians, and the ratio to each baseline as the median of the rounds' own
//! ratios, because the two halves of a ratio should have met the same weather.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::tally::Figures;

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Redis with `appendfsync always`: what production and every test run on.
    Keepstep,
    /// Redis with `appendfsync everysec`: a power cut may take the last second.
    Everysec,
    /// See [`crate::plain_nsqd`].
    Nsqd,
    /// See [`crate::mosquitto`].
    Mosquitto,
}

impl System {
    /// In the order of the columns.
    pub const ALL: [Self; 4] = [Self::Keepstep, Self::Everysec, Self::Nsqd, Self::Mosquitto];

    /// For people and for the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keepstep => "Keepstep",
            Self::Everysec => "Keepstep, fsync everysec",
            Self::Nsqd => "plain nsqd",
            Self::Mosquitto => "mosquitto",
        }
    }
}

/// One scenario, once, by one system.
#[derive(Debug)]
pub struct Run {
    pub scenario: &'static str,
    pub round: usize,
    pub system: System,
    pub outcome: Result<Figures, String>,
}

/// A row of the table: one figure of one scenario.
struct Row {
    scenario: &'static str,
    figure: &'static str,
    words: &'static str,
    aim: &'static str,
    digits: usize,
}

const ROWS: [Row; 31] = [
    Row {
        scenario: "throughput",
        figure: "deliveries_per_s",
        words: "acknowledged deliveries/s, 100 chats x 8 devices, 32 waiting senders",
        aim: "20,000",
        digits: 0,
    },
    Row {
        scenario: "throughput",
        figure: "deliveries_per_core_s",
        words: "the same per second of processor time",
        aim: "",
        digits: 0,
    },
    Row {
        scenario: "steady",
        figure: "through_nsq",
        words: "2,500 sends/s evenly (20,000 deliveries/s): share that came by NSQ",
        aim: "0.99",
        digits: 2,
    },
    Row {
        scenario: "steady",
        figure: "receive_p50_ms",
        words: "the same, send to receive, p50, ms",
        aim: "",
        digits: 1,
    },
    Row { scenario: "steady", figure: "receive_max_ms", words: "the same, slowest, ms", aim: "", digits: 0 },
    Row {
        scenario: "latency",
        figure: "receive_p50_ms",
        words: "send to receive at 200 sends/s to 8 devices each, p50, ms",
        aim: "",
        digits: 2,
    },
    Row { scenario: "latency", figure: "receive_p99_ms", words: "the same, p99, ms", aim: "1.2", digits: 2 },
    Row { scenario: "latency", figure: "receive_max_ms", words: "the same, slowest, ms", aim: "", digits: 1 },
    Row {
        scenario: "idle",
        figure: "kib_per_device",
        words: "memory per idle device at 5,000, KiB",
        aim: "16",
        digits: 1,
    },
    Row {
        scenario: "idle",
        figure: "kib_per_device_nsqd",
        words: "the same in nsqd, KiB",
        aim: "",
        digits: 1,
    },
    Row {
        scenario: "drain",
        figure: "seconds",
        words: "20,000 queued messages, from connecting to the last ack, s",
        aim: "0.35",
        digits: 2,
    },
    Row {
        scenario: "history",
        figure: "page_p50_ms",
        words: "first page of 100 from the main, p50, ms",
        aim: "100",
        digits: 1,
    },
    Row {
        scenario: "history",
        figure: "connect_to_page_p50_ms",
        words: "the same from connecting on, p50, ms",
        aim: "",
        digits: 1,
    },
    Row {
        scenario: "offsets",
        figure: "phone_to_web_p50_ms",
        words: "read on the phone to told on the web, p50, ms",
        aim: "",
        digits: 1,
    },
    Row {
        scenario: "offsets",
        figure: "phone_to_web_p99_ms",
        words: "the same, p99, ms",
        aim: "100",
        digits: 1,
    },
    Row {
        scenario: "refusal",
        figure: "refused_p50_ms",
        words: "a sub refused because its main is offline (4303), p50, ms",
        aim: "200",
        digits: 1,
    },
    Row {
        scenario: "pairs",
        figure: "nsq_connections",
        words: "idle pairs (500 devices x 40 chats): NSQ connections",
        aim: "64",
        digits: 0,
    },
    Row {
        scenario: "pairs",
        figure: "redis_commands_per_s",
        words: "the same: Redis commands/s",
        aim: "400",
        digits: 0,
    },
    Row {
        scenario: "pairs",
        figure: "kib_per_device_keepstep",
        words: "the same: edge memory per device, KiB",
        aim: "",
        digits: 1,
    },
    Row {
        scenario: "pairs",
        figure: "redis_bytes_per_pair",
        words: "the same: Redis memory per pair, bytes",
        aim: "410",
        digits: 0,
    },
    Row {
        scenario: "pairs",
        figure: "nsqd_kib_per_pair",
        words: "the same: nsqd memory per pair, KiB",
        aim: "",
        digits: 1,
    },
    Row {
        scenario: "pairs",
        figure: "nsq_connections_active",
        words: "1 % of the pairs active (200): NSQ connections",
        aim: "240",
        digits: 0,
    },
    Row {
        scenario: "connect",
        figure: "welcome_p50_ms",
        words: "connecting with 1,000 chats and nothing new, p50, ms",
        aim: "15",
        digits: 1,
    },
    Row {
        scenario: "connect",
        figure: "welcome_bytes",
        words: "the same: bytes of welcome",
        aim: "1,024",
        digits: 0,
    },
    Row {
        scenario: "connect",
        figure: "commands",
        words: "the same: Redis commands",
        aim: "2,010",
        digits: 0,
    },
    Row {
        scenario: "storm",
        figure: "all_welcome_s",
        words: "500 devices x 40 chats come back at once: all welcome, s",
        aim: "",
        digits: 1,
    },
    Row { scenario: "storm", figure: "during_p99_ms", words: "sends meanwhile, p99, ms", aim: "", digits: 1 },
    Row { scenario: "storm", figure: "quiet_p99_ms", words: "sends before, p99, ms", aim: "", digits: 1 },
    Row {
        scenario: "first",
        figure: "more_p50_ms",
        words: "first message of a quiet chat, against the second, p50, ms more",
        aim: "0.5",
        digits: 2,
    },
    Row { scenario: "first", figure: "more_p99_ms", words: "the same, p99, ms more", aim: "3", digits: 2 },
    Row {
        scenario: "register",
        figure: "register_p50_ms",
        words: "register a device of a user in 1,000 chats, p50, ms",
        aim: "50",
        digits: 0,
    },
];

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The figure of every round, by round.
fn rounds(runs: &[Run], scenario: &str, system: System, figure: &str) -> BTreeMap<usize, f64> {
    // "Per device" is that of the program that holds the devices' connections.
    let figure = match (figure, system) {
        ("kib_per_device", System::Keepstep | System::Everysec) => "kib_per_device_keepstep",
        ("kib_per_device", System::Nsqd) => "kib_per_device_nsqd",
        ("kib_per_device", System::Mosquitto) => "kib_per_device_mosquitto",
        _ => figure,
    };
    let of = runs.iter().filter(|run| run.scenario == scenario && run.system == system);
    of.filter_map(|run| Some((run.round, *run.outcome.as_ref().ok()?.get(figure)?))).collect()
}

fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 && digit != '-' {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

/// The Markdown table. A baseline's cell has Keepstep's figure as a multiple of its own behind it.
pub fn table(runs: &[Run]) -> String {
    let mut out = String::from("| what | aim |");
    for system in System::ALL {
        let _ = write!(out, " {} |", system.name());
    }
    out.push_str("\n|---|--:|--:|--:|--:|--:|\n");
    for row in &ROWS {
        if !runs.iter().any(|run| run.scenario == row.scenario) {
            continue;
        }
        let _ = write!(out, "| {} | {} |", row.words, row.aim);
        let ours = rounds(runs, row.scenario, System::Keepstep, row.figure);
        for system in System::ALL {
            let _ = write!(out, " {} |", cell(runs, row, system, &ours));
        }
        out.push('\n');
    }
    out
}

fn cell(runs: &[Run], row: &Row, system: System, ours: &BTreeMap<usize, f64>) -> String {
    let all = rounds(runs, row.scenario, system, row.figure);
    let Some(value) = median(all.values().copied().collect()) else {
        let mut of = runs.iter().filter(|run| run.scenario == row.scenario && run.system == system);
        let failed = of.find_map(|run| run.outcome.as_ref().err());
        return failed.map_or(String::new(), |why| why.lines().next().unwrap_or("failed").replace('|', "/"));
    };
    let text = number(value, row.digits);
    if matches!(system, System::Keepstep | System::Everysec) {
        return text;
    }
    let ratios = all.iter().filter_map(|(round, theirs)| Some(ours.get(round)? / theirs)).collect();
    median(ratios).map_or_else(|| text.clone(), |ratio| format!("{text} ({ratio:.2}x)"))
}

/// Everything, for machines.
pub fn json(machine: &str, settings: &Value, runs: &[Run]) -> Value {
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| {
            let (figures, error) = match &run.outcome {
                Ok(figures) => (Some(figures), None),
                Err(error) => (None, Some(error)),
            };
            json!({
                "scenario": run.scenario, "round": run.round, "system": run.system.name(),
                "figures": figures, "error": error,
            })
        })
        .collect();
    json!({ "machine": machine, "settings": settings, "runs": runs })
}

const BEGIN: &str = "<!-- scripts/bench writes from here -->";
const END: &str = "<!-- to here -->";

/// Puts the text between the markers of a Markdown file.
pub fn write_between(file: &str, text: &str) -> Result<(), String> {
    let page = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let (before, rest) = page.split_once(BEGIN).ok_or(format!("{file} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or(format!("{file} has no line {END}"))?;
    let page = format!("{before}{BEGIN}\n{text}{END}{after}");
    std::fs::write(file, page).map_err(|error| format!("{file}: {error}"))
}
