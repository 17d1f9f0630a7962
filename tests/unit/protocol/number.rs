use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it is only read into")]
struct Body {
    n: Option<SafeInt>,
    text: Option<String>,
    word: Option<Word>,
    #[serde(default, deserialize_with = "only_object")]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is only read into")]
struct Inner {
    n: SafeInt,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    One,
}

#[test]
fn each_fault_has_its_code() {
    let code = |json: &str| parse_object::<Body>(json.as_bytes()).err().map(|problem| problem.code);
    for good in [
        r#"{"n":0}"#,
        r#" {"n":9007199254740991}"#,
        r#"{"n":null,"inner":{"n":1}}"#,
        r#"{"text":"out of range: "}"#,
    ] {
        assert_eq!(code(good), None, "{good}");
    }
    for n in ["-1", "9007199254740992", "18446744073709551616", "-9223372036854775809", "1e16", "1e999"] {
        assert_eq!(code(&format!(r#"{{"n":{n}}}"#)), Some(ErrorCode::BadRange), "{n}");
        assert_eq!(code(&format!(r#"{{"inner":{{"n":{n}}}}}"#)), Some(ErrorCode::BadRange), "{n}");
    }
    for n in ["-0", "-0.0", "1.0", "1e0", "true", "[]", r#""1""#, r#""out of range: 1""#, r#""NaN""#] {
        assert_eq!(code(&format!(r#"{{"n":{n}}}"#)), Some(ErrorCode::BadField), "{n}");
    }
    for bad in [
        r#"{"out of range: ":1}"#,
        r#"{"word":["surrogate"]}"#,
        r#"{"word":"unicode"}"#,
        "[null,null,null,null]",
    ] {
        assert_eq!(code(bad), Some(ErrorCode::BadField), "{bad}");
    }
    for bad in
        [r#"{"text":"\ud800"}"#, r#"{"text":"\udc00\ud800"}"#, r#"{"word":"\ud800x"}"#, r#"{"n":01}"#, "{} x"]
    {
        assert_eq!(code(bad), Some(ErrorCode::BadJson), "{bad}");
    }
    // A fault doesn't outlive its parse.
    assert_eq!(
        (code(r#"{"n":-1}"#), code(r#"{"m":1}"#)),
        (Some(ErrorCode::BadRange), Some(ErrorCode::BadField))
    );
}
