use super::*;

#[test]
fn the_limit_is_read_from_the_refusal() {
    assert_eq!(limit_in("E_BAD_MESSAGE PUB message too big 67108865 > 1048576"), Some(1_048_576));
    assert_eq!(limit_in("E_BAD_MESSAGE PUB failed to read message body"), Some(MAX_FRAME_BYTES));
    for other in
        ["E_BAD_MESSAGE", "E_BAD_MESSAGE a > b", "E_BAD_TOPIC too big 3 > 2", "E_BAD_MESSAGE too big 3 > x"]
    {
        assert_eq!(limit_in(other), None, "{other}");
    }
}
