use super::*;

fn whose(peer: &str, said: &[(&'static str, &str)]) -> String {
    let proxies = TrustedProxies::new("10.0.0.0/8,2001:db8:f::/48").unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in said {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    client(&proxies, peer.parse().unwrap(), &headers).to_string()
}

#[test]
fn the_right_most_address_that_is_not_a_proxys_counts() {
    for (said, client) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.1,203.0.113.7 , 10.1.2.3,10.0.0.9", "203.0.113.7"),
        ("junk, 203.0.113.7", "203.0.113.7"),
        ("2001:db8::7, 2001:db8:f::1", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("10.1.2.3, 10.0.0.9", "10.1.2.3"),
        // Junk where it counts: the peer's.
        ("203.0.113.7, junk", "10.0.0.1"),
        ("203.0.113.7, junk, 10.0.0.9", "10.0.0.1"),
        ("203.0.113.7,", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("unknown", "10.0.0.1"),
        ("203.0.113.7.", "10.0.0.1"),
        ("\u{e9}", "10.0.0.1"),
    ] {
        assert_eq!(whose("10.0.0.1", &[("x-forwarded-for", said)]), client, "{said}");
    }
}

#[test]
fn forwarded_is_read_as_its_rfc_says() {
    for (said, client) in [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=\"203.0.113.7:80\";proto=https;by=10.0.0.1", "203.0.113.7"),
        ("for=198.51.100.1, for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
        ("for=198.51.100.1;host=\"a,b;c\", proto=http;for=203.0.113.7, for=10.0.0.9", "203.0.113.7"),
        ("for=unknown", "10.0.0.1"),
        ("for=_secret, for=10.0.0.9", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ("for", "10.0.0.1"),
        ("", "10.0.0.1"),
        // A quotation mark that a client leaves open swallows nothing of what a proxy adds.
        ("for=198.51.100.1;x=\", for=203.0.113.7", "10.0.0.1"),
        ("for=198.51.100.1;x=\", for=\"[2001:db8::7]\"", "10.0.0.1"),
        ("for=198.51.100.1;x=\"\\\", for=203.0.113.7", "10.0.0.1"),
        ("for=\"198.51.100.1\"junk, for=10.0.0.9", "10.0.0.1"),
    ] {
        assert_eq!(whose("10.0.0.1", &[("forwarded", said)]), client, "{said}");
    }
}

#[test]
fn headers_add_up_and_must_agree() {
    let x = |value| ("x-forwarded-for", value);
    let forwarded = |value| ("forwarded", value);
    assert_eq!(whose("10.0.0.1", &[x("198.51.100.1"), x("203.0.113.7")]), "203.0.113.7");
    assert_eq!(whose("10.0.0.1", &[x("203.0.113.7"), x("10.0.0.9")]), "203.0.113.7");
    assert_eq!(whose("10.0.0.1", &[x("203.0.113.7"), forwarded("for=203.0.113.7")]), "203.0.113.7");
    // One of them is the client's own.
    assert_eq!(whose("10.0.0.1", &[x("203.0.113.7"), forwarded("for=198.51.100.1")]), "10.0.0.1");
    assert_eq!(whose("10.0.0.1", &[x("junk"), forwarded("for=198.51.100.1")]), "10.0.0.1");
    assert_eq!(whose("10.0.0.1", &[]), "10.0.0.1");
    // Who isn't a proxy says nothing about itself.
    let all = [x("198.51.100.1"), forwarded("for=198.51.100.1")];
    assert_eq!(whose("203.0.113.7", &all), "203.0.113.7");
    assert_eq!(whose("::ffff:203.0.113.7", &all), "203.0.113.7");
    assert_eq!(whose("::ffff:10.0.0.1", &all), "198.51.100.1");
}
