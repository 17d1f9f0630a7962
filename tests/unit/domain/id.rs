use super::*;

#[test]
fn a_user_id_is_up_to_64_plain_characters() {
    for good in ["a", "alice@example.org", "A-Z_0.9", "...", ".a", "a.", &"x".repeat(64)] {
        assert!(good.parse::<UserId>().is_ok(), "{good}");
    }
    for bad in ["", &"x".repeat(65), "a b", "a*", "a/b", "a\r\n", "{a}", "ä", "a|b", "a#ephemeral", ".", ".."]
    {
        assert_eq!(bad.parse::<UserId>(), Err(IdError::User), "{bad}");
    }
}

#[test]
fn a_uuid_has_one_spelling() {
    let id: ChatId = "0B1C2D3E-0000-4000-8000-00000000000A".parse().unwrap();
    assert_eq!(id.to_string(), "0b1c2d3e-0000-4000-8000-00000000000a");
    assert_eq!(ChatId::from_hex(&id.hex()), Some(id));
    for bad in
        ["{0b1c2d3e-0000-4000-8000-00000000000a}", "0b1c2d3e000040008000000000000000", "urn:uuid:x", ""]
    {
        assert_eq!(bad.parse::<ChatId>(), Err(IdError::Uuid), "{bad}");
    }
}
