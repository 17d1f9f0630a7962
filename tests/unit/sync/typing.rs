use super::*;

#[test]
fn once_in_three_seconds_and_never_too_many() {
    let (typists, now) = (Typists::default(), Instant::now());
    let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let (one, other) = (ChatId::random(), ChatId::random());
    assert!(typists.may_publish(&alice, one, now));
    assert!(!typists.may_publish(&alice, one, now + APART / 2));
    assert!(typists.may_publish(&alice, other, now) && typists.may_publish(&bob, one, now));
    assert!(typists.may_publish(&alice, one, now + APART));
    for _ in 0..2 * MOST {
        typists.may_publish(&bob, ChatId::random(), now + APART);
    }
    assert_eq!(lock(&typists.0).at.len(), MOST);
    assert!(!typists.may_publish(&bob, other, now + APART));
    assert!(typists.may_publish(&bob, other, now + 2 * APART));
}
