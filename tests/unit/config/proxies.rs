use super::*;

#[test]
fn networks_and_single_addresses_are_taken() {
    let proxies = TrustedProxies::new(" 10.0.0.0/8, 192.0.2.7,2001:db8::/32,,::ffff:172.16.0.0/108").unwrap();
    for (address, inside) in [
        ("10.255.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("172.31.0.1", true),
        ("172.32.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(proxies.contains(address.parse().unwrap()), inside, "{address}");
    }
    assert!(TrustedProxies::new(" ").unwrap().is_empty());
    for text in ["10.0.0.0/33", "10.0.0", "haproxy", "*", "10.0.0.0-10.0.0.9", "0.0.0.0/0", "::/0"] {
        assert!(TrustedProxies::new(text).is_err(), "{text}");
    }
}
