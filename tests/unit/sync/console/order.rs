use proptest::prelude::*;

use super::*;

fn listing(descending: bool, limit: usize, after: Option<String>) -> Listing {
    Listing { search: None, sort: "undelivered", descending, after, limit }
}

proptest! {
    #[test]
    fn pages_give_every_row_once_in_order(
        numbers in prop::collection::vec((0u64..5, "[a-c.]{0,2}"), 0..40), limit in 1usize..9, descending: bool,
    ) {
        let rows: Vec<(u64, String, [u8; 16])> =
            numbers.into_iter().enumerate().map(|(n, (number, text))| (number, text, [u8::try_from(n).unwrap(); 16])).collect();
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort();
        if descending {
            sorted.reverse();
        }
        let (mut got, mut after) = (Vec::new(), None);
        loop {
            let listing = listing(descending, limit, after);
            let key = |row: &'_ (u64, String, [u8; 16])| -> (u64, [u8; 16]) { (row.0, row.2) };
            let page = page(&listing, rows.iter(), |row| Key { number: key(row).0, text: &row.1, id: row.2 }).unwrap();
            prop_assert_eq!(page.total, rows.len());
            prop_assert!(page.rows.len() <= limit);
            got.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        prop_assert_eq!(got, sorted);
    }
}

#[test]
fn a_mark_belongs_to_its_order() {
    let mark = listing(true, 1, None).mark(&Key { number: 7, text: "a.b", id: [3; 16] });
    let place = listing(true, 1, None).place(&mark).map(|key| (key.number, key.text.to_owned(), key.id));
    assert_eq!(place, Ok((7, "a.b".to_owned(), [3; 16])));
    for (listing, mark) in [
        (listing(false, 1, None), mark.as_str()),
        (listing(true, 1, None), ""),
        (listing(true, 1, None), "undelivered.desc"),
        (listing(true, 1, None), "undelivered.desc.x.03.a"),
        (Listing { sort: "chats", ..listing(true, 1, None) }, mark.as_str()),
    ] {
        assert_eq!(listing.place(mark).unwrap_err().code, ErrorCode::BadField, "{mark}");
    }
}

#[test]
fn a_search_knows_no_case_and_no_hyphens() {
    assert!(has("Alice@Example.org", "e@ex") && has("ÄRGER", "ä") && has("x", ""));
    assert!(!has("alice", "bob") && !has("", "b"));
    let id = *uuid::Uuid::parse_str("0b1c2d3e-0000-4000-8000-00000000000a").unwrap().as_bytes();
    assert!(id_has(&id, "0b1c2d3e-0000") && id_has(&id, "3e00004") && !id_has(&id, "alice"));
}
