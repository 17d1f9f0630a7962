use serde_json::json;

use super::*;

const CHAT: ChatId = uuid::Uuid::from_u128(1);

fn message(seq: u64, said: &str) -> Message {
    let text = json!({"type": "message", "chat": CHAT, "seq": seq, "content": said}).to_string();
    Message::parse(&text).unwrap()
}

#[test]
fn the_same_message_twice_is_counted_and_another_one_is_a_fault() {
    let mut memory = Memory::default();
    memory.arrived(1, &message(1, "a"), None);
    memory.arrived(1, &message(1, "a"), None);
    assert_eq!((memory.live, memory.repeated, memory.faults.len()), (1, 1, 0));
    memory.arrived(1, &message(1, "b"), None);
    assert_eq!(memory.faults.len(), 1);
}

#[test]
fn the_read_offset_never_goes_back() {
    let mut memory = Memory::default();
    memory.read_moved(CHAT, 7);
    memory.read_moved(CHAT, 3);
    assert_eq!(memory.read(CHAT), 7);
}
