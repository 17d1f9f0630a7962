//! The operating guide, the alert rules and the dashboard are about metrics that are there.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use crate::stories::Deployment;
use crate::stories::metrics::scrape;
use crate::support::{Scrape, repository};

/// What Prometheus itself adds to each scrape.
const OF_PROMETHEUS: &[&str] = &["up"];

#[derive(Default)]
struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.0.extend(selector.name.clone()),
            Expr::MatrixSelector(selector) => self.0.extend(selector.vs.name.clone()),
            _ => {}
        }
        Ok(true)
    }
}

/// The metrics that a query is about; it must be one.
fn names(query: &str) -> BTreeSet<String> {
    // What Grafana puts in by itself.
    let query = query.replace("$__rate_interval", "5m").replace("$__range", "1h");
    let expr = parser::parse(&query).unwrap_or_else(|why| panic!("{query}: {why}"));
    let mut names = Names::default();
    let Ok(_) = walk_expr(&mut names, &expr);
    assert!(!names.0.is_empty(), "{query} asks for nothing");
    names.0
}

fn there(scrape: &Scrape, query: &str, place: &str) {
    for name in names(query) {
        let known = OF_PROMETHEUS.contains(&name.as_str()) || scrape.names().contains(name.as_str());
        assert!(known, "{place}: {name} isn't in /metrics");
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

async fn anyone() -> Scrape {
    let world = Deployment::Embedded.start().await;
    scrape(&world.edges[0]).await
}

#[tokio::test]
async fn alert_rules_are_about_what_is_there_and_say_what_to_do() {
    let scrape = anyone().await;
    let rules: Value =
        serde_saphyr::from_str(&read("docs/operating/alerts.yml")).expect("alert rules are YAML");
    let guide = read("docs/operating.md");
    let mut seen = BTreeSet::new();
    for group in rules["groups"].as_array().expect("groups") {
        assert!(group["name"].is_string(), "{group}");
        for rule in group["rules"].as_array().expect("rules") {
            let name = rule["alert"].as_str().unwrap_or_else(|| panic!("an alert has a name: {rule}"));
            assert!(seen.insert(name.to_owned()), "{name} comes twice");
            let known = ["alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
            for key in rule.as_object().expect("a rule is a map").keys() {
                assert!(known.contains(&key.as_str()), "{name}: {key}");
            }
            there(&scrape, rule["expr"].as_str().expect("an expression"), name);
            let severity = rule["labels"]["severity"].as_str();
            assert!(matches!(severity, Some("page" | "ticket")), "{name}: {severity:?}");
            for text in ["summary", "description"] {
                assert!(rule["annotations"][text].is_string(), "{name} has no {text}");
            }
            // Each has its section in the guide.
            let runbook = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
            let anchor = runbook.rsplit_once("docs/operating.md#").map(|(_, anchor)| anchor);
            assert_eq!(anchor, Some(name.to_lowercase().as_str()), "{name}: {runbook}");
            assert!(
                guide.contains(&format!("\n#### {name}\n")),
                "{name} has no section in docs/operating.md"
            );
        }
    }
    for section in guide.lines().filter_map(|line| line.strip_prefix("#### ")) {
        assert!(seen.contains(section), "docs/operating.md has a section for {section}, which is no alert");
    }
    assert!(seen.len() >= 10, "{seen:?}");
}

#[tokio::test]
async fn the_dashboard_shows_what_is_there() {
    let scrape = anyone().await;
    let dashboard: Value = serde_json::from_str(&read("docs/operating/dashboard.json")).expect("JSON");
    assert!(
        dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64() && dashboard["uid"].is_string()
    );
    // Exported for others: no id, and the data source is asked for at the import.
    assert!(dashboard["id"].is_null());
    assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus");
    let (mut ids, mut shown) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "an id comes twice: {panel}");
        let title = panel["title"].as_str().expect("a title");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().expect("x") + place["w"].as_u64().expect("w") <= 24, "{title}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${DS_PROMETHEUS}", "{title}");
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{title} asks for nothing"));
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            there(&scrape, query, title);
            shown.extend(names(query));
        }
    }
    for must in [
        "keepstep_connections",
        "keepstep_sends_total",
        "keepstep_deliveries_total",
        "keepstep_send_reply_seconds_bucket",
        "keepstep_send_to_receive_seconds_bucket",
        "keepstep_outbox_oldest_seconds",
        "keepstep_nsqd_up",
        "keepstep_store_up",
        "keepstep_reconciler_actions_total",
        "keepstep_closes_total",
    ] {
        assert!(shown.contains(must), "{must} isn't on the dashboard");
    }
}

/// What the page is made of (tests/reference) is one set of metrics; this is a server.
#[tokio::test]
async fn the_page_of_metrics_lists_what_a_server_answers() {
    let scrape = anyone().await;
    // | `name` | type | unit | `label`: `value`, … | meaning |
    let mut listed = BTreeMap::new();
    for line in read("docs/metrics.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, _, labels, meaning, _] = cells[..] else { continue };
        if let Some(name) = name.strip_prefix("`keepstep_").and_then(|name| name.strip_suffix('`')) {
            let label = |part: &str| part.split('`').nth(1).map(str::to_owned);
            let labels: BTreeSet<String> = labels.split("; ").filter_map(label).collect();
            assert!(!meaning.is_empty(), "{name} has no meaning");
            let old = listed.insert(format!("keepstep_{name}"), (kind.to_owned(), labels));
            assert!(old.is_none(), "{name} is listed twice");
        }
    }
    for (name, family) in scrape.0.iter().filter(|(name, _)| name.starts_with("keepstep_")) {
        let Some((kind, labels)) = listed.remove(name) else { panic!("{name} isn't in docs/metrics.md") };
        let own = family.samples[0].labels.keys().filter(|label| *label != "le").cloned();
        assert_eq!(kind, family.kind, "{name}");
        assert_eq!(labels, own.collect(), "{name}");
    }
    assert!(listed.is_empty(), "listed, but not there: {listed:?}");
    // And the contract's own list.
    let protocol = read("docs/protocol.md");
    let known: BTreeSet<&str> = scrape.0.keys().map(String::as_str).collect();
    let words = protocol.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    for word in words.filter(|word| word.starts_with("keepstep_")) {
        assert!(known.contains(word), "docs/protocol.md tells of {word}");
    }
}

#[test]
fn what_is_no_exposition_is_seen() {
    let good = "# HELP a_total Things that happened\n# TYPE a_total counter\na_total{code=\"x\"} 1\n";
    assert_eq!(Scrape::read(good).expect("it is good").sum("a_total", &[("code", "x")]), 1.0);
    let histogram = "# HELP h_seconds How long it took\n# TYPE h_seconds histogram\n\
        h_seconds_bucket{le=\"1\"} 1\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 3.5\nh_seconds_count 2\n";
    Scrape::read(histogram).expect("it is good");
    for bad in [
        good.trim_end(),
        &good.replace("# HELP a_total Things that happened\n", ""),
        &good.replace("# TYPE a_total counter\n", ""),
        &good.replace("counter", "gauge"),
        &good.replace("counter", "summary"),
        &good.replace("a_total", "a"),
        &good.replace("a_total", "A_total"),
        &good.replace("} 1", "} -1"),
        &good.replace("} 1", "} one"),
        &good.replace("Things that happened", "?"),
        &format!("{good}{good}"),
        &format!("{good}a_total{{code=\"x\"}} 2\n"),
        &format!("{good}b_total 2\n"),
        &histogram.replace("count 2", "count 3"),
        &histogram.replace("h_seconds_sum 3.5\n", ""),
        &histogram.replace("{le=\"1\"} 1", "{le=\"1\"} 3"),
        &histogram.replace("h_seconds_bucket{le=\"+Inf\"} 2\n", ""),
        &histogram.replace("h_seconds", "h_ms"),
    ] {
        assert!(Scrape::read(bad).is_err(), "{bad}");
    }
}
