//! `docs/metrics.md`.

use std::collections::BTreeMap;

use keepstep::metrics::Metrics;

use crate::{
    exposition::{Family, Scrape},
    markdown::{cell, code, made_of, table},
};

const INTRODUCTION: &str = "\
`GET /metrics` on the operations listener (`KEEPSTEP_OPS_LISTEN`) answers in the Prometheus text format.
[operating.md](operating.md#metrics) has the alerts, what to do at each, and the dashboard.

- Counters and histograms count from the start of the process. Use `rate()` or `increase()`.
- A value is of one edge, unless its help says that it is of the whole deployment.
- A histogram `x` has the series `x_bucket`, `x_sum` and `x_count`.
- No label grows with users, devices or chats. Series with known labels exist from the start, with the value 0.
";

pub fn page() -> String {
    let metrics = Metrics::new().expect("a set of metrics");
    // Its series appear with the daemons that they are of.
    metrics.nsqd_up.with_label_values(&["<HTTP address of the nsqd>"]).set(1);
    let scrape = Scrape::read(&metrics.render().expect("a text")).expect("the Prometheus text format");
    let of = |prefix: &str| -> Vec<Vec<String>> {
        scrape
            .0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, family)| row(name, family))
            .collect()
    };
    let (own, process) = (of("keepstep_"), of("process_"));
    assert_eq!(own.len() + process.len(), scrape.0.len(), "a metric of another prefix needs a section here");
    assert!(own.len() > 30 && process.len() > 5, "{} {}", own.len(), process.len());
    let head = ["name", "type", "unit", "labels", "meaning"];
    format!(
        "# Metrics\n\n{}\n{INTRODUCTION}\n## Keepstep\n{}\n## Process\nOn Linux only.\n\n{}",
        made_of("src/metrics.rs"),
        table(&head, &own),
        table(&head, &process)
    )
}

fn row(name: &str, family: &Family) -> Vec<String> {
    let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (label, value) in
        family.samples.iter().flat_map(|sample| &sample.labels).filter(|(label, _)| *label != "le")
    {
        let value = if value == env!("CARGO_PKG_VERSION") { "<version>" } else { value };
        let values = labels.entry(label).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    let labels = labels.iter().map(|(label, values)| {
        let values: Vec<_> = values.iter().map(|value| code(value)).collect();
        format!("{}: {}", code(label), values.join(", "))
    });
    vec![
        code(name),
        family.kind.clone(),
        unit(name, family),
        labels.collect::<Vec<_>>().join("; "),
        cell(&family.help),
    ]
}

/// By Prometheus's convention the name ends in it. The help of a switch begins with what 1 means.
fn unit(name: &str, family: &Family) -> String {
    if family.help.starts_with("1 ") {
        return "0 or 1".to_owned();
    }
    let name = name.trim_end_matches("_total");
    for unit in ["seconds", "bytes"] {
        if name.ends_with(&format!("_{unit}")) {
            return unit.to_owned();
        }
    }
    "count".to_owned()
}
