//! Puts the messages of one chat and device in order: messages from NSQ (duplicate, late, with holes) and from the log
//! become seq + 1, seq + 1, … Pure: no I/O and no clock. `R` finishes a message in its queue; dropping it requeues the
//! message.
//!
//! A message `s` from the queue: at or below the cursor, it is finished at once; already sent, its receipt is kept for the
//! acknowledgement; the next one is sent; a later one is held until the queue or the log closes the hole before it, and a
//! message above the validated epoch until that is validated. A message that was reported as a gap can't be sent any more
//! on this connection: its receipt is kept until the cursor has passed it.
//!
//! One receipt is kept per message, the newest. An older one is void (nsqd's message time-out) or of another copy (double
//! publication): finishing it is right in both cases, as the newest still holds the message. So the number in flight here
//! can be compared with the queue's own.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::domain::Seq;

/// Gaps below the cursor that are remembered, to recognise late messages.
const GAPS_PASSED: usize = 8;

/// The receipt of a message that was sent, and that its queue has brought.
#[derive(Debug)]
struct Sent<R> {
    seq: Seq,
    receipt: R,
}

/// A message that arrived before its turn.
#[derive(Debug)]
struct Early<R> {
    body: Bytes,
    epoch: u64,
    // None after a requeue, or when its connection is lost: the queue may bring it again, and if it doesn't, it is here.
    receipt: Option<R>,
}

/// State that most chats never have.
#[derive(Debug)]
struct Aside<R> {
    // Reported gaps, ascending and disjoint: all above the cursor, and the last few below it.
    gaps: VecDeque<(Seq, Seq)>,
    // Messages that came after their gap was reported.
    late: BTreeMap<Seq, R>,
    // Early messages without room, without their bodies: requeued a moment later.
    parked: Vec<(Seq, R)>,
}

/// See the module.
#[derive(Debug)]
pub struct Feed<R> {
    // Durable in the store; nothing at or below it is ever sent.
    cursor: Seq,
    // What the device has acknowledged; at least `cursor`.
    acked: Seq,
    // The next seq to be sent.
    next: Seq,
    // The validated epoch: the user is known to be a member at it.
    epoch: u64,
    // Sent, with a receipt to finish, ascending. Messages from the log have no entry until the queue brings them too.
    sent: VecDeque<Sent<R>>,
    // Arrived before their turn.
    early: BTreeMap<Seq, Early<R>>,
    early_bytes: usize,
    // How many of them have receipts.
    returnable: usize,
    aside: Option<Box<Aside<R>>>,
}

/// The result of an offered message.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<R> {
    /// The next in order: send it, then call [`Feed::next_early`].
    Send(Bytes),
    /// Finish this one: the device has the message durably, or its newer receipt is kept.
    Finish(R),
    /// Sent already: its receipt is kept.
    Kept,
    /// There is a hole before it, or its epoch isn't validated.
    Early,
    /// It was reported as a gap: its receipt is kept.
    Late,
    /// It was reported as a gap, and the device has acknowledged past it: finish and log it.
    TooLate(R),
}

/// What a durable cursor settles.
#[derive(Debug)]
pub struct Confirmed<R> {
    /// To be finished.
    pub receipts: Vec<R>,
    /// How many of them were reported as gaps.
    pub late: usize,
    /// Sent messages that count as acknowledged only by this.
    pub acked: u64,
}

impl<R> Feed<R> {
    /// Starts above the device's cursor, with the user a member at this epoch.
    #[must_use]
    pub fn new(cursor: Seq, epoch: u64) -> Self {
        Self {
            cursor,
            acked: cursor,
            next: cursor + 1,
            epoch,
            sent: VecDeque::new(),
            early: BTreeMap::new(),
            early_bytes: 0,
            returnable: 0,
            aside: None,
        }
    }

    /// Returns the seq that is sent next.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Returns how far the device has acknowledged.
    #[must_use]
    pub fn acked(&self) -> Seq {
        self.acked
    }

    /// Returns the durable cursor.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Returns the validated epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the number of unacknowledged messages.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.sent_between(self.acked, self.next - 1)
    }

    /// Returns how many messages in the range were sent; at or below `acked` none count.
    #[must_use]
    pub fn sent_between(&self, above: Seq, to: Seq) -> u64 {
        let gaps = self.aside.iter().flat_map(|aside| &aside.gaps);
        let gone = gaps.map(|(from, last)| (last + 1).min(to + 1).saturating_sub((*from).max(above + 1)));
        to.saturating_sub(above).saturating_sub(gone.sum())
    }

    /// Takes a message from the queue.
    pub fn offer(&mut self, seq: Seq, epoch: u64, body: Bytes, receipt: R) -> Offered<R> {
        if seq < self.next {
            return self.offer_again(seq, receipt);
        }
        // (A held one has its turn already, and waits for room.)
        let is_next = seq == self.next && epoch <= self.epoch && !self.early.contains_key(&seq);
        if is_next {
            self.next = seq + 1;
            self.sent.push_back(Sent { seq, receipt });
            return Offered::Send(body);
        }
        let held = self.early.entry(seq).or_insert_with(|| {
            self.early_bytes += body.len();
            Early { body, epoch, receipt: None }
        });
        held.epoch = held.epoch.max(epoch);
        self.returnable += usize::from(held.receipt.is_none());
        held.receipt.replace(receipt).map_or(Offered::Early, Offered::Finish)
    }

    fn offer_again(&mut self, seq: Seq, receipt: R) -> Offered<R> {
        let gap = self.aside.as_mut().filter(|aside| {
            let at = aside.gaps.partition_point(|gap| gap.1 < seq);
            aside.gaps.get(at).is_some_and(|gap| gap.0 <= seq)
        });
        if seq <= self.cursor {
            return if gap.is_some() { Offered::TooLate(receipt) } else { Offered::Finish(receipt) };
        }
        if let Some(aside) = gap {
            return aside.late.insert(seq, receipt).map_or(Offered::Late, Offered::Finish);
        }
        let at = self.sent.partition_point(|sent| sent.seq < seq);
        match self.sent.get_mut(at) {
            Some(sent) if sent.seq == seq => Offered::Finish(std::mem::replace(&mut sent.receipt, receipt)),
            _ => {
                self.sent.insert(at, Sent { seq, receipt });
                Offered::Kept
            }
        }
    }

    /// Returns whether [`Feed::next_early`] has a message.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.early.first_key_value().is_some_and(|(seq, held)| *seq == self.next && held.epoch <= self.epoch)
    }

    /// Returns whether the next message is held, and its epoch isn't validated.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.early.first_key_value().is_some_and(|(seq, held)| *seq == self.next && held.epoch > self.epoch)
    }

    /// Returns the highest held epoch.
    #[must_use]
    pub fn highest_epoch(&self) -> u64 {
        self.early.values().map(|held| held.epoch).max().unwrap_or(0)
    }

    /// Validates an epoch: the user is a member at it.
    pub fn validate(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// Removes and returns the held message that is next, to be sent.
    pub fn next_early(&mut self) -> Option<Bytes> {
        if !self.has_next() {
            return None;
        }
        let held = self.take_early(self.next)?;
        self.note_sent(held.receipt);
        Some(held.body)
    }

    /// Takes a message from the log. True: send it, then call [`Feed::next_early`].
    pub fn fill(&mut self, seq: Seq) -> bool {
        if seq != self.next {
            return false;
        }
        let receipt = self.take_early(seq).and_then(|held| held.receipt);
        self.note_sent(receipt);
        true
    }

    fn note_sent(&mut self, receipt: Option<R>) {
        if let Some(receipt) = receipt {
            self.sent.push_back(Sent { seq: self.next, receipt });
        }
        self.next += 1;
    }

    fn take_early(&mut self, seq: Seq) -> Option<Early<R>> {
        let held = self.early.remove(&seq)?;
        self.early_bytes -= held.body.len();
        self.returnable -= usize::from(held.receipt.is_some());
        Some(held)
    }

    /// Returns the last seq of the hole before the first held message; none: there is no hole.
    #[must_use]
    pub fn hole(&self) -> Option<Seq> {
        self.early.first_key_value().map(|(first, _)| first - 1).filter(|last| *last >= self.next)
    }

    /// Returns the last missing seq from the next on, if the log begins at `floor`: below all held messages, and all parked
    /// ones. None: the next one is held.
    #[must_use]
    pub fn missing(&self, floor: Seq) -> Option<Seq> {
        let early = self.early.first_key_value().map(|(seq, _)| *seq);
        let parked = self.aside.iter().flat_map(|aside| &aside.parked).map(|(seq, _)| *seq);
        let there = parked.filter(|seq| *seq >= self.next).chain(early).min();
        let last = there.map_or(floor, |seq| seq.min(floor)).saturating_sub(1);
        (last >= self.next).then_some(last)
    }

    /// Returns how many messages are held, and their bytes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.early.len(), self.early_bytes)
    }

    /// Returns how many of them could be requeued.
    #[must_use]
    pub fn returnable(&self) -> usize {
        self.returnable
    }

    /// Returns how many messages are in flight at their queue because this feed has a receipt.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let aside = self.aside.as_ref().map_or(0, |aside| aside.late.len() + aside.parked.len());
        (self.sent.len() + self.returnable + aside) as u64
    }

    /// Requeues early messages but for the lowest `least`, and late ones: at most `most`, the highest, in their order. Returns
    /// how many. The early messages themselves stay: a requeued one may not come again (nsqd loses it if it stops at that
    /// moment).
    pub fn requeue_early(&mut self, least: usize, most: usize) -> usize {
        let count = self.returnable.saturating_sub(least).min(most);
        let with_receipts = self.early.values_mut().filter(|held| held.receipt.is_some());
        with_receipts.skip(self.returnable - count).for_each(|held| held.receipt = None);
        self.returnable -= count;
        let Some(aside) = &mut self.aside else { return count };
        let late = aside.late.len().saturating_sub(least).min(most - count);
        if late > 0 {
            let split = aside.late.keys().nth(aside.late.len() - late).copied();
            drop(split.map(|split| aside.late.split_off(&split)));
        }
        count + late
    }

    /// Forgets the highest early message that was requeued. False: there is none.
    pub fn forget_highest(&mut self) -> bool {
        let given_back = self.early.iter().rev().find(|(_, held)| held.receipt.is_none());
        let highest = given_back.map(|(seq, _)| *seq);
        highest.and_then(|seq| self.take_early(seq)).is_some()
    }

    /// Parks the highest early message: its receipt waits for [`Feed::return_parked`].
    pub fn park_highest(&mut self) {
        let Some((seq, _)) = self.early.last_key_value() else { return };
        let seq = *seq;
        if let Some(receipt) = self.take_early(seq).and_then(|held| held.receipt) {
            self.aside_mut().parked.push((seq, receipt));
        }
    }

    /// Requeues parked messages.
    pub fn return_parked(&mut self) {
        if let Some(aside) = &mut self.aside {
            aside.parked.sort_unstable_by_key(|(seq, _)| *seq);
            aside.parked.clear();
        }
    }

    /// The connection is lost, and all receipts with it. Early messages stay: their queue may have lost them.
    pub fn void(&mut self) {
        self.sent.clear();
        self.early.values_mut().for_each(|held| held.receipt = None);
        self.returnable = 0;
        if let Some(aside) = &mut self.aside {
            aside.late.clear();
            aside.parked.clear();
        }
    }

    /// Skips seqs that nothing holds any more. Returns the range to report, if it is still missing.
    pub fn skip_gap(&mut self, to: Seq) -> Option<(Seq, Seq)> {
        if to < self.next {
            return None;
        }
        let from = std::mem::replace(&mut self.next, to + 1);
        // Early messages inside the range were reported as lost.
        while let Some((seq, _)) = self.early.first_key_value().filter(|(seq, _)| **seq <= to) {
            let seq = *seq;
            if let Some(receipt) = self.take_early(seq).and_then(|held| held.receipt) {
                self.aside_mut().late.insert(seq, receipt);
            }
        }
        let gaps = &mut self.aside_mut().gaps;
        match gaps.back_mut() {
            Some(last) if last.1 + 1 == from => last.1 = to,
            _ => gaps.push_back((from, to)),
        }
        Some((from, to))
    }

    fn aside_mut(&mut self) -> &mut Aside<R> {
        self.aside.get_or_insert_with(|| {
            Box::new(Aside { gaps: VecDeque::new(), late: BTreeMap::new(), parked: Vec::new() })
        })
    }

    /// The device has everything up to `seq`. False: it wasn't sent yet.
    pub fn ack(&mut self, seq: Seq) -> bool {
        if seq >= self.next {
            return false;
        }
        self.acked = self.acked.max(seq);
        true
    }

    /// The cursor is durable up to `seq`: returns the receipts that can be finished.
    pub fn confirm(&mut self, seq: Seq) -> Confirmed<R> {
        self.cursor = self.cursor.max(seq);
        let acked = self.sent_between(self.acked, self.cursor.min(self.next - 1));
        self.acked = self.acked.max(self.cursor);
        self.next = self.next.max(self.cursor + 1);
        let mut receipts = self.release(self.cursor);
        // Another session has delivered further.
        while let Some((seq, _)) = self.early.first_key_value().filter(|(seq, _)| **seq <= self.cursor) {
            let seq = *seq;
            receipts.extend(self.take_early(seq).and_then(|held| held.receipt));
        }
        let mut late = 0;
        if let Some(aside) = &mut self.aside {
            let above = aside.late.split_off(&(self.cursor + 1));
            let below = std::mem::replace(&mut aside.late, above);
            late = below.len();
            receipts.extend(below.into_values());
            let passed = aside.gaps.partition_point(|gap| gap.1 <= self.cursor);
            aside.gaps.drain(..passed.saturating_sub(GAPS_PASSED));
        }
        Confirmed { receipts, late, acked }
    }

    /// Takes the receipts of messages up to `seq`.
    pub(super) fn release(&mut self, seq: Seq) -> Vec<R> {
        let mut released = Vec::new();
        while self.sent.front().is_some_and(|sent| sent.seq <= seq) {
            released.extend(self.sent.pop_front().map(|sent| sent.receipt));
        }
        released
    }
}

#[cfg(test)]
#[path = "../../tests/unit/session/feed.rs"]
mod tests;
