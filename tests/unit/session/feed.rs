//! Whatever the queue, the log and the device do, in any order.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use proptest::prelude::*;

use super::*;

fn body(seq: Seq) -> Bytes {
    Bytes::from(seq.to_string())
}

fn number(body: &Bytes) -> Seq {
    String::from_utf8(body.to_vec()).unwrap().parse().unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Held,
    Finished,
    Returned,
}

/// What became of each receipt, by the order of offering.
type Ledger = Rc<RefCell<Vec<(Seq, Fate)>>>;

/// A receipt as the broker's are: dropped, it gives its message back.
#[derive(Debug)]
struct Token(usize, Ledger);

impl Token {
    fn new(seq: Seq, ledger: &Ledger) -> Self {
        ledger.borrow_mut().push((seq, Fate::Held));
        Self(ledger.borrow().len() - 1, ledger.clone())
    }

    fn finish(self) {
        self.1.borrow_mut()[self.0].1 = Fate::Finished;
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let fate = &mut self.1.borrow_mut()[self.0].1;
        if *fate == Fate::Held {
            *fate = Fate::Returned;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Queue(Seq, u64),
    Log(u8),
    Ack(u8),
    Confirm,
    GiveUp(u8),
    GiveWay(usize, usize),
    Forget,
    Park,
    ReturnParked,
    Void,
    Validate(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => ((1..30u64), (0..3u64)).prop_map(|(seq, epoch)| Step::Queue(seq, epoch)),
        2 => (1..6u8).prop_map(Step::Log),
        3 => (0..6u8).prop_map(Step::Ack),
        2 => Just(Step::Confirm),
        1 => (0..3u8).prop_map(Step::GiveUp),
        1 => ((0..4usize), (0..9usize)).prop_map(|(least, most)| Step::GiveWay(least, most)),
        1 => Just(Step::Forget),
        1 => Just(Step::Park),
        1 => Just(Step::ReturnParked),
        1 => Just(Step::Void),
        1 => (0..3u64).prop_map(Step::Validate),
    ];
    proptest::collection::vec(step, 0..250)
}

proptest! {
    // The model is one sentence: each seq above the cursor goes out once, in order, unless it was told as a gap, and not before
    // its epoch is validated; each receipt is finished once, never before its seq is durable, or given back.
    #[test]
    fn sends_each_seq_once_and_settles_each_receipt_once(start in 0..10u64, steps in steps()) {
        let ledger = Ledger::default();
        let held_of = |seq: Seq| ledger.borrow().iter().filter(|(s, f)| *s == seq && *f == Fate::Held).count();
        let mut feed: Feed<Token> = Feed::new(start, 0);
        let (mut sent, mut gone) = (BTreeSet::new(), BTreeSet::new());
        // Each message has one epoch, however often it comes.
        let mut epochs = BTreeMap::new();
        let (mut expected, mut durable, mut late) = (start + 1, start, BTreeSet::new());
        for step in steps {
            let mut out: Vec<Seq> = Vec::new();
            match step {
                Step::Queue(seq, epoch) => {
                    let epoch = *epochs.entry(seq).or_insert(epoch);
                    match feed.offer(seq, epoch, body(seq), Token::new(seq, &ledger)) {
                        Offered::Send(bytes) => {
                            prop_assert!(epoch <= feed.epoch());
                            out.push(number(&bytes));
                        }
                        Offered::Finish(token) => {
                            // The older of two copies, perhaps: then the newest is left.
                            prop_assert!(seq <= durable || held_of(seq) >= 2);
                            // Gaps that were passed long ago are forgotten.
                            let forgotten = feed.aside.as_ref().is_none_or(|a| a.gaps.front().is_none_or(|gap| seq < gap.0));
                            prop_assert!(seq > durable || !gone.contains(&seq) || forgotten);
                            token.finish();
                        }
                        Offered::Kept => prop_assert!(sent.contains(&seq) && seq > durable),
                        Offered::Early => prop_assert!(seq > feed.next() || epoch > feed.epoch() || feed.has_next()),
                        Offered::Late => {
                            prop_assert!(gone.contains(&seq) && seq > durable);
                            late.insert(seq);
                        }
                        Offered::TooLate(token) => {
                            prop_assert!(gone.contains(&seq) && seq <= durable);
                            token.finish();
                        }
                    }
                }
                Step::Log(count) => {
                    for seq in feed.next()..feed.next() + u64::from(count) {
                        if feed.fill(seq) { out.push(seq); }
                    }
                }
                Step::Ack(ahead) => {
                    let seq = feed.acked() + u64::from(ahead);
                    let within = seq < feed.next();
                    prop_assert_eq!(feed.ack(seq), within);
                }
                Step::Confirm => {
                    durable = feed.acked();
                    let confirmed = feed.confirm(durable);
                    prop_assert_eq!(confirmed.acked, 0);
                    prop_assert_eq!(confirmed.late, late.iter().filter(|seq| **seq <= durable).count());
                    late.retain(|seq| *seq > durable);
                    for token in confirmed.receipts {
                        prop_assert!(ledger.borrow()[token.0].0 <= durable);
                        token.finish();
                    }
                }
                Step::GiveUp(ahead) => {
                    let to = feed.next() + u64::from(ahead);
                    let inside: Vec<Seq> = (expected..=to).filter(|seq| held_of(*seq) > 0).collect();
                    prop_assert_eq!(feed.skip_gap(to), Some((expected, to)));
                    gone.extend(expected..=to);
                    expected = to + 1;
                    // (What is parked is given back in any case.)
                    let parked = |seq: &Seq| feed.aside.as_ref().is_some_and(|a| a.parked.iter().any(|p| p.0 == *seq));
                    let kept = |seq: &Seq| feed.aside.as_ref().is_some_and(|a| a.late.contains_key(seq));
                    for seq in inside {
                        prop_assert!(parked(&seq) || kept(&seq));
                        if kept(&seq) { late.insert(seq); }
                    }
                }
                Step::GiveWay(least, most) => {
                    let (before, returnable, held) = (feed.in_flight(), feed.returnable(), feed.held());
                    let lowest = |feed: &Feed<Token>| -> Vec<Seq> {
                        let with_receipts = feed.early.iter().filter(|(_, one)| one.receipt.is_some());
                        with_receipts.map(|(seq, _)| *seq).take(least).collect()
                    };
                    let kept = lowest(&feed);
                    let given = feed.requeue_early(least, most);
                    prop_assert!(given <= most);
                    prop_assert_eq!(feed.in_flight() + given as u64, before);
                    prop_assert!(feed.returnable() >= least.min(returnable));
                    prop_assert_eq!((feed.held(), lowest(&feed)), (held, kept));
                    late.retain(|seq| feed.aside.as_ref().is_some_and(|aside| aside.late.contains_key(seq)));
                }
                Step::Forget => {
                    let (count, before) = (feed.held().0, feed.in_flight());
                    let forgotten = feed.forget_highest();
                    prop_assert_eq!(feed.held().0 + usize::from(forgotten), count);
                    prop_assert_eq!(feed.in_flight(), before);
                    prop_assert_eq!(forgotten, count > feed.returnable());
                }
                Step::Park => {
                    let (count, bytes) = feed.held();
                    feed.park_highest();
                    prop_assert_eq!(feed.held().0, count.saturating_sub(1));
                    prop_assert!(count == 0 || feed.held().1 < bytes);
                }
                Step::ReturnParked => feed.return_parked(),
                Step::Void => {
                    let held = feed.held();
                    feed.void();
                    late.clear();
                    prop_assert_eq!(feed.held(), held, "the messages themselves stay");
                    prop_assert_eq!(feed.in_flight(), 0);
                    prop_assert!(ledger.borrow().iter().all(|(_, fate)| *fate != Fate::Held));
                }
                Step::Validate(epoch) => feed.validate(epoch),
            }
            prop_assert!(!(feed.has_next() && feed.is_fenced()));
            while let Some(bytes) = feed.next_early() {
                let seq = number(&bytes);
                prop_assert!(epochs[&seq] <= feed.epoch());
                out.push(seq);
            }
            for seq in out {
                prop_assert_eq!(seq, expected, "sent {:?}", sent);
                expected += 1;
                sent.insert(seq);
            }
            prop_assert_eq!(feed.next(), expected);
            let unacked = sent.range(feed.acked() + 1..).count() as u64;
            prop_assert_eq!(feed.unacked(), unacked);
            prop_assert_eq!(feed.sent_between(feed.acked(), expected - 1), unacked);
            // A gap never covers what is there, or comes again.
            let floor = expected + 5;
            let is_there = |seq: &Seq| feed.early.contains_key(seq)
                || feed.aside.iter().flat_map(|aside| &aside.parked).any(|parked| parked.0 == *seq);
            let missing = (expected..floor).take_while(|seq| !is_there(seq)).last();
            prop_assert_eq!(feed.missing(floor), missing);
            prop_assert_eq!(feed.missing(expected), None);
            // What is in flight is known exactly.
            let held = ledger.borrow().iter().filter(|(_, fate)| *fate == Fate::Held).count();
            prop_assert_eq!(feed.in_flight(), held as u64);
            prop_assert_eq!(feed.held().1, feed.early.values().map(|one| one.body.len()).sum::<usize>());
            prop_assert_eq!(feed.returnable(), feed.early.values().filter(|one| one.receipt.is_some()).count());
        }
        drop(feed);
        prop_assert!(ledger.borrow().iter().all(|(_, fate)| *fate != Fate::Held), "a receipt was forgotten");
    }
}

#[test]
fn a_hole_is_known_by_what_is_held_behind_it() {
    let mut feed = Feed::new(4, 0);
    assert_eq!(feed.offer(8, 0, body(8), ()), Offered::Early);
    assert_eq!(feed.hole(), Some(7));
    assert!(feed.fill(5) && feed.fill(6) && feed.fill(7));
    assert_eq!(feed.hole(), None);
    assert_eq!(feed.next_early(), Some(body(8)));
    assert_eq!(feed.unacked(), 4);
}

#[test]
fn what_is_early_gives_way_from_above() {
    let mut feed = Feed::new(0, 0);
    for seq in [9, 3, 7, 5, 4, 8] {
        assert_eq!(feed.offer(seq, 0, body(seq), ()), Offered::Early);
    }
    assert_eq!((feed.returnable(), feed.in_flight()), (6, 6));
    assert_eq!((feed.requeue_early(2, 3), feed.returnable()), (3, 3));
    assert_eq!((feed.requeue_early(2, 3), feed.requeue_early(2, 3), feed.returnable()), (1, 0, 2));
    // They come again, perhaps; until then they are here, as long as there is room for them.
    assert_eq!((feed.held().0, feed.hole()), (6, Some(2)));
    assert!(feed.forget_highest());
    assert_eq!(feed.offer(7, 0, body(7), ()), Offered::Early);
    assert_eq!((feed.returnable(), feed.held().0), (3, 5));
    feed.void();
    assert_eq!((feed.requeue_early(0, 9), feed.held().0, feed.in_flight()), (0, 5, 0));
    assert!(feed.fill(1) && feed.fill(2));
    let rest: Vec<Bytes> = std::iter::from_fn(|| feed.next_early()).collect();
    assert_eq!(rest, [body(3), body(4), body(5)]);
    assert_eq!((feed.hole(), feed.missing(100)), (Some(6), Some(6)));
}

#[test]
fn what_comes_after_its_gap_is_kept_until_the_cursor_has_passed_it() {
    let mut feed = Feed::new(0, 0);
    assert_eq!(feed.offer(4, 0, body(4), 4), Offered::Early);
    assert_eq!(feed.skip_gap(3), Some((1, 3)));
    assert_eq!(feed.next_early(), Some(body(4)));
    assert_eq!((feed.unacked(), feed.in_flight()), (1, 1));
    assert_eq!(feed.offer(2, 0, body(2), 2), Offered::Late);
    assert_eq!(feed.in_flight(), 2);
    assert!(feed.ack(4));
    assert_eq!(feed.unacked(), 0);
    let confirmed = feed.confirm(4);
    assert_eq!((confirmed.receipts, confirmed.late), (vec![4, 2], 1));
    assert_eq!(feed.offer(3, 0, body(3), 3), Offered::TooLate(3));
    assert_eq!(feed.offer(4, 0, body(4), 4), Offered::Finish(4));
}

#[test]
fn a_message_of_a_later_epoch_waits_until_that_is_validated() {
    let mut feed = Feed::new(0, 3);
    assert_eq!(feed.offer(1, 3, body(1), ()), Offered::Send(body(1)));
    assert_eq!(feed.offer(2, 5, body(2), ()), Offered::Early);
    assert_eq!(feed.offer(3, 4, body(3), ()), Offered::Early);
    assert!(feed.is_fenced() && !feed.has_next());
    assert_eq!((feed.hole(), feed.next_early(), feed.highest_epoch()), (None, None, 5));
    feed.validate(4);
    assert!(feed.is_fenced());
    feed.validate(5);
    assert_eq!((feed.next_early(), feed.next_early()), (Some(body(2)), Some(body(3))));
}

#[test]
fn another_session_may_have_delivered_further() {
    let mut feed = Feed::new(0, 0);
    assert_eq!(feed.offer(1, 0, body(1), 1), Offered::Send(body(1)));
    assert_eq!(feed.offer(3, 0, body(3), 3), Offered::Early);
    assert_eq!(feed.offer(7, 0, body(7), 7), Offered::Early);
    let confirmed = feed.confirm(5);
    assert_eq!((confirmed.receipts, confirmed.acked, feed.next()), (vec![1, 3], 1, 6));
    assert_eq!((feed.hole(), feed.held().0), (Some(6), 1));
}
