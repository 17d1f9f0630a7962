use super::*;

#[test]
fn a_query_is_decoded_and_its_numbers_checked() {
    let query = Query::parse("limit=10&name=a&name=%61%20b+c=%26d&bad=1.5&flag&&big=11&half=%ff");
    assert_eq!(query.number("limit", 1..=10), Ok(Some(10)));
    assert_eq!(query.number("none", 1..=10), Ok(None));
    assert_eq!((query.get("name"), query.get("half")), (Some("a b c=&d"), Some("\u{fffd}")));
    assert_eq!(query.number("bad", 1..=10).unwrap_err().code, ErrorCode::BadField);
    assert_eq!(query.number("big", 1..=10).unwrap_err().code, ErrorCode::BadRange);
    assert_eq!(query.flag("flag"), Ok(true));
}

#[test]
fn pages_follow_each_other_without_gap() {
    let all: Vec<u32> = (0..7).collect();
    let key = |n: &u32| n.to_string();
    let (first, next) = page(&Query::parse("limit=3"), 10, all.clone(), key).unwrap();
    assert_eq!((first, next.as_deref()), (vec![0, 1, 2], Some("2")));
    let (second, next) = page(&Query::parse("limit=4&after=2"), 10, all.clone(), key).unwrap();
    assert_eq!((second, next), (vec![3, 4, 5, 6], None));
    assert_eq!(page(&Query::parse("limit=11"), 10, all, key).unwrap_err().code, ErrorCode::BadRange);
}
