use futures_util::FutureExt;

use super::*;

const AT_ONCE: usize = 8;
const OF_ONE: usize = 2;

fn queue() -> FairQueue<&'static str> {
    FairQueue::new(Bounds { at_once: AT_ONCE, of_one: OF_ONE, longest: Duration::from_millis(300) })
}

#[tokio::test]
async fn one_flow_leaves_room_for_others_and_they_take_turns() {
    let queue = queue();
    let (greedy, late) = ("greedy", "late");
    let mut held: Vec<_> = Vec::new();
    for _ in 0..OF_ONE {
        held.push(queue.acquire(&greedy).now_or_never().flatten().expect("room"));
    }
    let mut more: Vec<_> = (0..100).map(|_| Box::pin(queue.acquire(&greedy))).collect();
    for one in &mut more {
        assert!(one.as_mut().now_or_never().is_none(), "it has its part");
    }
    // Each newcomer has room at once, until all is taken.
    for name in ["a", "b", "c"] {
        for _ in 0..OF_ONE {
            held.push(queue.acquire(&name).now_or_never().flatten().expect("room"));
        }
    }
    let mut late = Box::pin(queue.acquire(&late));
    assert!(late.as_mut().now_or_never().is_none(), "{AT_ONCE} are under way");
    // One turn of the greedy flow ends: its next turn comes behind the other waiters, though a hundred of its own
    // have waited longer.
    drop(held.remove(0));
    let permit = late.as_mut().now_or_never().flatten().expect("its turn");
    assert!(more[0].as_mut().now_or_never().is_none());
    drop(permit);
    assert!(more[0].as_mut().now_or_never().is_some());
}

#[tokio::test]
async fn whoever_gives_up_takes_no_place_and_nothing_is_left() {
    let (queue, a) = (queue(), "a");
    let held: Vec<_> = (0..OF_ONE).map(|_| queue.acquire(&a).now_or_never().flatten()).collect();
    let mut gone = Box::pin(queue.acquire(&a));
    let mut stays = Box::pin(queue.acquire(&a));
    assert!(gone.as_mut().now_or_never().is_none() && stays.as_mut().now_or_never().is_none());
    drop(gone);
    drop(held);
    let permit = stays.await.expect("its turn");
    // The turn was granted, and given up before it was polled.
    let others: Vec<_> = (1..OF_ONE).map(|_| queue.acquire(&a).now_or_never().flatten()).collect();
    let mut given = Box::pin(queue.acquire(&a));
    assert!(given.as_mut().now_or_never().is_none());
    drop(permit);
    drop(given);
    drop(others);
    let state = queue.state();
    assert!(state.active == 0 && state.flows.is_empty() && state.next.is_empty(), "{state:?}");
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let (queue, a) = (queue(), "a");
    let held: Vec<_> = (0..OF_ONE).map(|_| queue.acquire(&a).now_or_never().flatten()).collect();
    assert!(queue.acquire(&a).await.is_none());
    drop(held);
    assert!(queue.acquire(&a).await.is_some());
}
