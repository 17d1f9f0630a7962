use std::sync::mpsc;

use super::*;

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_turn_lasts_as_long_as_the_work_and_not_as_the_waiting() {
    let turns = Turns::new(PATIENCE);
    let mut ends = Vec::new();
    // Two begin, and then nobody waits for them.
    for name in ["alice", "bob"] {
        let (end, ended) = mpsc::channel::<()>();
        let (begun, mut begins) = tokio::sync::mpsc::channel(1);
        let whose = user(name);
        let work = move || {
            begun.blocking_send(()).unwrap();
            let _ = ended.recv();
        };
        tokio::select! {
            _ = turns.run(&whose, work) => unreachable!("it waits to be ended"),
            _ = begins.recv() => {}
        }
        ends.push(end);
    }
    assert_eq!(turns.running.available_permits(), 0, "both still run");
    let carol = user("carol");
    let mut third = std::pin::pin!(turns.run(&carol, || ()));
    assert!(tokio::time::timeout(Duration::from_millis(50), third.as_mut()).await.is_err());
    ends.pop();
    third.await.unwrap();
    drop(ends);
    while !lock(&turns.users).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(turns.running.available_permits(), AT_ONCE);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_hash_gives_way_to_who_serves() {
    let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
    let hash = Turns::new(PATIENCE).run(&user("alice"), nice).await.unwrap();
    assert_eq!(hash, (nice() + GIVES_WAY).min(19));
}

#[tokio::test]
async fn waiting_has_bounds() {
    let turns = Turns::new(Duration::from_millis(100));
    let all = turns.running.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
    let alice = user("alice");
    let mut waiting: Vec<_> = (0..OWN_PLACES).map(|_| Box::pin(turns.run(&alice, || ()))).collect();
    for one in &mut waiting {
        assert!(futures_util::poll!(one).is_pending());
    }
    let refused = turns.run(&alice, || ()).await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after), (ErrorCode::TooManyRequests, Some(AGAIN)));
    // Another user waits too, and not for ever.
    let refused = turns.run(&user("bob"), || ()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooManyRequests);
    // A caller who hangs up waits no more.
    waiting.clear();
    assert!(lock(&turns.users).is_empty());
    drop(all);
    turns.run(&alice, || ()).await.unwrap();
}
