use super::*;

fn commands(link: &Link) -> Vec<(u64, Op)> {
    let mut taken = Vec::new();
    link.take(&mut taken);
    taken.into_iter().map(|c| (c.serial, c.op)).collect()
}

#[test]
fn a_receipt_settles_once_and_a_dropped_one_requeues() {
    let link = Arc::new(Link::default());
    Receipt::new(Arc::clone(&link), 1).finish();
    Receipt::new(Arc::clone(&link), 2).requeue(Duration::from_millis(70));
    drop(Receipt::new(Arc::clone(&link), 3));
    let held = Receipt::new(Arc::clone(&link), 4);
    held.touch();
    let expected = [(1, Op::Finish), (2, Op::Requeue(70)), (3, Op::Requeue(0)), (4, Op::Touch)];
    assert_eq!(commands(&link), expected);
    link.close();
    held.finish();
    assert_eq!(commands(&link), []);
    assert_eq!(std::mem::size_of::<Receipt>(), 16);
}

#[test]
fn touches_are_bounded() {
    let link = Arc::new(Link::default());
    let held = Receipt::new(Arc::clone(&link), 1);
    for _ in 0..10_000 {
        held.touch();
    }
    held.finish();
    assert_eq!(commands(&link).len(), Link::MAX_TOUCHES + 1, "a settlement always has room");
}
