//! One chat of one device, made into order: what NSQ brings (twice, late, with holes) and what the log heals becomes
//! seq + 1, seq + 1, … Pure: no I/O and no clock; `R` is what finishes a message in its queue.
//!
//! For a message `s` from the queue: up to the cursor it is finished at once; already sent, its receipt is kept for the
//! acknowledgement; the next one is sent; a later one is held until the hole before it is closed, by the queue itself
//! within a moment or from the log.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::domain::Seq;

/// The receipts of one message that was sent: none when it came from the log, several when the queue brought it twice.
#[derive(Debug)]
struct Sent<R> {
    seq: Seq,
    receipts: Vec<R>,
}

/// See the module.
#[derive(Debug)]
pub struct Feed<R> {
    // What is durable in the store; nothing at or below it is ever sent.
    cursor: Seq,
    // What the device has acknowledged; at least `cursor`.
    acked: Seq,
    // The next seq to be sent.
    next: Seq,
    // Sent, with a receipt to finish, ascending. Messages from the log have no entry until the queue brings them too.
    sent: VecDeque<Sent<R>>,
    // Arrived before their turn.
    early: BTreeMap<Seq, (Bytes, Vec<R>)>,
}

/// What became of a message that was offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<R> {
    /// It is the next: send it, and then ask [`Feed::next_early`].
    Send(Bytes),
    /// The device has it durably: finish it.
    Finish(R),
    /// Sent already: its receipt is kept.
    Kept,
    /// Before it there is a hole.
    Early,
}

impl<R> Feed<R> {
    /// Begins above the device's cursor.
    #[must_use]
    pub fn new(cursor: Seq) -> Self {
        Self { cursor, acked: cursor, next: cursor + 1, sent: VecDeque::new(), early: BTreeMap::new() }
    }

    /// The seq that is sent next.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.next
    }

    /// The device has acknowledged up to here.
    #[must_use]
    pub fn acked(&self) -> Seq {
        self.acked
    }

    /// What is durable.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Sent and not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.next - 1 - self.acked
    }

    /// A message from the queue.
    pub fn offer(&mut self, seq: Seq, body: Bytes, receipt: R) -> Offered<R> {
        if seq <= self.cursor {
            return Offered::Finish(receipt);
        }
        if seq < self.next {
            let at = self.sent.partition_point(|sent| sent.seq < seq);
            match self.sent.get_mut(at) {
                Some(sent) if sent.seq == seq => sent.receipts.push(receipt),
                _ => self.sent.insert(at, Sent { seq, receipts: vec![receipt] }),
            }
            return Offered::Kept;
        }
        if seq == self.next || planted!(SkipHoles) {
            self.next = seq + 1;
            let mut receipts = vec![receipt];
            // It may be held already, when the queue brought it twice.
            if let Some((_, held)) = self.early.remove(&seq) {
                receipts.extend(held);
            }
            self.sent.push_back(Sent { seq, receipts });
            return Offered::Send(body);
        }
        let held = self.early.entry(seq).or_insert_with(|| (body, Vec::new()));
        held.1.push(receipt);
        Offered::Early
    }

    /// The held message whose turn it is now, to be sent.
    pub fn next_early(&mut self) -> Option<Bytes> {
        let (body, receipts) = self.early.remove(&self.next)?;
        self.sent.push_back(Sent { seq: self.next, receipts });
        self.next += 1;
        Some(body)
    }

    /// A message from the log. True: send it, and then ask [`Feed::next_early`].
    pub fn fill(&mut self, seq: Seq) -> bool {
        if seq != self.next {
            return false;
        }
        self.next += 1;
        if let Some((_, receipts)) = self.early.remove(&seq) {
            self.sent.push_back(Sent { seq, receipts });
        }
        true
    }

    /// The hole before the first held message: its last seq. None: there is no hole.
    #[must_use]
    pub fn hole(&self) -> Option<Seq> {
        self.early.first_key_value().map(|(first, _)| first - 1).filter(|last| *last >= self.next)
    }

    /// These seqs are nowhere any more: goes on behind them. Answers the stretch to be told, if it is still missing.
    pub fn give_up(&mut self, to: Seq) -> Option<(Seq, Seq)> {
        if to < self.next {
            return None;
        }
        let from = std::mem::replace(&mut self.next, to + 1);
        // What is held inside the stretch was told as gone; it must not be left in the map for ever.
        let kept = self.early.split_off(&self.next);
        for (seq, (_, receipts)) in std::mem::replace(&mut self.early, kept) {
            self.sent.push_back(Sent { seq, receipts });
        }
        Some((from, to))
    }

    /// The device has everything up to `seq`. False: it was never sent so far.
    pub fn ack(&mut self, seq: Seq) -> bool {
        if seq >= self.next {
            return false;
        }
        self.acked = self.acked.max(seq);
        true
    }

    /// The cursor is durable up to `seq`: these receipts can be finished now.
    pub fn confirm(&mut self, seq: Seq) -> Vec<R> {
        self.cursor = self.cursor.max(seq);
        self.acked = self.acked.max(self.cursor);
        self.next = self.next.max(self.cursor + 1);
        self.release(self.cursor)
    }

    /// The receipts of what was sent up to `seq`.
    pub(super) fn release(&mut self, seq: Seq) -> Vec<R> {
        let mut released = Vec::new();
        while self.sent.front().is_some_and(|sent| sent.seq <= seq) {
            released.extend(self.sent.pop_front().into_iter().flat_map(|sent| sent.receipts));
        }
        released
    }

    /// Drops what is held for later: its receipts go back to the queue.
    pub fn drop_early(&mut self) {
        self.early.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(seq: Seq) -> Bytes {
        Bytes::from(seq.to_string())
    }

    /// What the queue, the log and the device do, in any order.
    #[derive(Debug, Clone)]
    enum Step {
        Queue(Seq),
        Log(u8),
        Ack(u8),
        Confirm,
        GiveUp(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1..30u64).prop_map(Step::Queue),
            2 => (1..6u8).prop_map(Step::Log),
            3 => (0..6u8).prop_map(Step::Ack),
            2 => Just(Step::Confirm),
            1 => (0..3u8).prop_map(Step::GiveUp),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        // The model is one sentence: each seq above the cursor goes out once, in order, unless it was given up; and each
        // receipt is finished once, never before its seq is durable.
        #[test]
        fn sends_each_seq_once_and_finishes_each_receipt_once(start in 0..10u64, steps in steps()) {
            let mut feed: Feed<(Seq, usize)> = Feed::new(start);
            let mut sent: Vec<Seq> = Vec::new();
            let mut expected = start + 1;
            let mut offered = 0usize;
            let mut finished: Vec<(Seq, usize)> = Vec::new();
            let mut durable = start;
            for step in steps {
                let mut out: Vec<Seq> = Vec::new();
                match step {
                    Step::Queue(seq) => {
                        offered += 1;
                        match feed.offer(seq, body(seq), (seq, offered)) {
                            Offered::Send(bytes) => out.push(String::from_utf8(bytes.to_vec()).unwrap().parse().unwrap()),
                            Offered::Finish(receipt) => {
                                prop_assert!(receipt.0 <= durable);
                                finished.push(receipt);
                            }
                            Offered::Kept => prop_assert!(seq < feed.next()),
                            Offered::Early => prop_assert!(seq > feed.next()),
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
                        for receipt in feed.confirm(durable) {
                            prop_assert!(receipt.0 <= durable);
                            finished.push(receipt);
                        }
                    }
                    Step::GiveUp(ahead) => {
                        let to = feed.next() + u64::from(ahead);
                        prop_assert_eq!(feed.give_up(to), Some((expected, to)));
                        expected = to + 1;
                    }
                }
                while let Some(bytes) = feed.next_early() {
                    out.push(String::from_utf8(bytes.to_vec()).unwrap().parse().unwrap());
                }
                for seq in out {
                    prop_assert_eq!(seq, expected, "sent {:?}", sent);
                    expected += 1;
                    sent.push(seq);
                }
                prop_assert_eq!(feed.next(), expected);
            }
            let mut seen: Vec<usize> = finished.iter().map(|receipt| receipt.1).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), finished.len(), "a receipt was finished twice");
            // Whatever is left is still held: nothing was lost on the way.
            let last = feed.next() - 1;
            feed.ack(last);
            let held_early = feed.early.values().map(|held| held.1.len()).sum::<usize>();
            prop_assert_eq!(finished.len() + feed.confirm(last).len() + held_early, offered);
        }
    }

    #[test]
    fn a_hole_is_known_by_what_is_held_behind_it() {
        let mut feed = Feed::new(4);
        assert_eq!(feed.offer(8, body(8), ()), Offered::Early);
        assert_eq!(feed.hole(), Some(7));
        assert!(feed.fill(5) && feed.fill(6) && feed.fill(7));
        assert_eq!(feed.hole(), None);
        assert_eq!(feed.next_early(), Some(body(8)));
        assert_eq!(feed.unacked(), 4);
    }
}
