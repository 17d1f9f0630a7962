use super::*;

#[test]
fn a_round_takes_as_long_as_the_budget_wants() {
    let shortest = Duration::from_secs(2);
    for (sessions, seconds) in [(0, 2), (10, 2), (200, 2), (201, 2), (1_000, 10), (5_000, 50)] {
        assert_eq!(round(sessions, shortest).as_secs(), seconds, "{sessions} sessions");
    }
}
