use std::time::Duration;

use tokio::time::advance;

use super::*;

const LEASE: Duration = Duration::from_secs(6);

fn by(term: u64) -> Incarnation {
    Incarnation { edge: "own".to_owned(), process: "p".to_owned(), term }
}

fn other(incarnation: &str, beat: u64, alive: Millis, silent: bool) -> OtherEdge {
    let holder = Some(Holder { incarnation: incarnation.to_owned(), beat });
    OtherEdge { name: "other".to_owned(), alive, silent, noted: true, holder }
}

fn hears(liveness: &Liveness, others: &[OtherEdge]) {
    let times = BeatTimes { now: 1_000, before: 900 };
    liveness.heard(&by(0), (Instant::now(), LEASE), times, others);
}

#[tokio::test(start_paused = true)]
async fn its_own_lives_by_its_own_clock() {
    let liveness = Liveness::default();
    hears(&liveness, &[]);
    advance(LEASE - Duration::from_millis(1)).await;
    assert!(liveness.lives("own", "p.0") && !liveness.lives("own", "p.1") && !liveness.lives("own", "q.0"));
    advance(Duration::from_millis(1)).await;
    assert!(!liveness.lives("own", "p.0"));
    assert_eq!((liveness.last_heard("own", "p.0"), liveness.last_heard("own", "q.0")), (1_000, 900));
    // From when it was asked for: an answer that comes late is worth less.
    liveness.heard(&by(1), (Instant::now() - LEASE, LEASE), BeatTimes { now: 2_000, before: 1_000 }, &[]);
    assert!(!liveness.lives("own", "p.1"));
    assert_eq!((liveness.last_heard("own", "p.1"), liveness.last_heard("own", "p.0")), (2_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn others_live_while_their_heartbeats_move_on() {
    let liveness = Liveness::default();
    hears(&liveness, &[other("q.0", 1, 500, false)]);
    // The store's clock was set ahead: it alone decides nothing.
    advance(LEASE / 2).await;
    hears(&liveness, &[other("q.0", 1, 500, true)]);
    assert!(liveness.lives("other", "q.0"));
    advance(LEASE / 2).await;
    assert!(liveness.lives("other", "q.0"), "nothing is heard, nothing is judged");
    hears(&liveness, &[other("q.0", 1, 500, false)]);
    assert!(liveness.lives("other", "q.0"), "this edge may have been away");
    hears(&liveness, &[other("q.0", 1, 500, true)]);
    assert!(!liveness.lives("other", "q.0"));
    hears(&liveness, &[other("q.0", 2, 800, false)]);
    assert!(liveness.lives("other", "q.0"));
    // Another one has the name.
    hears(&liveness, &[other("r", 0, 800, false)]);
    assert!(!liveness.lives("other", "q.0"));
    assert_eq!((liveness.last_heard("other", "q.0"), liveness.last_heard("other", "r")), (800, 800));
    hears(&liveness, &[]);
    assert!(!liveness.lives("other", "r"), "it is off the list");
}

#[tokio::test(start_paused = true)]
async fn who_is_dead_at_first_sight_is_dead_by_the_store_s_clock() {
    let liveness = Liveness::default();
    assert!(liveness.lives("other", "q.0"), "nothing was heard yet");
    hears(&liveness, &[other("q.0", 1, 500, true)]);
    assert!(!liveness.lives("other", "q.0"));
}

#[tokio::test(start_paused = true)]
async fn the_next_answer_decides_of_whom_nothing_is_known() {
    let liveness = Liveness::default();
    hears(&liveness, &[other("q.1", 1, 500, false)]);
    // It may have come since.
    assert!(liveness.lives("new", "n.0") && liveness.lives("other", "q.0"));
    let asked = Instant::now();
    advance(Duration::from_millis(1)).await;
    assert!(liveness.lives("late", "l.0"));
    advance(Duration::from_millis(1)).await;
    let new = OtherEdge { name: "new".to_owned(), ..other("n.0", 1, 500, false) };
    let heard = [other("q.1", 2, 600, false), new];
    liveness.heard(&by(0), (asked, LEASE), BeatTimes { now: 1_000, before: 900 }, &heard);
    assert!(liveness.lives("other", "q.0"), "asked for before it was met");
    advance(Duration::from_millis(1)).await;
    hears(&liveness, &heard);
    assert!(liveness.lives("new", "n.0"));
    assert!(!liveness.lives("other", "q.0") && !liveness.lives("late", "l.0"));
}
