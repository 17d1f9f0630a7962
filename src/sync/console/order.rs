//! Sorted lists, page by page: pure. A page begins after a place in the order, not at a number of rows, so that rows which
//! appear and disappear between two pages don't make others come twice.

use crate::protocol::{ErrorCode, Problem};

/// The sort key of a row. Ties are broken by text, then by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key<'a> {
    /// The key, if it is a number.
    pub number: u64,
    /// The key, if it is a text.
    pub text: &'a str,
    /// The unique id of the row.
    pub id: [u8; 16],
}

/// The requested list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Only rows that contain this; in lower case.
    pub search: Option<String>,
    /// The sort key.
    pub sort: &'static str,
    /// The greatest first.
    pub descending: bool,
    /// Only those after this place.
    pub after: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// A page of rows.
#[derive(Debug, Clone)]
pub struct Page<'a, T> {
    /// In order.
    pub rows: Vec<&'a T>,
    /// The number on all pages.
    pub total: usize,
    /// Where the next page begins; none: this is the last.
    pub next: Option<String>,
}

/// Returns one page of filtered rows.
///
/// # Errors
/// `bad_field`: `after` isn't a place in this order.
pub fn page<'a, T>(
    listing: &Listing,
    rows: impl Iterator<Item = &'a T>,
    key: impl Fn(&'a T) -> Key<'a>,
) -> Result<Page<'a, T>, Problem> {
    let mark = listing.after.as_deref().map(|after| listing.place(after)).transpose()?;
    let behind = |key: &Key<'_>| match &mark {
        None => true,
        Some(mark) if listing.descending => key < mark,
        Some(mark) => key > mark,
    };
    let mut total = 0;
    let mut left: Vec<(Key<'a>, &'a T)> =
        rows.inspect(|_| total += 1).map(|row| (key(row), row)).filter(|(key, _)| behind(key)).collect();
    let compare = |(a, _): &(Key<'a>, &'a T), (b, _): &(Key<'a>, &'a T)| match listing.descending {
        true => b.cmp(a),
        false => a.cmp(b),
    };
    let more = left.len() > listing.limit;
    if more {
        // Of 100,000 rows only those of the page are sorted.
        left.select_nth_unstable_by(listing.limit, compare);
        left.truncate(listing.limit);
    }
    left.sort_unstable_by(compare);
    let next = left.last().filter(|_| more).map(|(key, _)| listing.mark(key));
    Ok(Page { rows: left.into_iter().map(|(_, row)| row).collect(), total, next })
}

impl Listing {
    fn name(&self) -> String {
        format!("{}.{}", self.sort, if self.descending { "desc" } else { "asc" })
    }

    fn mark(&self, key: &Key<'_>) -> String {
        let id = uuid::Uuid::from_bytes(key.id).simple();
        format!("{}.{}.{id}.{}", self.name(), key.number, key.text)
    }

    fn place<'m>(&self, mark: &'m str) -> Result<Key<'m>, Problem> {
        let read = || {
            let mut parts = mark.strip_prefix(&self.name())?.strip_prefix('.')?.splitn(3, '.');
            let number = parts.next()?.parse().ok()?;
            let id = uuid::Uuid::try_parse(parts.next()?).ok()?.into_bytes();
            Some(Key { number, id, text: parts.next()? })
        };
        read().ok_or_else(|| {
            Problem::new(
                ErrorCode::BadField,
                "after is the `next` of the page before, asked for with the same sort and order",
            )
        })
    }
}

/// Returns the key of rows that are ordered by an id's first half.
#[must_use]
pub fn by_id(id: &[u8; 16]) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|n| id[n]))
}

/// Whether a text contains this (in lower case), in any case.
#[must_use]
pub fn has(text: &str, wanted: &str) -> bool {
    if text.is_ascii() && wanted.is_ascii() {
        return wanted.is_empty()
            || text
                .as_bytes()
                .windows(wanted.len())
                .any(|part| part.eq_ignore_ascii_case(wanted.as_bytes()));
    }
    text.to_lowercase().contains(wanted)
}

/// Returns whether an id contains this, written with hyphens or without.
#[must_use]
pub fn id_has(id: &[u8; 16], wanted: &str) -> bool {
    let mut buffer = [0; 32];
    let hex: &str = uuid::Uuid::from_bytes(*id).simple().encode_lower(&mut buffer);
    match wanted.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        true if wanted.contains('-') => hex.contains(&wanted.replace('-', "")),
        true => hex.contains(wanted),
        false => false,
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/console/order.rs"]
mod tests;
