//! Sessions of a device: opened late or twice, overtaken, closed, given up and taken again.

use keepstep::store::{ExpiredSession, RegisteredSession, Renewed, StoreLimits};

use super::*;

async fn renew(store: &Store, device: &Device, session: u64) -> Renewed {
    store.renew_session(&device.user, device.id, session, "edge-1", LONG).await.unwrap()
}

async fn read(store: &Store, device: &Device) -> Device {
    store.device(&device.user, device.id).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_opening_that_comes_late_or_twice_takes_the_device_from_nobody() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let late = async |session, at| {
        let after = Read { session, at };
        store.open_session(&device.user, device.id, device.generation, after, "edge-1", LONG).await.unwrap()
    };
    let (before, at) = store.device_at(&device.user, device.id).await.unwrap().unwrap();
    wait_until("the clock to go on", PATIENCE, async || {
        let (_, now) = store.device_at(&device.user, device.id).await.unwrap().unwrap();
        (now > at + 300).then_some(())
    })
    .await;
    let newer = connect(&store, &device, "edge-2").await;
    for session in [before.session, newer] {
        assert_eq!(late(session, at).await, Opened::Late, "the other one was begun later");
    }
    let (_, now) = store.device_at(&device.user, device.id).await.unwrap().unwrap();
    assert_eq!(late(before.session, now).await, Opened::Changed, "it wasn't: read again");
    let is = read(&store, &device).await;
    assert_eq!((is.session, is.lease.as_ref().map(|lease| lease.session)), (newer, Some(newer)));
    assert_eq!(renew(&store, &device, newer).await, Renewed::Held);
    let noted = store.registered_sessions("edge-1").await.unwrap();
    assert!(
        noted.iter().all(|noted| noted.session > newer),
        "at most of a number that isn't given yet: {noted:?}"
    );
    // Twice.
    assert!(matches!(late(newer, now).await, Opened::Session { session, .. } if session == newer + 1));
    assert_eq!(late(newer, now).await, Opened::Changed);
    assert_eq!(read(&store, &device).await.session, newer + 1);
    let noted = store.registered_sessions("edge-1").await.unwrap();
    assert_eq!(
        noted,
        [RegisteredSession { user: device.user, device: device.id, session: newer + 1 }],
        "once"
    );
}

#[tokio::test]
async fn a_session_that_may_still_get_a_lease_keeps_its_note() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let (quick, user) = (Duration::from_millis(1), device.user.clone());
    let opened = opens(&store, &device, "edge-1", quick).await;
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    let noted = RegisteredSession { user: user.clone(), device: device.id, session };
    let lapse = async |noted: &RegisteredSession| {
        store.expire_session("edge-1", noted, Duration::ZERO).await.unwrap()
    };
    let next = RegisteredSession { session: session + 1, ..noted.clone() };
    assert_eq!(lapse(&next).await, ExpiredSession::Coming, "its number may be given yet");
    let expired = wait_until("the lease to run out", PATIENCE, async || {
        let expired = lapse(&noted).await;
        (expired != ExpiredSession::Held).then_some(expired)
    });
    assert!(matches!(expired.await, ExpiredSession::Now(_)));
    assert_eq!(renew(&store, &device, session).await, Renewed::Revived);
    assert!(matches!(opens(&store, &device, "edge-1", quick).await, Opened::Session { .. }));
    assert_eq!(lapse(&noted).await, ExpiredSession::Before);
    wait_until("the newer lease to run out", PATIENCE, async || {
        (lapse(&next).await != ExpiredSession::Held).then_some(())
    })
    .await;
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
    assert_eq!(lapse(&next).await, ExpiredSession::Coming, "it can be taken again");
    assert!(matches!(opens(&store, &device, "edge-1", LONG).await, Opened::Session { .. }));
    let newest = store.registered_sessions("edge-1").await.unwrap();
    store.edge_alive("edge-1", "1", LONG).await.unwrap();
    for (silence, left) in [(LONG, 1), (Duration::ZERO, 0)] {
        store.forget_session("edge-1", &newest[0], silence).await.unwrap();
        assert_eq!(store.registered_sessions("edge-1").await.unwrap().len(), left, "{silence:?}");
    }
}

#[tokio::test]
async fn a_number_that_nobody_is_there_with_replaces_nobody() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let older = connect(&store, &device, "edge-1").await;
    let opened = opens(&store, &device, "edge-2", LONG).await;
    let Opened::Session { session: newer, .. } = opened else { panic!("{opened:?}") };
    let held = read(&store, &device).await.lease;
    for _ in 0..2 {
        assert_eq!(
            renew(&store, &device, older).await,
            Renewed::Unconfirmed,
            "its edge may never hear of it"
        );
    }
    assert_eq!(read(&store, &device).await.lease, held, "nor does it get the device back");
    // A renewal isn't enough: the session may still be turned away.
    let renewed = store.renew_session(&device.user, device.id, newer, "edge-2", LONG).await.unwrap();
    assert_eq!((renewed, renew(&store, &device, older).await), (Renewed::Held, Renewed::Unconfirmed));
    let confirm = async |session| {
        store.confirm_session(&device.user, device.id, session, "edge-2", LONG).await.unwrap()
    };
    assert_eq!(confirm(older).await, Renewed::Unconfirmed);
    assert_eq!(confirm(newer).await, Renewed::Held);
    assert_eq!(renew(&store, &device, older).await, Renewed::Replaced);
    assert_eq!(confirm(older).await, Renewed::Replaced);
    store.close_session(&device.user, device.id, newer, "edge-2").await.unwrap();
    assert_eq!(renew(&store, &device, older).await, Renewed::Unconfirmed, "it isn't there any more");
}

#[tokio::test]
async fn the_number_of_a_closed_session_is_used_up() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    assert!(store.close_session(&device.user, device.id, session, "edge-1").await.unwrap());
    // A renewal that was under way, and a closing that comes again.
    assert_eq!(renew(&store, &device, session).await, Renewed::Unconfirmed);
    assert!(!store.close_session(&device.user, device.id, session, "edge-1").await.unwrap());
    let is = read(&store, &device).await;
    assert!(!is.online() && is.session > session);
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
    let next = connect(&store, &device, "edge-2").await;
    assert!(next > is.session);
    assert!(!store.close_session(&device.user, device.id, session, "edge-1").await.unwrap());
    assert!(read(&store, &device).await.online());
}

#[tokio::test]
async fn a_lease_that_somebody_gave_back_is_taken_again() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let opened = opens(&store, &device, "edge-1", Duration::from_millis(50)).await;
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    let noted = RegisteredSession { user: device.user.clone(), device: device.id, session };
    let lapse = async |silence| store.expire_session("edge-1", &noted, silence).await.unwrap();
    let expired = wait_until("the lease to run out", PATIENCE, async || {
        let expired = lapse(LONG).await;
        (expired != ExpiredSession::Held).then_some(expired)
    });
    assert!(matches!(expired.await, ExpiredSession::Now(_)));
    let unseen = read(&store, &device).await;
    assert!(!unseen.online());
    assert!(store.warn_device(&unseen, 9_999).await.unwrap());

    assert_eq!(renew(&store, &device, session).await, Renewed::Revived);
    let is = read(&store, &device).await;
    assert_eq!((is.online(), is.session, is.expires), (true, session, None));
    assert_eq!(renew(&store, &device, session).await, Renewed::Held);
    assert_eq!(
        store.registered_sessions("edge-1").await.unwrap(),
        std::slice::from_ref(&noted),
        "noted again"
    );
    assert_eq!(lapse(Duration::ZERO).await, ExpiredSession::Held);
    // And where nobody can be told who gave it back, its own edge is asked by the number.
    assert!(store.close_session(&device.user, device.id, session, "edge-2").await.unwrap());
    assert!(matches!(lapse(Duration::ZERO).await, ExpiredSession::Now(_)), "nobody may have been told");
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
}
