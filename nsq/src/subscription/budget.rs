//! What several subscriptions may hold together: a bound over all of them, shared fairly. The ledger is pure; [`Budget`]
//! puts a lock around it, [`Account`] is one subscription's entry in it.
//!
//! Three rules:
//! - **What may come is counted before it comes.** A subscription that lets nsqd run ahead reserves room for that, so that
//!   200 subscriptions which find a backlog at the same moment don't fetch 200 windows.
//! - **The first is free.** A subscription that holds nothing is always ready for one message: whether there is one shows
//!   only when it comes, and it must come at once. So all hold at most the limit and one each; and never twice the limit:
//!   what comes beyond that is given back.
//! - **First come, first served.** Who finds no room stands in line with RDY 0. What is settled wakes the first in line,
//!   and whoever takes a share wakes the next if there is still room. While somebody waits, nobody grows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::credit::Wish;
use super::receipt::Link;

/// Bounds what subscriptions hold together: messages that nsqd has given out and that aren't settled, and the bytes of
/// their bodies. Clones are one budget; see [`crate::SubscribeOptions::budget`].
///
/// All together hold at most `messages` and one for each subscription, beside what was on its way when nsqd was told to send
/// less (it doesn't confirm that); and never more than twice `messages`: what comes beyond that is given back at once. Bytes are
/// bounded alike, by what recent bodies were like; never are more than twice `bytes` held.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Mutex<Ledger<Arc<Link>>>>,
}

impl Budget {
    /// Room for so many messages (at least 1) and so many bytes of bodies (at least 1).
    #[must_use]
    pub fn new(messages: u32, bytes: usize) -> Self {
        Self { shared: Arc::new(Mutex::new(Ledger::new(Amount { messages, bytes }))) }
    }

    /// How many messages all subscriptions hold now, and how many bytes.
    #[must_use]
    pub fn held(&self) -> (u32, usize) {
        let held = self.ledger().held;
        (held.messages, held.bytes)
    }

    /// Whether a subscription waits for room.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.ledger().line.is_empty()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Link>>> {
        // Nothing in here panics while the lock is held, so a poisoned ledger is whole.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One subscription's part of a budget; without a budget it may do as it wishes. Dropped, it gives everything back.
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

    /// A message of so many bytes has come. False: it is to be given back.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        self.budget.as_ref().is_none_or(|budget| budget.ledger().takes(&mut self.entry, bytes))
    }

    /// What is held now, and what is wished for: the RDY to tell nsqd.
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
    /// What is held, and what may come beside the first.
    claimed: Amount,
    /// Its number in the line; 0: it isn't in it.
    place: u64,
}

#[derive(Debug)]
struct Ledger<W> {
    limit: Amount,
    held: Amount,
    claimed: Amount,
    line: VecDeque<(u64, W)>,
    last_place: u64,
}

impl<W: Clone> Ledger<W> {
    fn new(limit: Amount) -> Self {
        let limit = Amount { messages: limit.messages.max(1), bytes: limit.bytes.max(1) };
        Self {
            limit,
            held: Amount::default(),
            claimed: Amount::default(),
            line: VecDeque::new(),
            last_place: 0,
        }
    }

    /// See [`Account::takes`]. However small the limit is, one message is held.
    fn takes(&mut self, entry: &mut Entry, bytes: usize) -> bool {
        let most = self.limit.plus(self.limit);
        if self.held.messages > 0
            && (self.held.messages >= most.messages || self.held.bytes.saturating_add(bytes) > most.bytes)
        {
            return false;
        }
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
        self.held = self.held.minus(entry.held).plus(held);
        entry.held = held;
        let before = entry.claimed.messages;
        let wanted = wish.ahead.min(wish.most.saturating_sub(wish.live));
        // Beyond twice the limit it would only be given back.
        let is_over = self.held.messages >= self.limit.messages.saturating_mul(2)
            || self.held.bytes >= self.limit.bytes.saturating_mul(2);
        let free = u32::from(held.messages == 0 && !is_over).min(wanted);
        let room = self.limit.minus(self.claimed.minus(entry.claimed).plus(held));
        let more = self.share(entry, before, wanted - free, room, wish.large);
        let ahead = free + more;
        let told = if ahead == 0 && wanted > 0 { 0 } else { wish.rdy(ahead) };
        if ahead == 0 && wanted > 0 {
            self.stands_in_line(entry, wake);
        } else {
            self.leaves_the_line(entry);
        }
        let coming = told.saturating_sub(wish.live).saturating_sub(free);
        let coming = Amount { messages: coming, bytes: wish.large.saturating_mul(coming as usize) };
        self.claims(entry, held.plus(coming));
        told
    }

    /// How much of what is wanted there is room for, beside those who wait.
    fn share(&self, entry: &Entry, before: u32, wanted: u32, room: Amount, large: usize) -> u32 {
        if wanted == 0 || room.is_none() {
            return 0;
        }
        let fitting = u32::try_from(room.bytes / large.max(1)).unwrap_or(u32::MAX).max(1);
        let room = room.messages.min(fitting);
        let is_first = self.line.front().is_none_or(|(place, _)| *place == entry.place);
        if is_first {
            let others = self.line.len() - usize::from(entry.place != 0);
            return wanted.min((room / (others as u32 + 1)).max(1));
        }
        if entry.place != 0 {
            return 0;
        }
        // Those who wait come first: it gets no more than it was promised. That much it keeps, because it may be on its way:
        // nsqd doesn't say when it has taken a lower RDY.
        wanted.min(before.saturating_sub(entry.held.messages)).min(room)
    }

    fn stands_in_line(&mut self, entry: &mut Entry, wake: &W) {
        if entry.place == 0 {
            self.last_place += 1;
            entry.place = self.last_place;
            self.line.push_back((entry.place, wake.clone()));
        }
    }

    fn leaves_the_line(&mut self, entry: &mut Entry) {
        if entry.place != 0 {
            // Places rise from the front to the back.
            if let Ok(at) = self.line.binary_search_by_key(&entry.place, |(place, _)| *place) {
                self.line.remove(at);
            }
            entry.place = 0;
            if self.line.is_empty() {
                self.line = VecDeque::new();
            }
        }
    }

    fn claims(&mut self, entry: &mut Entry, claimed: Amount) {
        self.claimed = self.claimed.minus(entry.claimed).plus(claimed);
        entry.claimed = claimed;
    }

    fn closes(&mut self, entry: &mut Entry) {
        self.leaves_the_line(entry);
        self.held = self.held.minus(entry.held);
        entry.held = Amount::default();
        self.claims(entry, Amount::default());
    }

    /// Who is to look whether there is room for it now.
    fn next(&self) -> Option<W> {
        let (_, first) = self.line.front()?;
        (!self.limit.minus(self.claimed).is_none()).then(|| first.clone())
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
