use tokio::time::{advance, sleep};

use super::*;

fn due(outbox: &Outbox, down: &str) -> Vec<ChatId> {
    outbox.take_due(|node| node == down).into_iter().map(|due| due.chat).collect()
}

fn left(node: &str, messages: usize) -> Checked {
    Checked::Left(Left { node: node.to_owned(), messages: Some(messages), since: None })
}

#[test]
fn the_oldest_counts_wherever_it_waits() {
    let (outbox, places) = (Outbox::default(), Places::new(8));
    let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
    let seconds = |outbox: &Outbox| outbox.unconfirmed(places.oldest()).oldest.as_secs();
    assert_eq!(outbox.unconfirmed(places.oldest()).oldest, Duration::ZERO);
    outbox.opened();
    places.set(7, Some(ago(10)));
    assert_eq!((outbox.unconfirmed(places.oldest()).messages, seconds(&outbox)), (1, 0));
    assert!(outbox.unconfirmed(places.oldest()).oldest > Duration::ZERO);

    let chat = ChatId::random();
    outbox.leave(chat, String::new(), 2, ago(100));
    outbox.leave(chat, String::new(), 1, ago(20));
    assert_eq!((outbox.unconfirmed(None).messages, seconds(&outbox)), (1 + 3, 100));
    outbox.dead("e-1", Some((7, Some(ago(300)))));
    outbox.dead_published("e-1", 2);
    let now = outbox.unconfirmed(None);
    assert_eq!((now.dead_edges, now.dead_edge_messages, seconds(&outbox)), (1, 5, 300));

    assert_eq!(due(&outbox, ""), [chat]);
    assert_eq!(outbox.unconfirmed(None).messages, 4, "what is being worked at counts");
    outbox.checked(chat, Checked::Empty);
    outbox.dead("e-1", None);
    outbox.closed(1);
    places.set(7, None);
    let now = outbox.unconfirmed(places.oldest());
    assert_eq!((now.messages, now.chats, now.oldest, now.dead_edges), (0, 0, Duration::ZERO, 0));
}

#[test]
fn what_is_left_while_an_outbox_is_emptied_stays() {
    let (outbox, chat) = (Outbox::default(), ChatId::random());
    outbox.leave(chat, "a".to_owned(), 5, Instant::now());
    assert_eq!(due(&outbox, ""), [chat]);
    assert_eq!(due(&outbox, ""), [], "one at a time");
    outbox.leave(chat, "a".to_owned(), 2, Instant::now());
    outbox.checked(chat, left("b", 3));
    assert_eq!(outbox.unconfirmed(None).messages, 3 + 2);
    assert_eq!(due(&outbox, "a"), [chat], "it has another node");
    outbox.leave(chat, "b".to_owned(), 1, Instant::now());
    outbox.checked(chat, Checked::Empty);
    assert_eq!(outbox.unconfirmed(None).messages, 1);
    assert_eq!(due(&outbox, ""), [chat]);
    outbox.checked(chat, Checked::Empty);
    assert!(lock(&outbox.behind).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_node_that_is_down_is_owed_is_asked_for_now_and_then_and_at_once_when_it_is_back() {
    let (outbox, chat) = (Outbox::default(), ChatId::random());
    outbox.leave(chat, "a".to_owned(), 5, Instant::now());
    let mut asked = 0;
    for _ in 0..20 {
        for chat in due(&outbox, "a") {
            asked += 1;
            outbox.checked(chat, left("a", 5));
        }
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(asked, 3);
    assert_eq!(due(&outbox, ""), [chat]);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_looked_into_four_times_and_counts_for_nothing() {
    let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
    outbox.doubt(chat);
    let mut at = Vec::new();
    while !lock(&outbox.behind).is_empty() {
        if !due(&outbox, "").is_empty() {
            at.push(begun.elapsed().as_secs());
            outbox.checked(chat, Checked::Empty);
        }
        assert_eq!(outbox.unconfirmed(None).chats, 0);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(at, [1, 4, 12, 35]);
}

#[tokio::test(start_paused = true)]
async fn doubts_that_go_on_do_not_put_the_check_off() {
    let (outbox, chat, begun) = (Outbox::default(), ChatId::random(), Instant::now());
    let mut at = Vec::new();
    while begun.elapsed() < Duration::from_secs(60) {
        if begun.elapsed() < Duration::from_secs(5) {
            outbox.doubt(chat);
        }
        sleep(Duration::from_millis(500)).await;
        if !due(&outbox, "").is_empty() {
            at.push(begun.elapsed().as_millis());
            outbox.checked(chat, Checked::Empty);
        }
    }
    assert_eq!(at[0], 1000);
    assert!(at.ends_with(&[5500, 8500, 16_500, 39_500]), "from the last one on as after one: {at:?}");
    assert!(lock(&outbox.behind).is_empty());
}
