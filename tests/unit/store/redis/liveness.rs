use std::time::Duration;

use super::*;

const LEASE: Duration = Duration::from_secs(6);
const MOMENT: Duration = Duration::from_millis(1);

fn by(term: u64) -> Incarnation {
    Incarnation { edge: "own".to_owned(), process: "p".to_owned(), term }
}

fn other(incarnation: &str, beat: u64, alive: Millis, silent: bool) -> OtherEdge {
    let holder = Some(Holder { incarnation: incarnation.to_owned(), beat });
    OtherEdge { name: "other".to_owned(), alive, silent, noted: true, holder }
}

/// A view and its clock.
struct Viewer {
    view: View,
    now: Instant,
}

impl Viewer {
    fn new() -> Self {
        Self { view: View::default(), now: Instant::now() }
    }

    fn hears_since(&mut self, asked: Instant, others: &[OtherEdge]) {
        self.view.heard_own(&by(0), asked + LEASE, BeatTimes { now: 1_000, before: 900 });
        self.view.heard_others(others, LEASE, self.now);
        self.view.decide(asked);
    }

    fn hears(&mut self, others: &[OtherEdge]) {
        self.hears_since(self.now, others);
    }

    fn lives(&mut self, edge: &str, incarnation: &str) -> bool {
        self.view.lives(edge, incarnation, self.now)
    }
}

#[test]
fn its_own_lives_by_its_own_clock() {
    let mut viewer = Viewer::new();
    viewer.hears(&[]);
    viewer.now += LEASE - MOMENT;
    assert!(viewer.lives("own", "p.0") && !viewer.lives("own", "p.1") && !viewer.lives("own", "q.0"));
    viewer.now += MOMENT;
    assert!(!viewer.lives("own", "p.0"));
    assert_eq!((viewer.view.last_heard("own", "p.0"), viewer.view.last_heard("own", "q.0")), (1_000, 900));
    // From when it was asked for: an answer that comes late is worth less.
    viewer.view.heard_own(&by(1), viewer.now, BeatTimes { now: 2_000, before: 1_000 });
    assert!(!viewer.lives("own", "p.1"));
    assert_eq!((viewer.view.last_heard("own", "p.1"), viewer.view.last_heard("own", "p.0")), (2_000, 1_000));
}

#[test]
fn others_live_while_their_heartbeats_move_on() {
    let mut viewer = Viewer::new();
    viewer.hears(&[other("q.0", 1, 500, false)]);
    // The store's clock was set ahead: it alone decides nothing.
    viewer.now += LEASE / 2;
    viewer.hears(&[other("q.0", 1, 500, true)]);
    assert!(viewer.lives("other", "q.0"));
    viewer.now += LEASE / 2;
    assert!(viewer.lives("other", "q.0"), "nothing is heard, nothing is judged");
    viewer.hears(&[other("q.0", 1, 500, false)]);
    assert!(viewer.lives("other", "q.0"), "this edge may have been away");
    viewer.hears(&[other("q.0", 1, 500, true)]);
    assert!(!viewer.lives("other", "q.0"));
    viewer.hears(&[other("q.0", 2, 800, false)]);
    assert!(viewer.lives("other", "q.0"));
    // Another one has the name.
    viewer.hears(&[other("r", 0, 800, false)]);
    assert!(!viewer.lives("other", "q.0"));
    assert_eq!((viewer.view.last_heard("other", "q.0"), viewer.view.last_heard("other", "r")), (800, 800));
    viewer.hears(&[]);
    assert!(!viewer.lives("other", "r"), "it is off the list");
}

#[test]
fn who_is_dead_at_first_sight_is_dead_by_the_store_s_clock() {
    let mut viewer = Viewer::new();
    assert!(viewer.lives("other", "q.0"), "nothing was heard yet");
    viewer.hears(&[other("q.0", 1, 500, true)]);
    assert!(!viewer.lives("other", "q.0"));
}

#[test]
fn the_next_answer_decides_of_whom_nothing_is_known() {
    let mut viewer = Viewer::new();
    viewer.hears(&[other("q.1", 1, 500, false)]);
    // It may have come since.
    assert!(viewer.lives("new", "n.0") && viewer.lives("other", "q.0"));
    let asked = viewer.now;
    viewer.now += MOMENT;
    assert!(viewer.lives("late", "l.0"));
    viewer.now += MOMENT;
    let new = OtherEdge { name: "new".to_owned(), ..other("n.0", 1, 500, false) };
    let heard = [other("q.1", 2, 600, false), new];
    viewer.hears_since(asked, &heard);
    assert!(viewer.lives("other", "q.0"), "asked for before it was met");
    viewer.now += MOMENT;
    viewer.hears(&heard);
    assert!(viewer.lives("new", "n.0"));
    assert!(!viewer.lives("other", "q.0") && !viewer.lives("late", "l.0"));
}
