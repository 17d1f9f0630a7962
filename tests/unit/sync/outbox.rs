use super::*;

fn due(outbox: &Outbox, down: &str, now: Instant) -> Vec<ChatId> {
    outbox.take_due(now, |node| node == down).into_iter().map(|due| due.chat).collect()
}

fn left(node: &str, messages: usize) -> Checked {
    Checked::Left(Left { node: node.to_owned(), messages: Some(messages), since: None })
}

#[test]
fn the_oldest_counts_wherever_it_waits() {
    let (outbox, slots) = (Outbox::default(), Slots::new(8));
    let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    let seconds = |outbox: &Outbox| outbox.unconfirmed(slots.oldest()).oldest.as_secs();
    assert_eq!(outbox.unconfirmed(slots.oldest()).oldest, Duration::ZERO);
    outbox.opened();
    slots.set(7, Some(ago(10)));
    assert_eq!((outbox.unconfirmed(slots.oldest()).messages, seconds(&outbox)), (1, 0));
    assert!(outbox.unconfirmed(slots.oldest()).oldest > Duration::ZERO);

    let chat = ChatId::random();
    outbox.leave(chat, String::new(), 2, ago(100));
    outbox.leave(chat, String::new(), 1, ago(20));
    assert_eq!((outbox.unconfirmed(None).messages, seconds(&outbox)), (1 + 3, 100));
    outbox.dead("e-1", Some((7, Some(ago(300)))));
    outbox.dead_published("e-1", 2);
    let now = outbox.unconfirmed(None);
    assert_eq!((now.dead_edges, now.dead_edge_messages, seconds(&outbox)), (1, 5, 300));

    assert_eq!(due(&outbox, "", Instant::now()), [chat]);
    assert_eq!(outbox.unconfirmed(None).messages, 4, "what is being worked at counts");
    outbox.checked(chat, Checked::Empty, Instant::now());
    outbox.dead("e-1", None);
    outbox.closed(1);
    slots.set(7, None);
    let now = outbox.unconfirmed(slots.oldest());
    assert_eq!((now.messages, now.chats, now.oldest, now.dead_edges), (0, 0, Duration::ZERO, 0));
}

#[test]
fn what_is_left_while_an_outbox_is_emptied_stays() {
    let (outbox, chat) = (Outbox::default(), ChatId::random());
    outbox.leave(chat, "a".to_owned(), 5, Instant::now());
    assert_eq!(due(&outbox, "", Instant::now()), [chat]);
    assert_eq!(due(&outbox, "", Instant::now()), [], "one at a time");
    outbox.leave(chat, "a".to_owned(), 2, Instant::now());
    outbox.checked(chat, left("b", 3), Instant::now());
    assert_eq!(outbox.unconfirmed(None).messages, 3 + 2);
    assert_eq!(due(&outbox, "a", Instant::now()), [chat], "it has another node");
    outbox.leave(chat, "b".to_owned(), 1, Instant::now());
    outbox.checked(chat, Checked::Empty, Instant::now());
    assert_eq!(outbox.unconfirmed(None).messages, 1);
    assert_eq!(due(&outbox, "", Instant::now()), [chat]);
    outbox.checked(chat, Checked::Empty, Instant::now());
    assert!(lock(&outbox.behind).is_empty());
}

#[test]
fn what_a_node_that_is_down_is_owed_is_asked_for_now_and_then_and_at_once_when_it_is_back() {
    let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
    outbox.leave(chat, "a".to_owned(), 5, begun);
    let (mut now, mut asked) = (begun, 0);
    for _ in 0..20 {
        for chat in due(&outbox, "a", now) {
            asked += 1;
            outbox.checked(chat, left("a", 5), now);
        }
        now += Duration::from_secs(1);
    }
    assert_eq!(asked, 3);
    assert_eq!(due(&outbox, "", now), [chat]);
}

#[test]
fn a_doubt_is_looked_into_for_35_seconds_and_counts_for_nothing() {
    let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
    outbox.check_soon(chat, begun);
    let mut at = Vec::new();
    for second in 0..100 {
        let now = begun + Duration::from_secs(second);
        if !due(&outbox, "", now).is_empty() {
            at.push(second);
            outbox.checked(chat, Checked::Empty, now);
        }
        assert_eq!(outbox.unconfirmed(None).chats, 0);
    }
    assert_eq!(at, [1, 4, 11, 18, 25, 32, 35]);
    assert!(lock(&outbox.behind).is_empty());
}

#[test]
fn doubts_that_go_on_do_not_put_the_check_off() {
    let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
    let mut at = Vec::new();
    for half in 0..200 {
        let now = begun + half * Duration::from_millis(500);
        if half < 10 {
            outbox.check_soon(chat, now);
        }
        if !due(&outbox, "", now).is_empty() {
            at.push(half);
            outbox.checked(chat, Checked::Empty, now);
        }
    }
    assert_eq!(at[0], 2);
    assert!(at.ends_with(&[11, 17, 31, 45, 59, 73, 79]), "from the last one on as after one: {at:?}");
    assert!(lock(&outbox.behind).is_empty());
}

/// Of the first uncertain append, as long as the store may still execute it; the second starts at any time.
#[test]
fn what_is_appended_late_is_found_soon_whatever_else_is_doubted() {
    for second in 1..30 {
        let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
        outbox.check_soon(chat, begun);
        let mut checked = 0;
        for at in 0..=35 {
            let now = begun + Duration::from_secs(at);
            if at == second {
                outbox.check_soon(chat, now);
            }
            if !due(&outbox, "", now).is_empty() {
                checked = at;
                outbox.checked(chat, Checked::Empty, now);
            }
            assert!(
                at - checked <= 7,
                "a second doubt after {second} s: at {at} s the last check was at {checked} s"
            );
        }
    }
}
