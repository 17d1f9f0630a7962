use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::crowd::groups;

proptest! {
    #[test]
    fn each_user_is_in_as_many_chats_as_asked_for(
        users in 2usize..60,
        chats in 1usize..8,
        size in 2usize..12,
        seed in any::<u64>(),
    ) {
        prop_assume!(size <= users);
        let groups = groups(users, chats, size, seed);
        let mut member_of = HashMap::<usize, usize>::new();
        for group in &groups {
            let members: BTreeSet<usize> = group.iter().copied().collect();
            prop_assert_eq!(members.len(), group.len(), "nobody is in a chat twice");
            prop_assert!((size..2 * size).contains(&group.len()), "{:?}", group);
            members.iter().for_each(|member| *member_of.entry(*member).or_default() += 1);
        }
        prop_assert_eq!(member_of.len(), users);
        prop_assert!(member_of.values().all(|count| *count == chats));
    }
}

#[test]
fn the_same_seed_draws_the_same_chats() {
    assert_eq!(groups(20, 3, 4, 7), groups(20, 3, 4, 7));
    assert_ne!(groups(20, 3, 4, 7), groups(20, 3, 4, 8));
}
