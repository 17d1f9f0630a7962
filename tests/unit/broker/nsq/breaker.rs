use super::*;

#[tokio::test]
async fn a_few_failures_in_a_row_open_it_and_a_probe_closes_it() {
    let breaker = Breaker::new();
    assert!(breaker.close() && !breaker.close());
    for _ in 0..2 {
        breaker.failed("a");
        breaker.failed("b");
        breaker.succeeded();
        assert_eq!(breaker.why(), None, "not in a row");
    }
    let opened = breaker.opened();
    (0..3).for_each(|_| breaker.failed("disk full"));
    assert_eq!(&*opened.await, "disk full");
    assert!(!breaker.open("frozen"), "it is open already");
    assert_eq!(breaker.why().as_deref(), Some("frozen"));
    assert!(breaker.close());
    breaker.failed("c");
    assert_eq!(breaker.why(), None, "it begins to count anew");
}
