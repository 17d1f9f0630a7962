use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn a_burst_passes_then_reading_slows_then_frames_are_refused() {
    let start = Instant::now();
    let mut rate = Rate::new(100, 500, start);
    let mut now = start;
    for _ in 0..500 {
        assert_eq!(rate.frame(now, PATIENCE), Verdict::Take);
    }
    let mut taken = 0;
    loop {
        match rate.frame(now, PATIENCE) {
            Verdict::Delay(wait) => {
                assert!(wait <= Duration::from_millis(20), "{wait:?}");
                now += wait;
                taken += 1;
            }
            Verdict::Take => taken += 1,
            Verdict::Refuse => break,
        }
    }
    assert!((480..=520).contains(&taken), "{taken} in 5 s of holding back");
    // After a pause the limit is as before.
    assert_eq!(rate.frame(now + Duration::from_secs(6), PATIENCE), Verdict::Take);
}
#[test]
fn who_was_away_finds_the_bucket_as_it_was_left() {
    let start = Instant::now();
    let mut rate = Rate::new(100, 500, start);
    for _ in 0..500 {
        rate.frame(start, PATIENCE);
    }
    // Six seconds elsewhere are worth a tenth of a minute's filling.
    let back = start + Duration::from_secs(6);
    rate.was_away(start, back);
    let taken = (0..500).take_while(|_| rate.frame(back, PATIENCE) == Verdict::Take).count();
    assert_eq!(taken, 50);
    rate.was_away(back, back + Duration::from_secs(61));
    assert!(rate.is_full(back + Duration::from_secs(61)));
}
