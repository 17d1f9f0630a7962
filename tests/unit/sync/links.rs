use std::net::IpAddr;

use super::*;

#[test]
fn waits_are_bounded_and_given_back() {
    let (polls, link) = (Polls::default(), LinkId::random());
    let of =
        |house: u16, network: u16| Network::from(IpAddr::from([0x2001, 0xdb8, house, network, 0, 0, 0, 1]));
    let from = |house: u16| of(house, 0);
    let places: Vec<_> = (0..WAITS_PER_LINK).map(|_| polls.enter(link, from(0)).unwrap()).collect();
    assert_eq!(polls.enter(link, from(1)).unwrap_err().code, ErrorCode::TooManyRequests);
    // However many pages one address has, others find a place.
    let mut others = Vec::new();
    for last in 0..20 {
        let more = std::iter::from_fn(|| polls.enter(LinkId::random(), from(last)).ok());
        let before = others.len();
        others.extend(more);
        assert!(others.len() > before, "no place for address {last} beside {before}");
        assert!(others.len() <= WAITS);
    }
    drop(others);
    // Nor do neighbouring networks take them.
    let one_house = (0..=255).flat_map(|network| {
        std::iter::from_fn(|| polls.enter(LinkId::random(), of(0, network)).ok()).collect::<Vec<_>>()
    });
    let one_house: Vec<_> = one_house.collect();
    assert!(one_house.len() < WAITS / 4, "{} of {WAITS} places for one house", one_house.len());
    assert!(polls.enter(LinkId::random(), from(1)).is_ok());
    drop((places, one_house));
    assert!(lock(&polls.by_link).is_empty());
}
