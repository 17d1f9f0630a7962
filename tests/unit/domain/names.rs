use super::*;

#[test]
fn names_go_there_and_back() {
    let (chat, device) = (ChatId::random(), DeviceId::random());
    assert_eq!(chat_of(&topic(chat)), Some(chat));
    assert_eq!(device_of(&channel(device)), Some(device));
    assert_eq!(topic(chat).len(), 34);
    assert_eq!(claim("ks:{a}"), "keepstep.ks--a-");
    assert!(claim(&"x".repeat(100)).len() <= 64 && chat_of(&claim("ks")).is_none());
    assert_eq!(marked(&mark(1200)), Some(1200));
    assert!(marked("t.").is_none() && marked(&channel(device)).is_none());
    for strange in
        ["c.", "orders", "c.0B1C2D3E000040008000000000000000", &format!("{}#ephemeral", topic(chat))]
    {
        assert_eq!(chat_of(strange), None, "{strange}");
    }
}
