//! The store's clock is set ahead, and back: what it was to decide is decided all the same, and not for an hour too long.

use keepstep::store::{Beat, ExpiredSession, RegisteredSession, Renewed, StoreLimits};

use super::*;

const HOUR: i64 = 3600;
/// Long enough for the calls of a story; short enough to be waited for.
const SHORT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_lease_runs_out_although_the_clock_was_set_back() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let opened = opens(&store, &device, "edge-1", SHORT).await;
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    clock.set(-HOUR).await;
    let read = async || store.device(&device.user, device.id).await.unwrap().unwrap();
    let is = read().await;
    assert_eq!((is.online(), is.unrenewed), (false, true), "nobody can say until when");
    assert!(!store.devices(&device.user).await.unwrap()[0].online());
    let (now, _) = store.due_devices(1).await.unwrap();
    assert!(read().await.last_seen <= now + 1_000, "nobody was seen in the future");
    let noted = RegisteredSession { user: device.user.clone(), device: device.id, session };
    let lapse = async || store.expire_session("edge-1", &noted, Duration::ZERO).await.unwrap();
    assert_eq!(lapse().await, ExpiredSession::Held, "it has as long from now on as it was given");
    assert!(read().await.online());
    wait_until("it to run out", PATIENCE, async || (lapse().await != ExpiredSession::Held).then_some(()))
        .await;
    let is = read().await;
    assert_eq!((is.online(), is.unrenewed), (false, false));

    // One that goes on to be renewed is well at once.
    let session = connect(&store, &device, "edge-1").await;
    clock.set(-2 * HOUR).await;
    let renewed = store.renew_session(&device.user, device.id, session, "edge-1", LONG).await.unwrap();
    assert_eq!((renewed, read().await.online()), (Renewed::Held, true));
}

#[tokio::test]
async fn a_session_goes_on_although_the_clock_was_set_ahead() {
    let (store, clock, _guard) = start_on_a_clock(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    let noted = RegisteredSession { user: device.user.clone(), device: device.id, session };
    let renew = async || store.renew_session(&device.user, device.id, session, "edge-1", LONG).await.unwrap();
    clock.set(8 * 24 * HOUR).await;
    assert_eq!(renew().await, Renewed::Held);
    clock.set(16 * 24 * HOUR).await;
    assert!(matches!(store.expire_session("edge-1", &noted, LONG).await.unwrap(), ExpiredSession::Now(_)));
    assert_eq!(renew().await, Renewed::Revived);
    assert!(store.device(&device.user, device.id).await.unwrap().unwrap().online());
    clock.set(32 * 24 * HOUR).await;
    // Who comes now can't know that the other one lives, and tells it.
    let opened = opens(&store, &device, "edge-2", LONG).await;
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
    let silent = async || match store.edge_alive("edge-2", "2", SHORT).await.unwrap() {
        Beat::Heard(others) => others.iter().any(|edge| edge.silent && edge.noted),
        Beat::NameTaken => panic!("it has its name"),
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
