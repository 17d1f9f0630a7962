//! Makes a metric and registers it, in one step.

use prometheus::{
    Error, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

pub(super) struct Maker {
    pub(super) registry: Registry,
}

impl Maker {
    fn add<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: Result<T, Error>,
    ) -> Result<T, Error> {
        let made = made?;
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::new(name, help))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::new(name, help))
    }

    pub(super) fn seconds(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.add(Gauge::new(name, help))
    }

    pub(super) fn seconds_by(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<GaugeVec, Error> {
        let family = self.add(GaugeVec::new(Opts::new(name, help), &[label]))?;
        values.iter().for_each(|value| drop(family.with_label_values(&[value])));
        Ok(family)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntCounterVec, Error> {
        let family = self.add(IntCounterVec::new(Opts::new(name, help), &[label]))?;
        values.iter().for_each(|value| drop(family.with_label_values(&[value])));
        Ok(family)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntGaugeVec, Error> {
        let family = self.add(IntGaugeVec::new(Opts::new(name, help), &[label]))?;
        values.iter().for_each(|value| drop(family.with_label_values(&[value])));
        Ok(family)
    }

    pub(super) fn latencies(&self, name: &str, help: &str, bounds: &[f64]) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(HistogramVec::new(options, &["kind"]))
    }
}
