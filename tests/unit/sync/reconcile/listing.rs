use super::*;

fn chat(number: u8) -> ChatId {
    format!("{number:08x}-0000-4000-8000-000000000000").parse().expect("an id")
}

fn queues(node: &str, chats: &[u8]) -> Vec<QueueAt> {
    let device = DeviceId::random();
    chats.iter().map(|number| QueueAt { node: node.into(), chat: chat(*number), device }).collect()
}

fn listing(queues: Vec<QueueAt>, silent: &[&str]) -> Listing {
    let silent = silent.iter().map(|node| (*node).to_owned()).collect();
    Listing::of(Present { queues, unread: Vec::new(), empty: Vec::new(), silent })
}

fn nodes() -> Vec<String> {
    vec!["one".to_owned(), "two".to_owned()]
}

fn chats(numbers: &[u8]) -> HashSet<ChatId> {
    numbers.iter().map(|number| chat(*number)).collect()
}

#[test]
fn what_a_restarted_server_has_and_had_is_compared_and_nothing_else() {
    let (mut shown, mut restarted) = (Shown::default(), HashSet::new());
    let both = [queues("one", &[1, 2, 3]), queues("two", &[4, 5])].concat();
    let changed = shown.update(nodes(), &listing(both.clone(), &[]), &mut restarted);
    assert!(changed.chats.is_empty() && !changed.is_back);
    // Nothing happened.
    assert!(shown.update(nodes(), &listing(both.clone(), &[]), &mut restarted).chats.is_empty());
    // It shows all that it had.
    restarted.insert("one".to_owned());
    let changed = shown.update(nodes(), &listing(both, &[]), &mut restarted);
    assert_eq!((changed.chats, changed.is_back, changed.has_lost), (chats(&[1, 2, 3]), true, false));
    assert!(restarted.is_empty());
    // It has lost one.
    restarted.insert("one".to_owned());
    let less = [queues("one", &[1, 2, 9]), queues("two", &[4, 5])].concat();
    let changed = shown.update(nodes(), &listing(less, &[]), &mut restarted);
    assert_eq!((changed.chats, changed.has_lost), (chats(&[1, 2, 3, 9]), true));
}

#[test]
fn a_server_that_answers_again_is_compared_with_what_it_had() {
    let (mut shown, mut restarted) = (Shown::default(), HashSet::new());
    let both = [queues("one", &[1]), queues("two", &[4])].concat();
    shown.update(nodes(), &listing(both.clone(), &[]), &mut restarted);
    restarted.insert("two".to_owned());
    let changed = shown.update(nodes(), &listing(queues("one", &[1]), &["two"]), &mut restarted);
    assert!(changed.chats.is_empty() && !changed.is_back, "it says nothing");
    assert!(restarted.contains("two"), "it is compared when it does");
    // Its chats are known all the same.
    assert_eq!(shown.take("two", 10), Some(vec![chat(4)]));
    assert_eq!(shown.take("two", 10), Some(Vec::new()));
    assert_eq!(shown.take("three", 10), None);
    let changed = shown.update(nodes(), &listing(both, &[]), &mut restarted);
    assert_eq!((changed.chats, changed.is_back, changed.has_lost), (chats(&[4]), true, false));
}

#[test]
fn a_chat_that_a_server_shows_no_more_is_compared() {
    let (mut shown, mut restarted) = (Shown::default(), HashSet::new());
    shown.update(nodes(), &listing(queues("one", &[1, 2]), &[]), &mut restarted);
    let changed = shown.update(nodes(), &listing(queues("one", &[2, 3]), &[]), &mut restarted);
    assert_eq!((changed.chats, changed.is_back, changed.has_lost), (chats(&[1]), false, false));
}

#[test]
fn what_is_shown_of_chats_that_are_not_listed_is_found_when_their_part_is_complete() {
    let listing = listing(queues("one", &[1, 2]), &[]);
    let seen = chats(&[1]);
    let beyond = |listed| listing.beyond(listed, &seen).collect::<Vec<_>>();
    assert_eq!(beyond(Listed::Some), []);
    assert_eq!(beyond(Listed::Part(7)), []);
    assert_eq!(beyond(Listed::Part(0)), [chat(2)]);
    assert_eq!(beyond(Listed::All), [chat(2)]);
}
