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
mod tests {
    use proptest::prelude::*;

    use std::net::{IpAddr, Ipv6Addr};

    use super::{super::network::Network, *};

    /// A user, or an address: which network of which house.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    enum Who {
        User(u8),
        Address(Network),
    }

    impl Holder for Who {
        fn neighbours(&self) -> Option<Neighbourhood> {
            match self {
                Who::User(_) => None,
                Who::Address(network) => Some(network.neighbourhood()),
            }
        }
    }

    fn address(house: u16, network: u16) -> Who {
        Who::Address(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, house, network, 0, 0, 0, 1)).into())
    }

    #[test]
    fn one_household_is_not_many() {
        let shares = Shares::new(10_000);
        // A /56: 256 networks, each of which takes what it gets.
        let mut held: Vec<_> = (0..=255)
            .flat_map(|network| {
                std::iter::from_fn(|| shares.take(&address(0, network), 1)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(held.len(), 2_000, "a fifth: a quarter of what is left");
        // Strangers elsewhere find as much as if one address had taken this.
        let next: Vec<_> = std::iter::from_fn(|| shares.take(&address(1, 0), 1)).collect();
        assert_eq!(next.len(), 889, "a ninth of the rest");
        held.extend(next);
        assert!(shares.take(&Who::User(1), 1).is_some());
    }

    #[test]
    fn one_leaves_most_of_the_room_and_the_next_always_gets_some() {
        let shares = Shares::new(900);
        let mut held: Vec<_> = std::iter::from_fn(|| shares.take(&Who::User(0), 1)).collect();
        assert_eq!(held.len(), 100, "a ninth: an eighth of what is left");
        for whose in 1..30 {
            let own: Vec<_> = std::iter::from_fn(|| shares.take(&Who::User(whose), 1)).collect();
            assert!(!own.is_empty(), "nothing for {whose}");
            held.extend(own);
        }
        drop(held);
        assert!(shares.take(&Who::User(1), 900).is_some(), "who is alone may have one thing of any size");
        assert!(shares.take(&Who::User(1), 901).is_none());
    }

    proptest! {
        #[test]
        fn what_is_held_never_exceeds_the_room_and_comes_back(
            steps in prop::collection::vec(((0u16..3, 0u16..4, any::<bool>()), 0usize..200, any::<bool>()), 0..200)
        ) {
            let shares = Shares::new(500);
            let mut held = Vec::new();
            for ((house, network, user), amount, back) in steps {
                let whose = if user { Who::User(house as u8) } else { address(house, network) };
                if back {
                    held.pop();
                } else if let Some(share) = shares.take(&whose, amount) {
                    let all: usize = held.iter().map(|share: &Share<Who>| share.amount).sum();
                    let near = held.iter().filter(|share| share.whose.neighbours() == whose.neighbours());
                    let near: usize = near.map(|share| share.amount).sum();
                    prop_assert!(user || near == 0 || near + amount <= (500 - all).div_ceil(4), "{} and {}", near, amount);
                    held.push(share);
                }
                prop_assert!(held.iter().map(|share| share.amount).sum::<usize>() <= 500);
            }
            drop(held);
            let room = shares.0.held.lock().unwrap();
            prop_assert_eq!((room.all, room.by.len(), room.near.len()), (0, 0, 0));
        }
    }
}
