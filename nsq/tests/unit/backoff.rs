use super::*;

#[test]
fn waits_grow_to_the_longest_and_start_over() {
    let (first, longest) = (Duration::from_millis(100), Duration::from_secs(3));
    let mut backoff = Backoff::new(first, longest);
    for _ in 0..100 {
        let wait = backoff.next();
        assert!(wait >= first / 2 && wait <= longest);
    }
    assert!(backoff.next() >= longest / 2);
    backoff.reset();
    assert!(backoff.next() <= first);
}
