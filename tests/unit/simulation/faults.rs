use super::*;

#[tokio::test(start_paused = true)]
async fn an_edge_dies_after_a_call_that_is_done_late() {
    let faults = Faults::new(Shared::new(1), Gate::default());
    faults.crash_at("append", 1, true);
    let done = Arc::new(AtomicU64::new(0));
    let count = done.clone();
    let work = move || {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, ()>(()))
    };
    let call = faults.call_late("append", Late(TIMEOUT / 2, None), work);
    let answer = tokio::time::timeout(TIMEOUT * 2, call).await;
    assert!(faults.gate.is_dead() && answer.is_err(), "who made the call has no time to give up");
    assert_eq!(done.load(Ordering::Relaxed), 1, "and it is done");
}
