use super::*;

fn counts(within: [u64; 3], all: u64) -> Counts {
    Counts { bounds: vec![0.001, 0.01, 0.1], within: within.to_vec(), all }
}

#[test]
fn a_quantile_lies_between_its_bounds() {
    assert_eq!(counts([0, 0, 0], 0).quantile(0.99), None);
    assert_eq!(counts([100, 100, 100], 100).quantile(0.5), Some(0.0005));
    let mixed = counts([50, 90, 100], 100);
    assert_eq!(mixed.quantile(0.5), Some(0.001));
    assert!((mixed.quantile(0.99).unwrap() - 0.091).abs() < 1e-9);
    // Beyond the last bound it is unknown.
    assert_eq!(counts([0, 0, 1], 100).quantile(0.99), Some(0.1));
}

#[test]
fn edges_are_added_and_what_was_before_taken_away() {
    let mut sum = Counts::default();
    sum.add(&counts([1, 2, 3], 4).since(&counts([1, 1, 1], 1)));
    sum.add(&counts([5, 5, 5], 5).since(&Counts::default()));
    sum.add(&Counts { bounds: vec![1.0], within: vec![7], all: 7 });
    assert_eq!(sum, counts([5, 6, 7], 8));
}
