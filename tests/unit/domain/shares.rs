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
        .flat_map(|network| std::iter::from_fn(|| shares.take(&address(0, network), 1)).collect::<Vec<_>>())
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
