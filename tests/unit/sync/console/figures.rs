use super::*;

fn edge(name: &str, at: Millis, started: Millis, sends: u64) -> (String, Figures) {
    (name.to_owned(), Figures { edge: name.to_owned(), at, started, sends, mains: 2, ..Figures::default() })
}

#[test]
fn what_dead_edges_left_counts_once() {
    let figures = |outbox, outbox_dead_edges| Figures { outbox, outbox_dead_edges, ..Figures::default() };
    assert_eq!(sums(&[figures(1, 70), figures(2, 50), figures(0, 0)]).outbox, 73);
}

#[test]
fn rates_are_of_what_came_since() {
    let before = HashMap::from([edge("a", 100_000, 0, 100), edge("b", 100_000, 0, 50)]);
    let now = HashMap::from([
        edge("a", 105_000, 0, 150),
        // Restarted: its counter is a new one.
        edge("b", 105_000, 103_000, 10),
        // Out of sight until now.
        edge("c", 105_000, 0, 1_000_000),
    ]);
    let sample = sample(&before, &now, Duration::from_secs(5));
    assert_eq!((sample.sends, sample.edges, sample.mains), (12.0, 3, 6));
}
