use super::*;

fn chat() -> Watch {
    Watch::Chat(ChatId::random())
}

#[tokio::test]
async fn what_is_needed_again_in_time_is_never_let_go_of() {
    let (mut state, now) = (State::default(), Instant::now());
    let (gone, back) = (chat(), chat());
    for watch in [&gone, &back, &gone, &back] {
        state.idle(watch.clone(), now + LINGER);
    }
    assert_eq!((state.idle.len(), state.next(now)), (2, Some(now + LINGER)), "each once");
    assert!(state.leave(now + LINGER / 2, |_| false).is_empty(), "not yet");
    assert_eq!(state.leave(now + LINGER, |watch| *watch == back), std::slice::from_ref(&gone));
    assert!(state.leaving.contains(&gone) && state.waiting.is_empty() && state.next(now).is_none());
    // It may become idle once more.
    state.idle(back.clone(), now + 2 * LINGER);
    assert_eq!(state.leave(now + 2 * LINGER, |_| false), [back]);
}

#[tokio::test]
async fn whoever_needs_what_is_just_let_go_of_waits() {
    let watches = Arc::new(Watches::default());
    let (one, other) = (chat(), chat());
    lock(&watches.state).leaving.insert(one.clone());
    watches.settled(std::slice::from_ref(&other)).await;
    let waits = tokio::spawn({
        let (watches, one) = (watches.clone(), one.clone());
        async move { watches.settled(&[one, other]).await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    lock(&watches.state).leaving.remove(&one);
    watches.left.notify_waiters();
    waits.await.unwrap();
}
