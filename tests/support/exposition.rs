//! Parses the Prometheus text format as strictly as `promtool check metrics`, so that no Prometheus refuses a scrape or
//! reads a wrong type.

use std::collections::{BTreeMap, BTreeSet};

/// A sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its name, with `_bucket`, `_sum` or `_count` if it has one.
    pub name: String,
    /// Its labels, by name.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All samples of one name.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// The help text.
    pub help: String,
    /// The samples in the order of the text.
    pub samples: Vec<Sample>,
}

/// A whole scrape, by name.
#[derive(Clone, Debug)]
pub struct Scrape(pub BTreeMap<String, Family>);

impl Scrape {
    /// Parses it. `Err`: the line and its fault.
    pub fn read(text: &str) -> Result<Scrape, String> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        if !text.ends_with('\n') {
            return Err("the last line has no end".to_owned());
        }
        for line in text.lines() {
            let wrong = |what: &str| Err(format!("{what}: {line}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let Some((name, help)) = rest.split_once(' ') else { return wrong("HELP says nothing") };
                if families.contains_key(name) {
                    return wrong("this name comes twice");
                }
                current = name.to_owned();
                let family = Family { help: help.to_owned(), ..Family::default() };
                families.insert(current.clone(), family);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let Some((name, kind)) = rest.split_once(' ') else { return wrong("TYPE says nothing") };
                let family =
                    families.get_mut(name).filter(|family| name == current && family.kind.is_empty());
                let Some(family) = family else { return wrong("TYPE without a HELP before it") };
                if !["counter", "gauge", "histogram"].contains(&kind) {
                    return wrong("no such type");
                }
                kind.clone_into(&mut family.kind);
            } else {
                let Some(sample) = sample(line) else { return wrong("not a sample") };
                let Some(family) = families.get_mut(&current) else {
                    return wrong("a sample before its HELP");
                };
                let suffix = sample.name.strip_prefix(current.as_str());
                let fits = match family.kind.as_str() {
                    "histogram" => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                    "" => false,
                    _ => suffix == Some(""),
                };
                if !fits {
                    return wrong("a sample of another family, or one without a type");
                }
                family.samples.push(sample);
            }
        }
        for (name, family) in &families {
            check(name, family).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(Scrape(families))
    }

    /// Returns the sum of all samples with this name and these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.0.values().flat_map(|family| &family.samples).filter(fits).map(|sample| sample.value).sum()
    }

    /// Returns the name of every sample.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(|family| &family.samples).map(|sample| sample.name.as_str()).collect()
    }
}

/// Checks one family against the format and the conventions for names.
fn check(name: &str, family: &Family) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("not a name by convention".to_owned());
    }
    if (family.kind == "counter") != name.ends_with("_total") {
        return Err(format!("a {} by this name", family.kind));
    }
    if family.help.trim().len() < 10 || family.samples.is_empty() {
        return Err("without help, or without a sample".to_owned());
    }
    if ["_ms", "_millis", "_milliseconds", "_kib"].iter().any(|unit| name.contains(unit)) {
        return Err("not in a base unit".to_owned());
    }
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        if !seen.insert((&sample.name, &sample.labels)) {
            return Err(format!("{sample:?} comes twice"));
        }
        if family.kind != "gauge" && (sample.value.is_nan() || sample.value < 0.0) {
            return Err(format!("{sample:?} is below 0"));
        }
    }
    if family.kind == "histogram" { histogram(name, family) } else { Ok(()) }
}

/// Checks that buckets rise up to +Inf, that this is the count, and that there is a sum.
fn histogram(name: &str, family: &Family) -> Result<(), String> {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let mut labels = sample.labels.clone();
        let le = labels.remove("le").ok_or("a bucket without le")?;
        let le = if le == "+Inf" { f64::INFINITY } else { le.parse().map_err(|_| format!("le={le}"))? };
        series.entry(labels).or_default().push((le, sample.value));
    }
    for (labels, buckets) in series {
        if !buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
            return Err(format!("buckets of {labels:?} don't rise"));
        }
        let one = |suffix: &str| {
            let named = format!("{name}{suffix}");
            family.samples.iter().find(|s| s.name == named && s.labels == labels).map(|sample| sample.value)
        };
        let last = buckets.last().copied();
        if last != one("_count").map(|count| (f64::INFINITY, count)) || one("_sum").is_none() {
            return Err(format!("{labels:?} isn't whole"));
        }
    }
    Ok(())
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some(Sample { name: series.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut found = BTreeMap::new();
    // No value here holds a comma or a quote: labels are codes, kinds and addresses.
    for label in labels.strip_suffix('}')?.split(',') {
        let (label, value) = label.split_once("=\"")?;
        let value = value.strip_suffix('"').filter(|value| !value.contains(['"', '\\']))?;
        found.insert(label.to_owned(), value.to_owned()).is_none().then_some(())?;
    }
    Some(Sample { name: name.to_owned(), labels: found, value })
}
