use super::*;

#[test]
fn an_address_may_name_the_tcp_port() {
    let bare = NodeAddress { http: "h:4151".to_owned(), tcp: None };
    for text in ["h:4151", "http://h:4151", "http://h:4151/"] {
        assert_eq!(NodeAddress::parse(text), Ok(bare.clone()), "{text}");
    }
    let pinned = NodeAddress::parse("http://h:4151?tcp=inner:4150").unwrap();
    assert_eq!(pinned.tcp.as_deref(), Some("inner:4150"));
    assert_eq!(pinned.to_string(), "http://h:4151?tcp=inner:4150");
    assert_eq!(NodeAddress::parse("[::1]:4151").unwrap().host(), "[::1]");
    assert_eq!(lookupd_address("http://l:4161").unwrap(), "l:4161");
}

#[test]
fn a_malformed_address_is_refused_with_a_sentence() {
    for (text, why) in [
        ("", "needs a host and a port"),
        ("nsqd", "needs a host and a port"),
        ("http://nsqd", "needs a host and a port"),
        (":4151", "its host"),
        ("::1:4151", "its host"),
        ("[::g]:4151", "its host"),
        ("a b:4151", "its host"),
        ("user:pw@h:4151", "its host"),
        ("h:4151/x", "its port"),
        ("h:", "its port"),
        ("h:0", "its port"),
        ("h:+1", "its port"),
        ("h:65536", "its port"),
        ("https://h:4151", "begin with http://"),
        ("tcp://h:4150", "begin with http://"),
        ("h:4151?", "only tcp="),
        ("h:4151?udp=h:1", "only tcp="),
        ("h:4151?tcp=", "needs a host and a port"),
        ("h:4151?tcp=h:4150&x=1", "its port"),
        ("h:4151,i:4151", "its host"),
    ] {
        let error = NodeAddress::parse(text).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("an nsqd"), "{text:?}: {error}");
    }
}
