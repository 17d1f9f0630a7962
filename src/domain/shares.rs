//! Shared room of which one holder may take at most an eighth of what is free: the fuller the room, the less one holder
//! may take, so that some is always left for the next. The holders of one neighbourhood have at most a quarter
//! together, so that a holder of many neighbouring addresses doesn't count as many.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use super::network::Neighbourhood;

/// One holder has at most the free room divided by this.
const PARTS: usize = 8;
/// One neighbourhood has at most the free room divided by this.
const PARTS_OF_NEIGHBOURS: usize = 4;

/// A holder of shares.
pub trait Holder: Eq + Hash + Clone {
    /// Returns the holder's neighbourhood. Returns none if the holder isn't known by an address.
    fn neighbours(&self) -> Option<Neighbourhood>;
}

/// A shared room; see the module. All clones share one room.
#[derive(Debug)]
pub struct Shares<K>(Arc<Room<K>>);

#[derive(Debug)]
struct Room<K> {
    size: usize,
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K> {
    all: usize,
    by: HashMap<K, usize>,
    near: HashMap<Neighbourhood, usize>,
}

/// A held share. Dropping it frees it.
#[derive(Debug)]
pub struct Share<K: Holder> {
    room: Arc<Room<K>>,
    whose: K,
    amount: usize,
}

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Holder> Shares<K> {
    /// Returns a room of this size.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let held = Mutex::new(Held { all: 0, by: HashMap::new(), near: HashMap::new() });
        Self(Arc::new(Room { size, held }))
    }

    /// Takes `amount` for a holder. Returns none if the holder must wait until something is freed. A holder without a
    /// share, and without neighbours who have one, gets what is free.
    #[must_use]
    pub fn take(&self, whose: &K, amount: usize) -> Option<Share<K>> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.0.size.saturating_sub(held.all);
        let own = held.by.get(whose).copied().unwrap_or_default();
        let neighbours = whose.neighbours();
        let near = neighbours.and_then(|near| held.near.get(&near)).copied().unwrap_or_default();
        let too_much = |has: usize, parts| has > 0 && has.saturating_add(amount) > free.div_ceil(parts);
        if amount > free || too_much(own, PARTS) || too_much(near, PARTS_OF_NEIGHBOURS) {
            return None;
        }
        held.all += amount;
        *held.by.entry(whose.clone()).or_default() += amount;
        if let Some(neighbours) = neighbours {
            *held.near.entry(neighbours).or_default() += amount;
        }
        Some(Share { room: self.0.clone(), whose: whose.clone(), amount })
    }
}

impl<K: Holder> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.room.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all = held.all.saturating_sub(self.amount);
        give_back(&mut held.by, &self.whose, self.amount);
        if let Some(neighbours) = self.whose.neighbours() {
            give_back(&mut held.near, &neighbours, self.amount);
        }
    }
}

fn give_back<K: Eq + Hash>(held: &mut HashMap<K, usize>, whose: &K, amount: usize) {
    if let Some(own) = held.get_mut(whose) {
        *own = own.saturating_sub(amount);
        if *own == 0 {
            held.remove(whose);
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/domain/shares.rs"]
mod tests;
