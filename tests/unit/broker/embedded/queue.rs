use super::*;

fn body(queue: &Queue, consumer: u64) -> Option<(Bytes, u64)> {
    match queue.take(consumer) {
        Next::Message { body, delivery } => Some((body, delivery)),
        Next::Nothing | Next::Detached => None,
    }
}

fn filled(texts: &[&'static str]) -> Queue {
    let queue = Queue::new(10, None);
    texts.iter().for_each(|text| queue.push((*text).into()));
    queue
}

#[test]
fn what_is_given_back_goes_to_the_end() {
    let queue = filled(&["a", "b", "c", "d"]);
    let first = queue.attach();
    let (_, a) = body(&queue, first).unwrap();
    let (_, b) = body(&queue, first).unwrap();
    queue.give_back(b);
    queue.give_back(a);
    queue.give_back(b);
    assert_eq!(queue.counts().requeues, 2);
    let (c, held) = body(&queue, first).unwrap();
    assert_eq!(c, "c");
    queue.detach(first);

    let second = queue.attach();
    let all: Vec<_> = std::iter::from_fn(|| body(&queue, second)).collect();
    assert_eq!(all.iter().map(|(body, _)| &body[..]).collect::<Vec<_>>(), [b"d", b"b", b"a", b"c"]);
    // The first consumer's receipts are void: they neither finish nor requeue what the second holds now.
    queue.finish(held);
    queue.give_back(held);
    assert_eq!((queue.counts().in_flight, queue.counts().waiting), (4, 0));
}

#[tokio::test]
async fn what_is_held_for_too_long_goes_to_the_end() {
    // Here time itself is the subject.
    let queue = Queue::new(10, Some(Duration::from_millis(60)));
    ["a", "b"].into_iter().for_each(|text| queue.push(text.into()));
    let consumer = queue.attach();
    let (_, a) = body(&queue, consumer).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!queue.ready(consumer).await);
    // A late settlement settles nothing.
    queue.finish(a);
    let again: Vec<_> = std::iter::from_fn(|| body(&queue, consumer)).map(|(body, _)| body).collect();
    assert_eq!(again, ["b", "a"]);
}

#[test]
fn a_full_queue_drops_its_oldest() {
    let queue = Queue::new(2, None);
    for text in ["a", "b", "c"] {
        queue.push(text.into());
    }
    let consumer = queue.attach();
    assert_eq!(body(&queue, consumer).unwrap().0, "b");
    queue.push("d".into());
    assert_eq!(body(&queue, consumer).unwrap().0, "d", "c was the oldest that waited");
}

#[test]
fn a_consumer_holds_no_more_than_its_share() {
    let queue = Queue::new(1_000, None);
    (0..300).for_each(|_| queue.push(Bytes::new()));
    let consumer = queue.attach();
    let mut taken: Vec<_> = std::iter::from_fn(|| body(&queue, consumer)).collect();
    assert_eq!(taken.len(), MAX_IN_FLIGHT);
    queue.finish(taken.pop().unwrap().1);
    assert!(body(&queue, consumer).is_some());
    assert!(body(&queue, consumer).is_none());
}
