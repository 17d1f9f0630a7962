use super::*;

#[test]
fn the_second_edge_is_named_as_the_browser_names_the_first() {
    let on = |address: &str| Playground { second: Some(address.parse().unwrap()), edges: Vec::new() };
    for (address, host, edge) in [
        ("127.0.0.1:9", Some("localhost:8080"), "http://localhost:9"),
        ("127.0.0.1:9", Some("[::1]:8080"), "http://[::1]:9"),
        ("127.0.0.1:9", Some("localhost.example:8080"), "http://127.0.0.1:9"),
        ("127.0.0.1:9", None, "http://127.0.0.1:9"),
        ("0.0.0.0:9", Some("demo.example"), "http://demo.example:9"),
        ("0.0.0.0:9", Some("[fe80::1]"), "http://[fe80::1]:9"),
    ] {
        assert_eq!(on(address).edges(host), [edge], "{address} {host:?}");
    }
}
