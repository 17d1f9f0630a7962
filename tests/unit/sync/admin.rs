use super::*;

fn queue(chat: u8, node: &str, oldest_at: Option<Millis>) -> ChannelView {
    ChannelView {
        chat: ChatId::from_hex(&format!("{chat:02x}").repeat(16)).unwrap(),
        topic: String::new(),
        channel: String::new(),
        node: Some(node.to_owned()),
        depth: 0,
        in_flight: 0,
        requeues: 0,
        consumers: 0,
        consumer: None,
        cursor: None,
        from: None,
        head: None,
        oldest_ms: oldest_at.map(|at| now_millis().saturating_sub(at)),
        oldest_at,
    }
}

/// The chats in order, one a page; before each page the queues are as `look` returns them.
fn chats(sort: &'static str, descending: bool, look: impl Fn() -> Vec<ChannelView>) -> Vec<u8> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let channels = Channels { items: look(), unreachable: Vec::new() };
        let page = channels.page(&Listing { search: None, sort, descending, after, limit: 1 }).unwrap();
        seen.extend(page.rows.iter().map(|row| row.chat.as_bytes()[0]));
        after = page.next;
        if after.is_none() {
            return seen;
        }
    }
}

#[test]
fn queues_stand_by_chat_whichever_server_has_them() {
    let look = || vec![queue(3, "a", None), queue(1, "b", None), queue(2, "a", None), queue(2, "b", None)];
    assert_eq!(chats("chat", false, look), [1, 2, 2, 3]);
}

#[test]
fn time_that_passes_between_pages_changes_no_order() {
    let begun = now_millis();
    // Each page is read a second later, so ages grow between pages.
    let pages = std::cell::Cell::new(0);
    let look = || {
        pages.set(pages.get() + 1);
        let mut all =
            vec![queue(1, "a", Some(begun - 900)), queue(2, "a", Some(begun - 500)), queue(3, "a", None)];
        all.iter_mut().for_each(|queue| queue.oldest_ms = queue.oldest_ms.map(|ms| ms + 1000 * pages.get()));
        all
    };
    assert_eq!(chats("oldest", true, look), [1, 2, 3]);
    assert_eq!(chats("oldest", false, look), [3, 2, 1]);
}
