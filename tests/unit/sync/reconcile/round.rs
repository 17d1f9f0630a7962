use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::Listed;

fn id(number: u16, part: u8) -> ChatId {
    format!("{number:08x}-0000-4000-8000-0000000000{part:02x}").parse().expect("an id")
}

/// An index of chats in parts, each on pages of so many ids, as Redis has it.
struct Index {
    parts: Vec<Vec<ChatId>>,
    page: usize,
}

impl Index {
    fn page(&self, page: u64) -> ChatIds {
        let parts = self.parts.len() as u64;
        let (part, from) = (page % parts, (page / parts) as usize);
        let ids: Vec<ChatId> = self.parts[part as usize].iter().skip(from).take(self.page).copied().collect();
        let end = from + self.page;
        let (listed, next) = if end < self.parts[part as usize].len() {
            (Listed::Some, Some(end as u64 * parts + part))
        } else {
            (Listed::Part(part as u8), (part + 1 < parts).then_some(part + 1))
        };
        ChatIds { ids, listed, next }
    }
}

proptest! {
    /// Also if some steps fail, and are done again; and each part is listed completely once.
    #[test]
    fn a_round_visits_everything_exactly_once(
        sizes in prop::collection::vec(0_u16..40, 1..8),
        page in 1_usize..12,
        most in 1_usize..20,
        failures in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        let parts: Vec<Vec<ChatId>> = sizes
            .iter()
            .enumerate()
            .map(|(part, size)| (0..*size).map(|number| id(number, part as u8)).collect())
            .collect();
        let index = Index { parts: parts.clone(), page };
        let (mut round, mut failures) = (Round::at(0), failures.into_iter());
        let (mut visited, mut listed) = (BTreeMap::<ChatId, usize>::new(), Vec::new());
        while !round.is_over() {
            let before = round.clone();
            if let Some(page) = round.needs() {
                listed.extend(round.add(&index.page(page)));
            }
            let ids = round.next(most);
            if failures.next().unwrap_or(false) {
                if before.needs().is_some() && round.needs().is_none() {
                    // The page stays; only its ids come again.
                    prop_assert_eq!(round.next(most), ids);
                }
                continue;
            }
            ids.iter().for_each(|id| *visited.entry(*id).or_default() += 1);
            round.pass(ids.len());
        }
        let all: Vec<ChatId> = parts.iter().flatten().copied().collect();
        prop_assert_eq!(visited.len(), all.len());
        prop_assert!(all.iter().all(|id| visited.get(id) == Some(&1)), "{:?}", visited);
        let parts: Vec<HashSet<ChatId>> = parts.into_iter().map(|ids| ids.into_iter().collect()).collect();
        prop_assert_eq!(listed, parts);
    }
}

#[test]
fn a_round_goes_on_where_the_last_holder_was() {
    let index = Index { parts: vec![vec![id(1, 0), id(2, 0), id(3, 0)], vec![id(4, 1)]], page: 2 };
    let mut round = Round::at(0);
    round.add(&index.page(0));
    let saved = round.position().expect("it isn't over");
    let mut after = Round::at(saved);
    let mut visited = Vec::new();
    while !after.is_over() {
        if let Some(page) = after.needs() {
            after.add(&index.page(page));
        }
        visited.extend(after.next(10));
        after.pass(10);
    }
    assert_eq!(visited, [id(3, 0), id(4, 1)]);
}
