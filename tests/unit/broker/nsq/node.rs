use super::*;

#[tokio::test]
async fn only_what_is_too_large_can_never_be_published() {
    let address = NodeAddress::parse("127.0.0.1:1").unwrap();
    let node =
        Node::new(address, Arc::default(), Duration::from_secs(60), watch::Sender::new(Restarts::new()));
    let fault = |message: &str| {
        let (code, message) = ("E_BAD_MESSAGE".to_owned(), message.to_owned());
        node.publish_fault(PublishError::Refused { code, message })
    };
    let never = fault("PUB message too big 2147483647 > 5000");
    assert!(matches!(never, BrokerError::Unpublishable { .. }), "{never}");
    let again = fault("PUB failed to read message body");
    assert!(matches!(again, BrokerError::Refused { .. }), "{again}");
}
