use super::*;

fn from(origin: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
}

#[test]
fn a_listed_page_may_call_and_another_may_not() {
    let list = AllowedOrigins::new("https://app.example.org").unwrap();
    let good = preflight(&list, &from("https://app.example.org"));
    assert_eq!(good.status(), StatusCode::NO_CONTENT);
    assert_eq!(good.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.org");
    for (origins, page) in
        [(&list, "https://evil.example.org"), (&AllowedOrigins::SameOrigin, "https://app.example.org")]
    {
        let refused = preflight(origins, &from(page));
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert!(!refused.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    }
}
