//! A bound over several subscriptions, shared fairly. The ledger is pure; [`Budget`] puts a lock around it, [`Account`]
//! is one subscription's entry in it.
//!
//! Four rules:
//! - **What may come is counted before it comes.** A subscription that lets nsqd run ahead reserves room for that, so
//!   that 200 subscriptions which find a backlog at the same moment don't fetch 200 windows.
//! - **The first is free.** A subscription that holds nothing is always ready for one message: whether there is one
//!   shows only when it comes, and it must come at once. So all hold at most the limit and one each, and never twice
//!   the limit: what comes beyond that is requeued.
//! - **A requeued message isn't requested before it fits.** nsqd would send it again at once, until it does.
//! - **First come, first served.** A subscription that finds no room waits in a line; there is one line for those that
//!   wait for their first message beyond twice the limit, and one for those that want more. A settlement wakes the
//!   first in line, and a subscription that takes a share wakes the next if there is still room. While one waits, none
//!   grows, and what is settled goes to the line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::credit::Wish;
use super::receipt::Link;

/// Bounds what subscriptions hold together: messages that nsqd has delivered and that aren't settled, and the bytes of
/// their bodies. Clones share one budget; see [`crate::SubscribeOptions::budget`].
///
/// All together hold at most `messages` and one for each subscription, besides what was on its way when nsqd was asked
/// to send less (nsqd doesn't confirm that); and never more than twice `messages`: what comes beyond that is requeued
/// at once. Bytes are bounded in the same way, by the sizes of recent bodies; at most twice `bytes` are ever held.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Mutex<Ledger<Arc<Link>>>>,
}

impl Budget {
    /// Returns a budget of `messages` messages (at least 1) and `bytes` bytes of bodies (at least 1).
    #[must_use]
    pub fn new(messages: u32, bytes: usize) -> Self {
        Self { shared: Arc::new(Mutex::new(Ledger::new(Amount { messages, bytes }))) }
    }

    /// Returns how many messages all subscriptions hold now, and how many bytes.
    #[must_use]
    pub fn held(&self) -> (u32, usize) {
        let held = self.ledger().held;
        (held.messages, held.bytes)
    }

    /// Returns whether a subscription waits for room, or for some of its own messages to be settled.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let ledger = self.ledger();
        ledger.sated > 0 || !ledger.firsts.is_empty() || !ledger.line.is_empty()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Link>>> {
        // Nothing in here panics while the lock is held, so a poisoned ledger is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscription's part of a budget; without a budget it is unlimited. Dropping it returns everything.
#[derive(Debug)]
pub(super) struct Account {
    budget: Option<Budget>,
    entry: Entry,
    wake: Arc<Link>,
}

impl Account {
    pub(super) fn open(budget: Option<Budget>, wake: Arc<Link>) -> Self {
        Self { budget, entry: Entry::default(), wake }
    }

    /// Records that a message of this many bytes has come. Returns false if it must be requeued.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.ledger().takes(&mut self.entry, bytes))
    }

    /// Returns the RDY to send to nsqd, from what is held now and what is wanted.
    pub(super) fn grants(&mut self, held: Amount, wish: Wish) -> u32 {
        let Some(budget) = &self.budget else { return wish.rdy(wish.ahead) };
        let mut ledger = budget.ledger();
        let told = ledger.grants(&mut self.entry, held, wish, &self.wake);
        let next = ledger.next();
        drop(ledger);
        next.inspect(|next| next.wake.notify_one());
        told
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            let mut ledger = budget.ledger();
            ledger.closes(&mut self.entry);
            let next = ledger.next();
            drop(ledger);
            next.inspect(|next| next.wake.notify_one());
        }
    }
}

/// Messages, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) messages: u32,
    pub(super) bytes: usize,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn is_none(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// What the ledger knows of one subscription.
#[derive(Debug, Default)]
struct Entry {
    held: Amount,
    /// What is held, and what may come besides the first message.
    claimed: Amount,
    /// Bytes of the requeued message, until one is accepted.
    refused: Option<usize>,
    /// Its first message, which is known to wait and is allowed to come.
    booked: Amount,
    /// 1: it wants more than one at once, 0: it doesn't.
    greedy: u32,
    /// 1: it has its part and waits for what it holds to be settled, 0: it doesn't.
    sated: u32,
    /// Its places in [`Ledger::firsts`] and in [`Ledger::line`]; 0: it isn't there. It is never in both.
    first: u64,
    place: u64,
}

#[derive(Debug)]
struct Ledger<W> {
    limit: Amount,
    held: Amount,
    claimed: Amount,
    /// Counted only against those that would be allowed to come, too: a message that never comes (its queue was
    /// emptied) must not block others without end.
    booked: Amount,
    /// How many want more than one at once.
    greedy: u32,
    /// How many have their part, and wait for what they hold to be settled.
    sated: u32,
    /// Those that hold nothing, and may not even have their first message.
    firsts: Line<W>,
    /// Those that want more than they have.
    line: Line<W>,
}

/// The waiters, in order.
#[derive(Debug)]
struct Line<W> {
    waiting: VecDeque<Waiting<W>>,
    last_place: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    place: u64,
    wake: W,
    /// Bytes that must fit before a wake-up is useful; 0: none.
    needs: usize,
}

impl<W: Clone> Line<W> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), last_place: 0 }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether no waiter is before the one with this place (0: it isn't in the line).
    fn is_first(&self, place: u64) -> bool {
        self.waiting.front().is_none_or(|first| first.place == place)
    }

    /// Adds a waiter at the end, or keeps its place.
    fn stands(&mut self, place: &mut u64, wake: &W, needs: usize) {
        if *place == 0 {
            self.last_place += 1;
            *place = self.last_place;
            self.waiting.push_back(Waiting { place: *place, wake: wake.clone(), needs });
        } else if let Ok(at) = self.find(*place) {
            self.waiting[at].needs = needs;
        }
    }

    fn leaves(&mut self, place: &mut u64) {
        if *place != 0 {
            if let Ok(at) = self.find(*place) {
                self.waiting.remove(at);
            }
            *place = 0;
            if self.waiting.is_empty() {
                self.waiting = VecDeque::new();
            }
        }
    }

    /// Places rise from the front to the back.
    fn find(&self, place: u64) -> Result<usize, usize> {
        self.waiting.binary_search_by_key(&place, |waiting| waiting.place)
    }
}

impl<W: Clone> Ledger<W> {
    fn new(limit: Amount) -> Self {
        let limit = Amount { messages: limit.messages.max(1), bytes: limit.bytes.max(1) };
        Self {
            limit,
            held: Amount::default(),
            claimed: Amount::default(),
            booked: Amount::default(),
            greedy: 0,
            sated: 0,
            firsts: Line::new(),
            line: Line::new(),
        }
    }

    /// See [`Account::takes`]. However small the limit is, one message is held.
    fn takes(&mut self, entry: &mut Entry, bytes: usize) -> bool {
        self.books(entry, Amount::default());
        if !self.fits(self.held, bytes) {
            entry.refused = Some(bytes);
            return false;
        }
        entry.refused = None;
        let one = Amount { messages: 1, bytes };
        self.held = self.held.plus(one);
        entry.held = entry.held.plus(one);
        // It may have been counted before it came.
        let claimed = Amount {
            messages: entry.claimed.messages.max(entry.held.messages),
            bytes: entry.claimed.bytes.max(entry.held.bytes),
        };
        self.claims(entry, claimed);
        true
    }

    /// See [`Account::grants`].
    fn grants(&mut self, entry: &mut Entry, held: Amount, wish: Wish, wake: &W) -> u32 {
        // These may be on their way: nsqd doesn't confirm a lower RDY.
        let promised = entry.claimed.messages.saturating_sub(entry.held.messages);
        self.held = self.held.minus(entry.held).plus(held);
        entry.held = held;
        let is_turn = entry.booked.messages > 0 || self.firsts.is_first(entry.first);
        self.books(entry, Amount::default());
        self.counts(entry, u32::from(wish.ahead > 1), 0);
        let wanted = wish.ahead.min(wish.most.saturating_sub(wish.live));
        let needs = self.needs(entry, wish.large);
        let (mut free, mut more, mut wants_more) = (0, 0, 0);
        let is_let = wanted == 0 || needs == 0 || self.fits(self.held.plus(self.booked), needs);
        if is_let {
            free = u32::from(held.messages == 0 && is_turn).min(wanted);
            if held.messages > 0 || free > 0 {
                let room = self.limit.minus(self.claimed.minus(entry.claimed).plus(held));
                let most = self.most_of(entry).saturating_sub(held.messages).max(promised);
                wants_more = (wanted - free).min(most);
                more = self.share(entry, promised, wants_more, room, wish.large);
            }
        }
        let ahead = free + more;
        let told = if ahead == 0 && wanted > 0 { 0 } else { wish.rdy(ahead) };
        if wanted > 0 && ahead == 0 && held.messages == 0 {
            self.line.leaves(&mut entry.place);
            self.firsts.stands(&mut entry.first, wake, needs);
        } else {
            self.firsts.leaves(&mut entry.first);
            // A subscription that has its part waits for no other: it checks again when some of that is settled.
            if more == 0 && (wants_more > 0 || !is_let) {
                self.line.stands(&mut entry.place, wake, if is_let { 0 } else { needs });
            } else {
                self.line.leaves(&mut entry.place);
                self.counts(entry, entry.greedy, u32::from(wanted > 0 && ahead == 0));
            }
        }
        if free > 0 && (entry.refused.is_some() || wish.ahead > 1) {
            self.books(entry, Amount { messages: 1, bytes: needs });
        }
        let coming = told.saturating_sub(wish.live).saturating_sub(free);
        let coming = Amount { messages: coming, bytes: wish.large.saturating_mul(coming as usize) };
        self.claims(entry, held.plus(coming));
        told
    }

    /// Returns whether one more message may be held besides this amount: beyond twice the limit it would only be
    /// requeued.
    fn fits(&self, beside: Amount, bytes: usize) -> bool {
        let most = self.limit.plus(self.limit);
        self.held.messages == 0
            || (beside.messages < most.messages && beside.bytes.saturating_add(bytes) <= most.bytes)
    }

    /// Returns how many bytes must fit before anything may come; 0: none. What is known to be on its way isn't checked.
    fn needs(&self, entry: &Entry, large: usize) -> usize {
        match entry.refused {
            Some(bytes) => bytes.max(1),
            None if entry.held.messages == 0 => large.max(1),
            None => 0,
        }
    }

    /// Returns how much it may hold and expect: each subscription that wants many at once gets its part of the limit.
    /// Otherwise one that had settled much could take it all again, while the others' messages are on their way.
    fn most_of(&self, entry: &Entry) -> u32 {
        if entry.greedy == 0 { u32::MAX } else { self.limit.messages.div_ceil(self.greedy.max(1)) }
    }

    /// Returns how much of what is wanted there is room for, besides the waiters.
    fn share(&self, entry: &Entry, promised: u32, wanted: u32, room: Amount, large: usize) -> u32 {
        if wanted == 0 || room.is_none() {
            return 0;
        }
        let fitting = u32::try_from(room.bytes / large.max(1)).unwrap_or(u32::MAX).max(1);
        let room = room.messages.min(fitting);
        if self.line.is_first(entry.place) {
            let others = self.line.waiting.len() - usize::from(entry.place != 0);
            return wanted.min((room / (others as u32 + 1)).max(1));
        }
        if entry.place != 0 {
            return 0;
        }
        // The waiters come first: it gets what is promised already, and nothing for what it has settled.
        wanted.min(promised).min(room)
    }

    fn claims(&mut self, entry: &mut Entry, claimed: Amount) {
        self.claimed = self.claimed.minus(entry.claimed).plus(claimed);
        entry.claimed = claimed;
    }

    fn books(&mut self, entry: &mut Entry, booked: Amount) {
        self.booked = self.booked.minus(entry.booked).plus(booked);
        entry.booked = booked;
    }

    fn counts(&mut self, entry: &mut Entry, greedy: u32, sated: u32) {
        self.greedy = self.greedy - entry.greedy + greedy;
        self.sated = self.sated - entry.sated + sated;
        (entry.greedy, entry.sated) = (greedy, sated);
    }

    fn closes(&mut self, entry: &mut Entry) {
        self.firsts.leaves(&mut entry.first);
        self.line.leaves(&mut entry.place);
        self.held = self.held.minus(entry.held);
        entry.held = Amount::default();
        entry.refused = None;
        self.counts(entry, 0, 0);
        self.books(entry, Amount::default());
        self.claims(entry, Amount::default());
    }

    /// Returns the waiter that shall check now whether there is room for it.
    fn next(&self) -> Option<W> {
        let fits =
            |first: &&Waiting<W>| first.needs == 0 || self.fits(self.held.plus(self.booked), first.needs);
        let first = self.firsts.waiting.front().filter(fits);
        let has_room = !self.limit.minus(self.claimed).is_none();
        let next = first.or_else(|| self.line.waiting.front().filter(|_| has_room).filter(fits));
        next.map(|next| next.wake.clone())
    }
}

#[cfg(test)]
#[path = "../../tests/unit/subscription/budget.rs"]
mod tests;
