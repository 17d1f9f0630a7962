//! Values, one by one. That a refusal ends the process with the right sentence is in `tests/embedded/cli.rs`.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    numbers::{count, duration, period, size},
    values::{AllowedOrigins, Daemon, JwksSource, RedisUrl, Secret, listen, nsq_addresses, plain},
};

#[test]
fn durations_have_units() {
    for (text, millis) in [
        ("500ms", 500),
        ("25s", 25_000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("0s", 0),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in
        ["", "25", "s", "1.5s", "-1s", "1 s", "1w", "1S", "99999999999999999999s", "999999999d", "1s2", "1sä"]
    {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(period("1ms").is_ok() && period("0s").is_err());
}

#[test]
fn counts_and_sizes_are_at_least_1() {
    assert_eq!((count(" 1 "), size("2")), (Ok(1_u32), Ok(2_usize)));
    for text in ["", "0", "-1", "+0", "1.5", "1k", "99999999999999999999"] {
        assert!(count::<u64>(text).is_err() && size::<u64>(text).is_err(), "{text}");
    }
}

#[test]
fn listen_addresses_are_of_this_machine() {
    assert_eq!(listen("localhost:80").unwrap().to_string(), "127.0.0.1:80");
    assert_eq!(listen("[::1]:80").unwrap().to_string(), "[::1]:80");
    for text in ["", ":8080", "8080", "example.org:80", "127.0.0.1", "127.0.0.1:65536", "http://127.0.0.1:80"]
    {
        assert!(listen(text).is_err(), "{text}");
    }
}

#[test]
fn redis_addresses_print_without_their_password() {
    for text in [
        "redis://127.0.0.1:6379",
        "redis://localhost",
        "rediss://u:p@redis.example.org:6380/2",
        "redis://[::1]:6379/0",
    ] {
        let url = RedisUrl::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.as_str(), text);
    }
    let url = RedisUrl::new("redis://u:hunter2@r:6379/1?protocol=resp3").unwrap();
    assert_eq!(format!("{url} {url:?}"), "redis://r:6379/1 RedisUrl(redis://r:6379/1)");
    for text in [
        "",
        "127.0.0.1:6379",
        "http://r",
        "redis://",
        "redis://r:99999",
        "redis://r:x",
        "redis://r/zero",
        "unix:///run/redis.sock",
    ] {
        assert!(RedisUrl::new(text).is_err(), "{text}");
    }
    let refused = RedisUrl::new("redis://u:hunter2@r:port").unwrap_err().to_string();
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn nsq_addresses_are_hosts_and_ports() {
    let list =
        nsq_addresses(Daemon::Nsqd, " a:4151, http://b:4151?tcp=b:4150 ,https://[::1]:4151/,").unwrap();
    assert_eq!(list, ["a:4151", "http://b:4151?tcp=b:4150", "https://[::1]:4151/"]);
    for text in [
        "a",
        "a:",
        "a:0",
        "a:70000",
        "a:+80",
        ":4151",
        "tcp://a:4151",
        "a:4151/x",
        "a b:1",
        "a:1?tcp=",
        "a:1?x=b:1",
        "a:1,a:1",
        "u@a:1",
    ] {
        assert!(nsq_addresses(Daemon::Nsqd, text).is_err(), "{text}");
    }
    assert!(nsq_addresses(Daemon::Nsqlookupd, "a:4161?tcp=a:4160").is_err());
    assert!(nsq_addresses(Daemon::Nsqlookupd, "").unwrap().is_empty());
}

#[test]
fn origins_are_exact() {
    let same = AllowedOrigins::new("").unwrap();
    for (origin, host, allowed) in [
        (None, None, true),
        (Some("http://127.0.0.1:8080"), Some("127.0.0.1:8080"), true),
        (Some("https://Chat.example"), Some("chat.example"), true),
        (Some("https://chat.example"), Some("chat.example:443"), true),
        (Some("http://chat.example"), Some("chat.example:8080"), false),
        (Some("https://evil.example"), Some("chat.example"), false),
        (Some("https://chat.example.evil.example"), Some("chat.example"), false),
        (Some("https://evil@chat.example"), Some("chat.example"), false),
        (Some("null"), Some("null"), false),
        (Some(""), Some(""), false),
        (Some("https://chat.example"), None, false),
    ] {
        assert_eq!(same.allows(origin, host), allowed, "{origin:?} {host:?}");
    }
    let list =
        AllowedOrigins::new("https://a.example:443, http://B.example:8080,capacitor://localhost").unwrap();
    for (origin, allowed) in [
        ("https://a.example", true),
        ("https://A.example:443", true),
        ("http://a.example", false),
        ("http://b.example:8080", true),
        ("http://b.example", false),
        ("capacitor://localhost", true),
        ("https://c.example", false),
        ("null", false),
    ] {
        assert_eq!(list.allows(Some(origin), Some("c.example")), allowed, "{origin}");
    }
    assert!(list.allows(None, None));
    assert!(AllowedOrigins::new("*").unwrap().allows(Some("null"), None));
    for text in [
        "a.example",
        "https://a.example/",
        "https://a.example/x",
        "https://*.example",
        "https://u@a.example",
        "https://",
    ] {
        assert!(AllowedOrigins::new(text).is_err(), "{text}");
    }
}

#[test]
fn the_rest_is_plain() {
    assert!(matches!(JwksSource::new("https://idp.example/keys").unwrap(), JwksSource::Url(_)));
    assert!(matches!(JwksSource::new("keys.json").unwrap(), JwksSource::File(_)));
    assert!(JwksSource::new("https://").is_err());
    assert!(plain("KEEPSTEP_EDGE", "e-1.a_B").is_ok());
    for text in ["", "a b", "{a}", "a*", "a:b", &"x".repeat(65)] {
        assert!(plain("KEEPSTEP_EDGE", text).is_err(), "{text}");
    }
}

fn is_good(secret: &str) -> bool {
    Secret::new("KEEPSTEP_JWT_SECRET", secret).is_ok()
}

/// Characters that follow each other, up or down, from `first` on, as long as there are some.
fn run(first: u8, up: bool, length: u8) -> String {
    let step = |n: u8| if up { first.checked_add(n) } else { first.checked_sub(n) };
    let printed = (0..length).map_while(step).filter(|byte| (b'!'..=b'~').contains(byte));
    printed.map(char::from).collect()
}

proptest! {
    #[test]
    fn a_piece_again_and_again_is_no_secret(piece in "[ -~]{1,31}", times in 2usize..40, more in 0usize..31) {
        let whole = piece.repeat(times + 32usize.div_ceil(piece.len()));
        let most = whole.len() - piece.len() + more % piece.len();
        for length in [2 * piece.len(), 32, 64, most] {
            let secret = &whole[..length.max(32).max(2 * piece.len()).min(most)];
            prop_assert!(!is_good(secret), "{}", secret);
        }
    }

    #[test]
    fn characters_that_follow_each_other_are_no_secret(runs in prop::collection::vec((b'!'..=b'~', any::<bool>()), 1..9)) {
        let each = 32u8.div_ceil(u8::try_from(runs.len()).unwrap()) + 1;
        let secret: String = runs.iter().map(|(first, up)| run(*first, *up, each)).collect();
        prop_assert!(!is_good(&secret), "{}", secret);
    }

    #[test]
    fn what_is_random_is_a_secret(bytes in any::<[u8; 32]>(), letters in "[A-Za-z0-9+/]{43}") {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Of the simplest bytes there are few different ones, which is another matter.
        prop_assume!(bytes.iter().collect::<std::collections::BTreeSet<_>>().len() > 20);
        prop_assert!(is_good(&hex(&bytes)), "{}", hex(&bytes));
        prop_assert!(is_good(&letters), "{}", letters);
    }
}
