use super::*;

fn checked(name: &str, value: &str) -> Result<(), String> {
    check([(name.to_owned(), value.to_owned())].into_iter()).map_err(|error| error.to_string())
}

#[test]
fn a_misspelt_setting_is_told_the_right_one() {
    for (wrong, right) in [
        ("KEEPSTEP_JWT_SECRT", "KEEPSTEP_JWT_SECRET"),
        ("KEEPSTEP_JWT_SECERT", "KEEPSTEP_JWT_SECRET"),
        ("KEEPSTEP_HEARTBEET", "KEEPSTEP_HEARTBEAT"),
        ("KEEPSTEP_ALLOWED_ORIGIN", "KEEPSTEP_ALLOWED_ORIGINS"),
        ("KEEPSTEP_NSQDS", "KEEPSTEP_NSQD"),
        ("KEEPSTEP_MAX_CONNECTIONS_PER_ADDRESS", "KEEPSTEP_MAX_CONNECTIONS_PER_IP"),
        ("KEEPSTEP_ADMIN_TOKENS", "KEEPSTEP_ADMIN_TOKEN"),
    ] {
        let said = checked(wrong, "hunter2").unwrap_err();
        assert!(said.contains(&format!("{wrong} isn't a setting: did you mean {right}?")), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("?."), "{said}");
    }
    let said = checked("KEEPSTEP_NO_SUCH_THING", "x").unwrap_err();
    assert!(said.starts_with("KEEPSTEP_NO_SUCH_THING isn't a setting. `keepstep serve --help`"), "{said}");
    assert!(said.contains("KEEPSTEP_NO_SUCH_THING") && !said.contains("did you mean"), "{said}");
}

#[test]
fn what_is_no_setting_and_no_mistake_is_let_be() {
    for (name, value) in [
        ("KEEPSTEP_JWT_SECRET", "x"),
        ("KEEPSTEP_URL", "x"),
        ("KEEPSTEP_JWT_SECRT", ""),
        ("KEEPSTEP_TEST_REDIS_URL", "x"),
        ("KEEPSTEP_HAPROXY_BIN", "x"),
        ("HOME", "x"),
        // A service `keepstep` and one `keepstep-edge` in Kubernetes.
        ("KEEPSTEP_SERVICE_HOST", "10.0.0.1"),
        ("KEEPSTEP_SERVICE_PORT", "8080"),
        ("KEEPSTEP_SERVICE_PORT_HTTP", "8080"),
        ("KEEPSTEP_PORT", "tcp://10.0.0.1:8080"),
        ("KEEPSTEP_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("KEEPSTEP_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("KEEPSTEP_EDGE_PORT", "tcp://10.0.0.1:8080"),
        ("KEEPSTEP_EDGE_PORT_8080_TCP_PROTO", "tcp"),
    ] {
        assert_eq!(checked(name, value), Ok(()), "{name}");
    }
    assert!(checked("KEEPSTEP_LISTEN_PORT", "8080").is_err());
}
