//! From measurements to a table of medians.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Settings;

/// What one measurement found, by name.
pub type Metrics = BTreeMap<String, f64>;

/// In the order in which they take turns.
pub const CLIENTS: [&str; 3] = ["ours", "tokio-nsq", "unbuffered"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    Publish,
    ConsumeOne,
    ConsumeMany,
    Closed,
    Held,
    Fanout,
    Attach,
    Idle,
}

impl Scenario {
    pub const ALL: [Self; 8] = [
        Self::Publish,
        Self::ConsumeOne,
        Self::ConsumeMany,
        Self::Closed,
        Self::Held,
        Self::Fanout,
        Self::Attach,
        Self::Idle,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::ConsumeOne => "consume-1",
            Self::ConsumeMany => "consume-100",
            Self::Closed => "latency-closed",
            Self::Held => "latency-held",
            Self::Fanout => "fan-out",
            Self::Attach => "attach",
            Self::Idle => "idle",
        }
    }

    /// Latency, attaching and idling are measured with nsqd's defaults; throughput without its disk, so that the
    /// clients are what is compared.
    pub fn nsqd_flags(self) -> &'static [&'static str] {
        match self {
            Self::Publish | Self::ConsumeOne | Self::ConsumeMany => &["--mem-queue-size=1000000"],
            _ => &[],
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    metric: String,
    /// Median by client.
    median: BTreeMap<String, f64>,
    /// All values by client, in order of measurement.
    values: BTreeMap<String, Vec<f64>>,
    /// Median over the pairs of ours divided by tokio-nsq's.
    ratio: Option<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

pub fn table(results: &BTreeMap<(Scenario, &str), Vec<Metrics>>) -> Vec<Row> {
    let mut rows = Vec::new();
    for scenario in Scenario::ALL {
        let Some(ours) = results.get(&(scenario, CLIENTS[0])) else { continue };
        for metric in ours[0].keys() {
            let values: BTreeMap<String, Vec<f64>> = CLIENTS
                .iter()
                .filter_map(|client| {
                    let found = results.get(&(scenario, *client))?;
                    Some((client.to_string(), found.iter().map(|m| m[metric]).collect()))
                })
                .collect();
            let ratios: Option<Vec<f64>> = values
                .get(CLIENTS[1])
                .map(|theirs| values[CLIENTS[0]].iter().zip(theirs).map(|(o, t)| o / t).collect());
            rows.push(Row {
                metric: metric.clone(),
                median: values.iter().map(|(client, all)| (client.clone(), median(all))).collect(),
                ratio: ratios.map(|all| median(&all)),
                values,
            });
        }
    }
    rows
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{:.0}k", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

pub fn print_markdown(rows: &[Row], settings: &Settings) {
    println!(
        "Medians of {} interleaved rounds ({} when idle, with {} subscriptions).\n",
        settings.pairs, settings.idle_pairs, settings.subscriptions
    );
    println!("| | keepstep-nsq | tokio-nsq 0.14 | ratio | keepstep-nsq, unbuffered |\n|---|---|---|---|---|");
    for row in rows {
        let cell = |client: &str| row.median.get(client).map_or_else(|| "-".to_owned(), |v| number(*v));
        let ratio = row.ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"));
        println!(
            "| {} | {} | {} | {ratio} | {} |",
            row.metric,
            cell(CLIENTS[0]),
            cell(CLIENTS[1]),
            cell(CLIENTS[2])
        );
    }
}
