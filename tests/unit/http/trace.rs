use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_traceparent_is_read_to_the_letter() {
    let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
    assert_eq!(trace_id(good.as_bytes()), Some(TRACE));
    for bad in [
        String::new(),
        "00".to_owned(),
        TRACE.to_owned(),
        good.replacen("00", "01", 1),
        good.replacen("00", "ff", 1),
        good.to_uppercase(),
        good.replace('-', "_"),
        good.replace(TRACE, &"0".repeat(32)),
        good.replace("00f067aa0ba902b7", &"0".repeat(16)),
        good.replace("4bf", "4bg"),
        good.replace("-01", "-0g"),
        good.replace("-01", "-1"),
        format!("{good}-more"),
        format!(" {good}"),
        good[1..].to_owned(),
        good.replace("4bf", "é"),
    ] {
        assert_eq!(trace_id(bad.as_bytes()), None, "{bad:?}");
    }
}

#[test]
fn a_plain_id_is_taken_and_any_other_replaced() {
    let of = |id: &'static [u8]| {
        let value = HeaderValue::from_bytes(id).expect("a header's value");
        RequestId::of(&HeaderMap::from_iter([(X_REQUEST_ID, value)])).as_str().to_owned()
    };
    for good in ["7", "a-b_c.d:e/f+g=h@i~j"] {
        assert_eq!(of(good.as_bytes()), good);
    }
    for bad in [&b""[..], b"a b", b"a\"b", b"a;b", b"a,b", b"\xff\xfe", &[b'a'; LONGEST + 1]] {
        assert!(uuid::Uuid::parse_str(&of(bad)).is_ok(), "{bad:?}");
    }
    assert_ne!(RequestId::of(&HeaderMap::new()).as_str(), RequestId::of(&HeaderMap::new()).as_str());
}
