//! The core without I/O: what it makes of what comes, and what it says.

use keepstep_client::{
    ChatId, Draft, Event, Violation,
    frame::{ClientFrame, Page},
    session::Session,
};
use serde_json::{Value, json};
use uuid::Uuid;

const CHAT: ChatId = Uuid::from_u128(0xc);

fn welcome(kind: &str, cursor: u64, from: u64) -> String {
    let device = Uuid::from_u128(0xd);
    json!({"type": "welcome", "user": "alice", "device": device, "kind": kind, "session": 1, "chats": [
        {"id": CHAT, "kind": "direct", "name": null, "head": cursor, "read": 0, "cursor": cursor, "from": from}]})
    .to_string()
}

fn message(seq: u64, from: &str, key: Uuid) -> String {
    json!({"type": "message", "chat": CHAT, "seq": seq, "key": key, "from": from, "at": 7, "kind": "text",
        "content": format!("#{seq}")})
    .to_string()
}

/// A session that is connected, its first event taken.
fn connected(kind: &str, cursor: u64) -> Session {
    let mut session = Session::new();
    opens(&mut session, kind, cursor);
    session
}

fn opens(session: &mut Session, kind: &str, cursor: u64) {
    session.connected();
    session.receive(&welcome(kind, cursor, 0));
    assert!(matches!(session.poll_event(), Some(Event::Connected(_))));
}

fn said(session: &mut Session) -> Vec<Value> {
    std::iter::from_fn(|| session.poll_frame())
        .map(|frame| serde_json::from_str(&frame.text()).unwrap())
        .collect()
}

fn happened(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

#[test]
fn one_acknowledgement_stands_for_all_that_is_stored() {
    let mut session = connected("main", 4);
    for seq in 5..=9 {
        session.receive(&message(seq, "bob", Uuid::nil()));
    }
    assert_eq!(happened(&mut session).len(), 5);
    assert!(said(&mut session).is_empty(), "nothing is stored yet");
    (5..=8).for_each(|seq| session.stored(CHAT, seq));
    assert_eq!(said(&mut session), [json!({"type": "ack", "chat": CHAT, "seq": 8})]);
    session.stored(CHAT, 8);
    assert!(said(&mut session).is_empty(), "it is acknowledged already");
    session.stored(CHAT, 99);
    assert_eq!(said(&mut session), [json!({"type": "ack", "chat": CHAT, "seq": 9})], "no more than came");
}

#[test]
fn what_was_stored_and_not_acknowledged_is_acknowledged_when_it_comes_again() {
    let mut session = connected("main", 0);
    (1..=3).for_each(|seq| session.receive(&message(seq, "bob", Uuid::nil())));
    session.stored(CHAT, 2);
    drop(said(&mut session));
    happened(&mut session);
    session.disconnected();
    // The acknowledgement got lost.
    opens(&mut session, "main", 0);
    (1..=4).for_each(|seq| session.receive(&message(seq, "bob", Uuid::nil())));
    let events = happened(&mut session);
    assert!(
        matches!(
            events[..],
            [Event::Duplicate(_), Event::Duplicate(_), Event::Duplicate(_), Event::Message(_)]
        ),
        "{events:?}"
    );
    assert_eq!(said(&mut session), [json!({"type": "ack", "chat": CHAT, "seq": 2})]);
}

#[test]
fn a_seq_that_is_not_the_next_one_is_seen_and_not_handed_over() {
    let mut session = connected("main", 4);
    session.receive(&message(6, "bob", Uuid::nil()));
    session.receive(&message(5, "bob", Uuid::nil()));
    session.receive(&message(5, "bob", Uuid::nil()));
    let events = happened(&mut session);
    let wrong = |event: &Event, due, seq| matches!(event, Event::Violation(Violation::OutOfOrder { due: d, seq: s, .. }) if (*d, *s) == (due, seq));
    assert!(wrong(&events[0], 5, 6), "{events:?}");
    assert!(matches!(&events[1], Event::Message(message) if message.seq == 5));
    assert!(wrong(&events[2], 6, 5), "{events:?}");
}

#[test]
fn a_gap_is_told_and_what_follows_is_in_order() {
    let mut session = connected("sub", 4);
    session.receive(&json!({"type": "gap", "chat": CHAT, "from": 5, "to": 7}).to_string());
    session.receive(&message(8, "bob", Uuid::nil()));
    session.receive(&json!({"type": "gap", "chat": CHAT, "from": 8, "to": 9}).to_string());
    let events = happened(&mut session);
    assert!(matches!(&events[0], Event::Gap(gap) if (gap.from, gap.to) == (5, 7)));
    assert!(matches!(&events[1], Event::Message(message) if message.seq == 8));
    assert!(matches!(&events[2], Event::Violation(Violation::OutOfOrder { .. })));
}

#[test]
fn what_the_device_lacks_below_its_cursor_is_told_as_a_gap() {
    let mut session = Session::new();
    session.resume(CHAT, 3);
    opens(&mut session, "main", 8);
    assert!(matches!(session.poll_event(), Some(Event::Gap(gap)) if (gap.from, gap.to) == (4, 8)));
    // And one that has more than it acknowledged knows what comes again.
    let mut session = Session::new();
    session.resume(CHAT, 9);
    opens(&mut session, "main", 8);
    session.receive(&message(9, "bob", Uuid::nil()));
    assert!(matches!(session.poll_event(), Some(Event::Duplicate(_))));
    assert_eq!(said(&mut session), [json!({"type": "ack", "chat": CHAT, "seq": 9})]);
}

#[test]
fn a_send_goes_out_again_under_its_key_and_in_its_order() {
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut session = Session::new();
    session.send(first, CHAT, Draft::text("one")).unwrap();
    session.send(second, CHAT, Draft::text("two")).unwrap();
    assert!(said(&mut session).is_empty(), "there is no connection");
    opens(&mut session, "main", 0);
    let sent = said(&mut session);
    assert_eq!(sent.len(), 1, "one of a chat at a time: {sent:?}");
    assert_eq!((&sent[0]["key"], &sent[0]["content"]), (&json!(first), &json!("one")));
    session.disconnected();
    opens(&mut session, "main", 0);
    let again = said(&mut session);
    assert_eq!(again[0]["key"], json!(first));
    session.receive(&json!({"type": "reply", "id": again[0]["id"], "ok": {"seq": 1, "at": 5}}).to_string());
    assert!(matches!(session.poll_event(), Some(Event::Sent(sent)) if (sent.key, sent.seq) == (first, 1)));
    assert_eq!(said(&mut session)[0]["key"], json!(second));
    assert_eq!(session.unsent().count(), 1);
}

#[test]
fn the_own_message_settles_a_send_whose_reply_got_lost() {
    let key = Uuid::from_u128(1);
    let mut session = connected("main", 0);
    session.send(key, CHAT, Draft::text("one")).unwrap();
    let id = said(&mut session)[0]["id"].clone();
    session.receive(&message(1, "alice", key));
    let events = happened(&mut session);
    assert!(matches!(events[..], [Event::Sent(_), Event::Message(_)]), "{events:?}");
    // The reply comes all the same, and is no news.
    session.receive(&json!({"type": "reply", "id": id, "ok": {"seq": 1, "at": 5}}).to_string());
    assert!(happened(&mut session).is_empty());
}

#[test]
fn what_the_server_can_not_take_now_waits_and_what_it_never_takes_is_refused() {
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut session = connected("main", 0);
    session.send(first, CHAT, Draft::text("one")).unwrap();
    session.send(second, CHAT, Draft::text("two")).unwrap();
    let answer = |sent: &Value, code: &str, retry: bool| {
        let error = json!({"code": code, "message": "", "retry": retry});
        json!({"type": "reply", "id": sent["id"], "error": error}).to_string()
    };
    let sent = said(&mut session);
    session.receive(&answer(&sent[0], "unavailable", true));
    assert!(matches!(session.poll_event(), Some(Event::Delayed(_))));
    assert!(said(&mut session).is_empty(), "the second doesn't overtake the first");
    session.retry();
    let again = said(&mut session);
    assert_eq!(again[0]["key"], json!(first));
    session.receive(&answer(&again[0], "not_found", false));
    assert!(matches!(session.poll_event(), Some(Event::Refused { key, .. }) if key == first));
    assert_eq!(said(&mut session)[0]["key"], json!(second));
}

#[test]
fn a_read_offset_is_said_until_it_is_confirmed() {
    let mut session = Session::new();
    session.read(CHAT, 3);
    session.read(CHAT, 2);
    opens(&mut session, "main", 5);
    let asked = said(&mut session);
    assert_eq!((asked.len(), &asked[0]["seq"]), (1, &json!(3)), "{asked:?}");
    session.disconnected();
    opens(&mut session, "main", 5);
    let asked = said(&mut session);
    session.receive(&json!({"type": "reply", "id": asked[0]["id"], "ok": {"seq": 4}}).to_string());
    assert!(matches!(session.poll_event(), Some(Event::Read(notice)) if notice.seq == 4));
    assert!(said(&mut session).is_empty());
    assert_eq!(session.chat(CHAT).unwrap().read(), 4);
}

#[test]
fn a_read_offset_that_is_there_already_is_confirmed_by_the_welcome() {
    let mut session = Session::new();
    session.read(CHAT, 0);
    opens(&mut session, "main", 5);
    assert!(matches!(session.poll_event(), Some(Event::Read(notice)) if notice.seq == 0));
    assert!(said(&mut session).is_empty());
}

#[test]
fn a_sub_says_ready_once_on_each_connection() {
    let mut session = connected("sub", 0);
    session.ready();
    session.ready();
    assert_eq!(said(&mut session), [json!({"type": "ready"})]);
    opens(&mut session, "sub", 0);
    assert_eq!(said(&mut session), [json!({"type": "ready"})]);
    let mut main = connected("main", 0);
    main.ready();
    assert!(said(&mut main).is_empty(), "a main has nothing to boot");
}

#[test]
fn a_page_is_cut_to_what_a_frame_holds() {
    let large = |seq: u64| {
        let text = json!({"type": "message", "chat": CHAT, "seq": seq, "content": "x".repeat(100_000)});
        serde_json::from_value(text).unwrap()
    };
    let mut session = connected("main", 9);
    session.serve("r".to_owned(), Page { messages: (1..=4).map(large).collect(), more: false });
    let Some(ClientFrame::HistoryPage { messages, more, .. }) = session.poll_frame() else {
        panic!("a page")
    };
    assert_eq!((messages.iter().map(|it| it.seq).collect::<Vec<_>>(), more), (vec![3, 4], true));
    session.serve("r".to_owned(), Page { messages: Vec::new(), more: true });
    assert_eq!(said(&mut session)[0]["code"], "unavailable");
    session.serve("r".to_owned(), Page::default());
    assert_eq!(
        said(&mut session)[0],
        json!({"type": "history_page", "request": "r", "messages": [], "more": false})
    );
}

#[test]
fn a_newer_server_is_tolerated_and_nonsense_is_a_violation() {
    let mut session = connected("main", 0);
    session.receive(r#"{"type":"sparkle","colour":1}"#);
    assert!(matches!(session.poll_event(), Some(Event::Unknown(frame)) if frame.kind == "sparkle"));
    let device = Uuid::from_u128(5);
    session.receive(&json!({"type": "device", "event": "renamed", "device": device, "new": 1}).to_string());
    assert!(matches!(session.poll_event(), Some(Event::Device(_))));
    for nonsense in ["", "[]", "{}", r#"{"type":"message","chat":7}"#, r#"{"type":"reply","id":1,"ok":{}}"#] {
        session.receive(nonsense);
        assert!(matches!(session.poll_event(), Some(Event::Violation(_))), "{nonsense}");
    }
    session.receive(&welcome("main", 0, 0));
    assert!(matches!(session.poll_event(), Some(Event::Violation(Violation::Welcome))));
}

#[test]
fn a_message_keeps_the_text_in_which_it_came() {
    let text =
        format!(r#"{{"type":"message","chat":"{CHAT}","seq":1, "own":{{"a":1.50}},"content":"h\u00e9"}}"#);
    let message = keepstep_client::Message::parse(&text).unwrap();
    assert_eq!((message.raw(), message.text().as_deref()), (text.as_str(), Some("hé")));
    assert_eq!(serde_json::to_string(&message).unwrap(), text);
}
