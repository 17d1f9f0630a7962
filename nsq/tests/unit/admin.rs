use super::*;

#[test]
fn addresses_are_taken_with_and_without_scheme() {
    assert_eq!(base_url("localhost:4151"), "http://localhost:4151");
    assert_eq!(base_url("https://nsqd:4152/"), "https://nsqd:4152");
}

#[tokio::test]
async fn names_and_addresses_are_checked_before_anything_is_sent() {
    let http = Http::new("not an address");
    assert!(matches!(http.ping().await, Err(AdminError::InvalidAddress(_))));
    let error = Http::new("localhost:1").change("/topic/create", "a b", None).await.unwrap_err();
    assert!(matches!(error, AdminError::InvalidName(name) if name == "a b"));
}
