use super::*;

#[test]
fn connections_are_counted_in_all_and_by_network_until_they_end() {
    let limiter = ConnectionLimiter::new(3, 2, 1);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let open = |from: &str| limiter.enter(address(from), &limiter.connect()?);
    let first = open("2001:db8:1:2::1").unwrap();
    let clone = first.clone();
    let second = open("2001:db8:1:2:ffff::9").unwrap();
    assert!(open("2001:db8:1:2::3").is_none(), "a network of its own has two");
    let other = open("192.0.2.1").unwrap();
    assert!(open("192.0.2.2").is_none(), "three in all");
    drop(first);
    assert!(open("192.0.2.2").is_none(), "a socket has outlived its connection");
    drop((clone, second, other));
    let counts = limiter.counts.lock().unwrap();
    assert_eq!((counts.all, counts.by_network.len()), (0, 0));
}

#[test]
fn an_address_that_opens_many_waits_and_no_other_does() {
    let limiter = ConnectionLimiter::new(10, 10, 100);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let waits: Vec<_> = (0..110).map(|_| limiter.wait(address("192.0.2.1"))).collect();
    assert!(waits[..10].iter().all(Duration::is_zero), "{waits:?}");
    let last = waits[109].as_secs_f64();
    assert!((0.9..=1.0).contains(&last), "{last}");
    assert!(limiter.wait(address("192.0.2.2")).is_zero());
}

#[test]
fn addresses_are_forgotten() {
    let limiter = ConnectionLimiter::new(10, 10, 1_000_000);
    for n in 0..10_000u32 {
        limiter.wait(IpAddr::from(n.to_be_bytes()));
    }
    let kept = limiter.counts.lock().unwrap().paces.len();
    assert!(kept <= 2 * PRUNE, "{kept}");
}
