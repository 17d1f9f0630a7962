use super::*;

#[test]
fn depth_counts_brackets_outside_strings() {
    assert_eq!(depth(r#"{"a":[1,{"b":"[[[[\"["}]}"#), 3);
    assert_eq!(depth("\"[[[\""), 0);
}

#[test]
fn an_application_kind_is_short_and_plain() {
    assert!(application_kind("x.payment-v2"));
    for bad in ["x.", "x.A", "y.a", "x", &format!("x.{}", "a".repeat(33))] {
        assert!(!application_kind(bad), "{bad}");
    }
}
