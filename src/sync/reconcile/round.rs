//! How far a round over all chats is: a position in the index of chats, not a list of them. Pure.

use std::{
    collections::{HashSet, VecDeque},
    mem,
};

use crate::{domain::id::ChatId, store::ChatIds};

/// A round over all chats. It survives errors and interruptions: what wasn't passed comes again.
#[derive(Debug, Clone)]
pub(super) struct Round {
    // The page to read next; none: the last one was read.
    page: Option<u64>,
    // Ids that were read, and not passed yet.
    ids: VecDeque<ChatId>,
    // Ids of the part of the index that isn't listed completely.
    seen: HashSet<ChatId>,
}

impl Round {
    /// Returns a round that begins at this page; 0: at the first.
    pub(super) fn at(page: u64) -> Self {
        Self { page: Some(page), ids: VecDeque::new(), seen: HashSet::new() }
    }

    /// Returns the page that must be read before there is a next id; none: there is one, or none is left.
    pub(super) fn needs(&self) -> Option<u64> {
        self.page.filter(|_| self.ids.is_empty())
    }

    /// Returns the page to go on with after a loss of this state.
    pub(super) fn position(&self) -> Option<u64> {
        self.page
    }

    /// Adds the page that it needs. Returns all ids of the parts that are listed completely now, if there is such a part.
    pub(super) fn add(&mut self, page: &ChatIds) -> Option<HashSet<ChatId>> {
        self.seen.extend(&page.ids);
        self.ids.extend(&page.ids);
        self.page = page.next;
        page.listed.is_complete().then(|| mem::take(&mut self.seen))
    }

    /// Returns the next ids, at most so many. They stay until they are passed.
    pub(super) fn next(&self, most: usize) -> Vec<ChatId> {
        self.ids.iter().copied().take(most).collect()
    }

    /// The next so many ids were visited.
    pub(super) fn pass(&mut self, count: usize) {
        self.ids.drain(..count.min(self.ids.len()));
    }

    /// Returns whether everything was passed.
    pub(super) fn is_over(&self) -> bool {
        self.page.is_none() && self.ids.is_empty()
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/reconcile/round.rs"]
mod tests;
