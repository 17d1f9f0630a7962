use super::{GaugeGuard, Metrics};

#[test]
fn every_series_is_there_from_the_start() {
    let text = Metrics::new().unwrap().render().unwrap();
    for series in [
        "keepstep_deliveries_total{source=\"nsq\"} 0",
        "keepstep_sends_total 0",
        "keepstep_connections{kind=\"sub\"} 0",
        "keepstep_closes_total{code=\"main_offline\"} 0",
        "keepstep_bootstraps_total{result=\"main_timeout\"} 0",
        "keepstep_send_to_ack_seconds_count{kind=\"sub\"} 0",
    ] {
        assert!(text.contains(series), "{series} isn't in\n{text}");
    }
}

#[test]
fn a_share_is_taken_back_with_its_owner() {
    let metrics = Metrics::new().unwrap();
    let mut one = GaugeGuard::of(&metrics.unacknowledged);
    let mut other = GaugeGuard::of(&metrics.unacknowledged);
    one.set(3);
    other.set(2);
    one.set(1);
    assert_eq!(metrics.unacknowledged.get(), 3);
    drop(one);
    assert_eq!(metrics.unacknowledged.get(), 2);
}
