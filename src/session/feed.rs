//! One chat of one device, made into order: what NSQ brings (twice, late, with holes) and what the log heals becomes
//! seq + 1, seq + 1, … Pure: no I/O and no clock; `R` is what finishes a message in its queue. A receipt that is dropped
//! gives its message back.
//!
//! For a message `s` from the queue: up to the cursor it is finished at once; already sent, its receipt is kept for the
//! acknowledgement; the next one is sent; a later one is held until the hole before it is closed, by the queue itself
//! within a moment or from the log. So is one of an epoch above the validated one, until that is validated. What was told
//! as a gap can't be sent any more on this connection: its receipt is kept until the cursor has passed it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::domain::Seq;

/// Copies of one message whose receipts are kept. A queue may bring a message again and again (each time that nsqd's
/// patience is over, the older receipt is void), and all of them are of one message.
const COPIES: usize = 4;
/// Gaps below the cursor that are remembered, to know what comes late.
const GAPS_PASSED: usize = 8;

/// The receipts of one message that was sent: none when it came from the log, several when the queue brought it twice.
#[derive(Debug)]
struct Sent<R> {
    seq: Seq,
    receipts: Vec<R>,
}

/// A message that arrived before its turn.
#[derive(Debug)]
struct Early<R> {
    body: Bytes,
    epoch: u64,
    // None once the connection that it came on is lost: the queue brings it again, and if it doesn't, it is here.
    receipts: Vec<R>,
}

/// What most chats never have.
#[derive(Debug)]
struct Aside<R> {
    // Told as gaps, ascending, apart from each other: all above the cursor, and the last few below it.
    gaps: VecDeque<(Seq, Seq)>,
    // What came after it was told as a gap.
    late: BTreeMap<Seq, Vec<R>>,
    // Early messages for which there was no room, without their bodies: given back a moment later.
    parked: Vec<(Seq, Vec<R>)>,
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
    // The device's user is known to be a member at this epoch.
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

/// What became of a message that was offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<R> {
    /// It is the next: send it, and then ask [`Feed::next_early`].
    Send(Bytes),
    /// The device has it durably, or its queue has it too often: finish it.
    Finish(R),
    /// Sent already: its receipt is kept.
    Kept,
    /// Before it there is a hole, or it is of a later epoch.
    Early,
    /// It was told as a gap: its receipt is kept.
    Late,
    /// It was told as a gap, and the device has acknowledged what is behind that: finish it, but not silently.
    TooLate(R),
}

/// What a durable cursor settles.
#[derive(Debug)]
pub struct Confirmed<R> {
    /// To be finished.
    pub receipts: Vec<R>,
    /// Of so many messages that were told as gaps.
    pub late: usize,
    /// So many messages that were sent count as acknowledged only by this.
    pub acked: u64,
}

/// Keeps one more receipt of a message; the one that is too much is answered, to be finished: others of its copies are left.
fn keep<R>(receipts: &mut Vec<R>, receipt: R) -> Option<R> {
    receipts.push(receipt);
    (receipts.len() > COPIES).then(|| receipts.remove(0))
}

impl<R> Feed<R> {
    /// Begins above the device's cursor; its user is a member at this epoch.
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

    /// The validated epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Messages sent and not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.sent_between(self.acked, self.next - 1)
    }

    /// How many messages above the one and up to the other were sent; not below what is acknowledged.
    #[must_use]
    pub fn sent_between(&self, above: Seq, to: Seq) -> u64 {
        let gaps = self.aside.iter().flat_map(|aside| &aside.gaps);
        let gone = gaps.map(|(from, last)| (last + 1).min(to + 1).saturating_sub((*from).max(above + 1)));
        to.saturating_sub(above).saturating_sub(gone.sum())
    }

    /// A message from the queue.
    pub fn offer(&mut self, seq: Seq, epoch: u64, body: Bytes, receipt: R) -> Offered<R> {
        if seq < self.next {
            return self.offer_again(seq, receipt);
        }
        if (seq == self.next && epoch <= self.epoch) || planted!(SkipHoles) {
            let mut receipts = vec![receipt];
            // It may be held already, when the queue brought it twice.
            if let Some(held) = self.take_early(seq) {
                receipts.extend(held.receipts);
            }
            self.next = seq + 1;
            self.sent.push_back(Sent { seq, receipts });
            return Offered::Send(body);
        }
        let held = self.early.entry(seq).or_insert_with(|| {
            self.early_bytes += body.len();
            Early { body, epoch, receipts: Vec::new() }
        });
        held.epoch = held.epoch.max(epoch);
        self.returnable += usize::from(held.receipts.is_empty());
        keep(&mut held.receipts, receipt).map_or(Offered::Early, Offered::Finish)
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
            let receipts = aside.late.entry(seq).or_default();
            return keep(receipts, receipt).map_or(Offered::Late, Offered::Finish);
        }
        let at = self.sent.partition_point(|sent| sent.seq < seq);
        match self.sent.get_mut(at) {
            Some(sent) if sent.seq == seq => {
                keep(&mut sent.receipts, receipt).map_or(Offered::Kept, Offered::Finish)
            }
            _ => {
                self.sent.insert(at, Sent { seq, receipts: vec![receipt] });
                Offered::Kept
            }
        }
    }

    /// Whether [`Feed::next_early`] has something.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.early.first_key_value().is_some_and(|(seq, held)| *seq == self.next && held.epoch <= self.epoch)
    }

    /// Whether what would be the next is held, and its epoch isn't validated.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        self.early.first_key_value().is_some_and(|(seq, held)| *seq == self.next && held.epoch > self.epoch)
    }

    /// The highest epoch of what is held.
    #[must_use]
    pub fn highest_epoch(&self) -> u64 {
        self.early.values().map(|held| held.epoch).max().unwrap_or(0)
    }

    /// The user is known to be a member at this epoch.
    pub fn validate(&mut self, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
    }

    /// The held message whose turn it is now, to be sent.
    pub fn next_early(&mut self) -> Option<Bytes> {
        if !self.has_next() {
            return None;
        }
        let held = self.take_early(self.next)?;
        self.note_sent(held.receipts);
        Some(held.body)
    }

    /// A message from the log. True: send it, and then ask [`Feed::next_early`].
    pub fn fill(&mut self, seq: Seq) -> bool {
        if seq != self.next {
            return false;
        }
        let receipts = self.take_early(seq).map(|held| held.receipts).unwrap_or_default();
        self.note_sent(receipts);
        true
    }

    fn note_sent(&mut self, receipts: Vec<R>) {
        if !receipts.is_empty() {
            self.sent.push_back(Sent { seq: self.next, receipts });
        }
        self.next += 1;
    }

    fn take_early(&mut self, seq: Seq) -> Option<Early<R>> {
        let held = self.early.remove(&seq)?;
        self.early_bytes -= held.body.len();
        self.returnable -= usize::from(!held.receipts.is_empty());
        Some(held)
    }

    /// The hole before the first held message: its last seq. None: there is no hole.
    #[must_use]
    pub fn hole(&self) -> Option<Seq> {
        self.early.first_key_value().map(|(first, _)| first - 1).filter(|last| *last >= self.next)
    }

    /// How many messages are held for later, and their bytes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.early.len(), self.early_bytes)
    }

    /// How many of them could be given back.
    #[must_use]
    pub fn returnable(&self) -> usize {
        self.returnable
    }

    /// Messages that are in flight at their queue because this feed has a receipt for them. (Not more: of a message that the
    /// queue brought twice one receipt may be void.)
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let aside = self.aside.as_ref().map_or(0, |aside| aside.late.len() + aside.parked.len());
        (self.sent.len() + self.returnable + aside) as u64
    }

    /// Gives back what came too early but for the lowest `least`, and so of what came too late: at most `most` messages, the
    /// highest. In their order, so that they come again in it. Answers how many.
    pub fn give_way(&mut self, least: usize, most: usize) -> usize {
        if planted!(KeepEarly) {
            return 0;
        }
        let count = self.returnable.saturating_sub(least).min(most);
        if count > 0 {
            let with_receipts = self.early.iter().filter(|(_, held)| !held.receipts.is_empty());
            let seqs: Vec<Seq> = with_receipts.map(|(seq, _)| *seq).skip(self.returnable - count).collect();
            seqs.into_iter().for_each(|seq| drop(self.take_early(seq)));
        }
        let Some(aside) = &mut self.aside else { return count };
        let late = aside.late.len().saturating_sub(least).min(most - count);
        if late > 0 {
            let split = aside.late.keys().nth(aside.late.len() - late).copied();
            drop(split.map(|split| aside.late.split_off(&split)));
        }
        count + late
    }

    /// Lets go of the highest of what is held for later: its receipts wait for [`Feed::return_parked`].
    pub fn park_highest(&mut self) {
        let with_receipts = self.early.iter().rev().find(|(_, held)| !held.receipts.is_empty());
        let highest = with_receipts.or_else(|| self.early.iter().next_back()).map(|(seq, _)| *seq);
        let Some((seq, held)) = highest.and_then(|seq| Some((seq, self.take_early(seq)?))) else { return };
        if !held.receipts.is_empty() {
            self.aside_mut().parked.push((seq, held.receipts));
        }
    }

    /// Gives back what [`Feed::park_highest`] let go of.
    pub fn return_parked(&mut self) {
        if let Some(aside) = &mut self.aside {
            aside.parked.sort_unstable_by_key(|(seq, _)| *seq);
            aside.parked.clear();
        }
    }

    /// The connection is lost, and all receipts with it. What is held for later stays: if its queue lost it, it is here.
    pub fn void(&mut self) {
        self.sent.clear();
        self.early.values_mut().for_each(|held| held.receipts.clear());
        self.returnable = 0;
        if let Some(aside) = &mut self.aside {
            aside.late.clear();
            aside.parked.clear();
        }
    }

    /// These seqs are nowhere any more: goes on behind them. Answers the stretch to be told, if it is still missing.
    pub fn give_up(&mut self, to: Seq) -> Option<(Seq, Seq)> {
        if to < self.next {
            return None;
        }
        let from = std::mem::replace(&mut self.next, to + 1);
        // What is held inside the stretch was told as gone.
        while let Some((seq, _)) = self.early.first_key_value().filter(|(seq, _)| **seq <= to) {
            let seq = *seq;
            if let Some(held) = self.take_early(seq).filter(|held| !held.receipts.is_empty()) {
                self.aside_mut().late.insert(seq, held.receipts);
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

    /// The device has everything up to `seq`. False: it was never sent so far.
    pub fn ack(&mut self, seq: Seq) -> bool {
        if seq >= self.next {
            return false;
        }
        self.acked = self.acked.max(seq);
        true
    }

    /// The cursor is durable up to `seq`: these receipts can be finished now.
    pub fn confirm(&mut self, seq: Seq) -> Confirmed<R> {
        self.cursor = self.cursor.max(seq);
        let acked = self.sent_between(self.acked, self.cursor.min(self.next - 1));
        self.acked = self.acked.max(self.cursor);
        self.next = self.next.max(self.cursor + 1);
        let mut receipts = self.release(self.cursor);
        // Another session has delivered further.
        while let Some((seq, _)) = self.early.first_key_value().filter(|(seq, _)| **seq <= self.cursor) {
            let seq = *seq;
            receipts.extend(self.take_early(seq).into_iter().flat_map(|held| held.receipts));
        }
        let mut late = 0;
        if let Some(aside) = &mut self.aside {
            let above = aside.late.split_off(&(self.cursor + 1));
            let below = std::mem::replace(&mut aside.late, above);
            late = below.len();
            receipts.extend(below.into_values().flatten());
            let passed = aside.gaps.partition_point(|gap| gap.1 <= self.cursor);
            aside.gaps.drain(..passed.saturating_sub(GAPS_PASSED));
        }
        Confirmed { receipts, late, acked }
    }

    /// The receipts of what was sent up to `seq`.
    pub(super) fn release(&mut self, seq: Seq) -> Vec<R> {
        let mut released = Vec::new();
        while self.sent.front().is_some_and(|sent| sent.seq <= seq) {
            released.extend(self.sent.pop_front().into_iter().flat_map(|sent| sent.receipts));
        }
        released
    }
}

#[cfg(test)]
mod tests;
