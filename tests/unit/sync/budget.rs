use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

proptest! {
    /// Whoever calls whenever, with whatever rate: no second has more than the rate, and one call in addition.
    #[test]
    fn no_second_has_more_than_the_rate(
        rate in 1_u32..2_000,
        calls in prop::collection::vec((1_usize..500, 0_u64..2_000), 1..200),
    ) {
        let begun = Instant::now();
        let (mut pace, mut now, mut sent) = (Pace::new(begun), begun, Vec::new());
        for (commands, later) in calls {
            now += Duration::from_millis(later);
            let commands = commands.min(longest_call(f64::from(rate)));
            let at = pace.spend(commands, f64::from(rate), now);
            prop_assert!(at >= now);
            // A caller waits for its turn.
            now = at;
            sent.push((at, commands));
        }
        for (first, (from, _)) in sent.iter().enumerate() {
            let within = sent[first..].iter().take_while(|(at, _)| *at < *from + SECOND);
            let commands: usize = within.map(|(_, commands)| commands).sum();
            let most = rate as usize + longest_call(f64::from(rate));
            prop_assert!(commands <= most + 1, "{commands} in a second, of {most}");
        }
    }
}

#[test]
fn all_of_the_rate_is_used() {
    let begun = Instant::now();
    let mut pace = Pace::new(begun);
    let at: Vec<Instant> = (0..101).map(|_| pace.spend(5, 100.0, begun)).collect();
    assert_eq!(at[0], begun, "the first goes at once");
    let took = at[100] - begun;
    assert!(took.abs_diff(5 * SECOND) < Duration::from_millis(1), "500 commands took {took:?}");
    // What wasn't used isn't used later.
    let idle = begun + 60 * SECOND;
    assert_eq!([pace.spend(50, 100.0, idle), pace.spend(1, 100.0, idle)], [idle, idle + SECOND / 2]);
}

#[test]
fn edges_share_what_each_does_for_its_own() {
    assert_eq!([1, 2, 4, 1_000].map(|edges| Kind::Heads.rate(100, edges)), [100.0, 50.0, 25.0, 1.0]);
    assert_eq!([1, 4].map(|edges| Kind::Reconcile.rate(100, edges)), [100.0, 100.0]);
    assert_eq!([1, 4].map(|edges| Kind::Expiry.rate(100, edges)), [20.0, 20.0]);
    assert_eq!(Kind::Expiry.rate(1, 1), 1.0, "every sweep goes on");
}

#[test]
fn a_call_is_a_small_part_of_a_second() {
    assert_eq!([1.0, 3.0, 100.0, URGENT].map(longest_call), [1, 1, 25, 500]);
}
