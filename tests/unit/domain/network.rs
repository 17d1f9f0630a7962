use super::*;

#[test]
fn an_ipv6_customer_is_one() {
    let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2");
    let near = |one: &str, other: &str| network(one).neighbourhood() == network(other).neighbourhood();
    assert!(near("2001:db8:1:2::1", "2001:db8:1:ff02::1") && !near("2001:db8:1:2::1", "2001:db8:2:2::1"));
    assert!(near("192.0.2.1", "192.0.2.255") && !near("192.0.2.1", "192.0.3.1"));
    assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    assert_eq!(network("192.0.2.1").neighbourhood().to_string(), "192.0.2");
    assert_eq!(network("2001:db8:1:ff02::1").neighbourhood().to_string(), "2001:db8:1");
}
