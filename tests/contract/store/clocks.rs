//! The store's clock is set ahead, and back: what it was to decide is decided all the same, and not for an hour too long.

use keepstep::store::{Beat, ExpiredSession, SessionCheck, StoreLimits};

use super::*;

const HOUR: i64 = 3600;
/// Long enough for the calls of a story; short enough to be waited for.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_lease_runs_out_although_the_clock_was_set_back() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    let read = async || store.device(&device.user, device.id).await.unwrap().unwrap();
    clock.set(-HOUR).await;
    assert!(read().await.online(), "no wall clock says otherwise");
    store.edge_alive(&life("edge-1"), SHORT).await.unwrap();
    let (now, _) = store.due_devices(1).await.unwrap();
    assert!(read().await.last_seen <= now + 1_000, "nobody was seen in the future");
    store.edge_alive(&Incarnation { term: 1, ..life("edge-1") }, SHORT).await.unwrap();
    assert_eq!((read().await.online(), read().await.unrenewed), (false, true));
    let noted = noted(&device, session, &life("edge-1"));
    let expired = store.expire_session("edge-1", &noted, Duration::ZERO).await.unwrap();
    let ExpiredSession::Now(seen) = expired else { panic!("{expired:?}") };
    let (now, _) = store.due_devices(1).await.unwrap();
    assert!(seen <= now, "nobody was seen in the future");
    let is = read().await;
    assert_eq!((is.online(), is.unrenewed), (false, false));
}

#[tokio::test]
async fn a_session_goes_on_although_the_clock_was_set_ahead() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    let (noted, by) = (noted(&device, session, &life("edge-1")), life("edge-1"));
    let check = async || store.check_session(&device.user, device.id, session, &by).await.unwrap();
    let online = async || store.device(&device.user, device.id).await.unwrap().unwrap().online();
    clock.set(8 * 24 * HOUR).await;
    assert_eq!((check().await, online().await), (SessionCheck::Held, true));
    clock.set(16 * 24 * HOUR).await;
    // Somebody took its edge for dead.
    assert!(matches!(store.expire_session("edge-1", &noted, LONG).await.unwrap(), ExpiredSession::Now(_)));
    assert_eq!(check().await, SessionCheck::Revived);
    assert!(online().await);
    clock.set(32 * 24 * HOUR).await;
    // Who comes now tells the other one.
    let opened = opens(&store, &device, "edge-2").await;
    let Opened::Session { previous, .. } = opened else { panic!("{opened:?}") };
    assert_eq!(previous.map(|lease| lease.session), Some(session));
}

#[tokio::test]
async fn work_and_windows_end_although_the_clock_was_set_back() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    assert!(store.try_acquire_lease("work", "who-died", SHORT).await.unwrap());
    for n in 1..=3 {
        assert_eq!(store.count("tries", SHORT).await.unwrap(), n);
    }
    clock.set(-HOUR).await;
    assert!(!store.try_acquire_lease("work", "who-came", SHORT).await.unwrap());
    assert!(store.count("tries", SHORT).await.unwrap() > 3);
    wait_until("the work to be free", PATIENCE, async || {
        store.try_acquire_lease("work", "who-came", SHORT).await.unwrap().then_some(())
    })
    .await;
    // Each look counts, so they are some way apart.
    wait_until("a new window", PATIENCE, async || {
        let first = store.count("tries", SHORT).await.unwrap() == 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        first.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_died_is_silent_although_the_clock_was_set_back() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    store.register_sender("edge-1", ChatId::random()).await.unwrap();
    clock.set(-HOUR).await;
    let silent = async || match store.edge_alive(&life("edge-2"), SHORT).await.unwrap() {
        Beat::Heard(others) => others.iter().any(|edge| edge.silent && edge.noted),
        other => panic!("{other:?}"),
    };
    assert!(!silent().await, "its silence begins now");
    wait_until("edge-1 to be silent", PATIENCE, async || silent().await.then_some(())).await;
}

#[tokio::test]
async fn keys_and_logs_are_kept_although_the_clock_was_set_ahead() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let first = message(chat, &alice, "said once");
    assert!(matches!(store.append(&first).await.unwrap(), Appended::New { seq: 1, .. }));
    store.published(chat, &[1]).await.unwrap();
    store.trim(chat).await.unwrap();
    for days in [8, 60, 400] {
        clock.set(days * 24 * HOUR).await;
        let again = store.append(&first).await.unwrap();
        assert_eq!(again, Appended::Again { seq: 1, at: first.at }, "after {days} days of Redis's");
        let seq = send(&store, chat, &alice, "more").await;
        store.published(chat, &[seq]).await.unwrap();
        store.trim(chat).await.unwrap();
        assert_eq!(store.log(chat, 1, 9, 9_999).await.unwrap().floor, 1);
    }
}
