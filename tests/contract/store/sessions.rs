//! Sessions of a device: opened late or twice, overtaken, closed, given up and taken again.

use keepstep::store::{Beat, ExpiredSession, SessionCheck, StoreLimits};

use super::*;

async fn renew(store: &Store, device: &Device, session: u64) -> SessionCheck {
    store.check_session(&device.user, device.id, session, &life("edge-1")).await.unwrap()
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
        store.open_session(&device.user, device.id, device.generation, after, &life("edge-1")).await.unwrap()
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
    assert_eq!(renew(&store, &device, newer).await, SessionCheck::Held);
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
    assert_eq!(noted, [super::noted(&device, newer + 1, &life("edge-1"))], "once");
}

#[tokio::test]
async fn a_session_that_may_still_get_a_device_keeps_its_note() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let opened = opens(&store, &device, "edge-1").await;
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    let noted = super::noted(&device, session, &life("edge-1"));
    let lapse = async |noted: &RegisteredSession| {
        store.expire_session("edge-1", noted, Duration::ZERO).await.unwrap()
    };
    let next = RegisteredSession { session: session + 1, ..noted.clone() };
    assert_eq!(lapse(&next).await, ExpiredSession::Coming, "its number may be given yet");
    assert!(matches!(lapse(&noted).await, ExpiredSession::Now(_)));
    assert_eq!(renew(&store, &device, session).await, SessionCheck::Revived);
    assert!(matches!(opens(&store, &device, "edge-1").await, Opened::Session { .. }));
    assert_eq!(lapse(&noted).await, ExpiredSession::Before);
    assert!(matches!(lapse(&next).await, ExpiredSession::Now(_)));
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
    assert_eq!(lapse(&next).await, ExpiredSession::Coming, "it can be taken again");
    assert!(matches!(opens(&store, &device, "edge-1").await, Opened::Session { .. }));
    let newest = store.registered_sessions("edge-1").await.unwrap();
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
    let opened = opens(&store, &device, "edge-2").await;
    let Opened::Session { session: newer, .. } = opened else { panic!("{opened:?}") };
    let held = read(&store, &device).await.lease;
    for _ in 0..2 {
        assert_eq!(
            renew(&store, &device, older).await,
            SessionCheck::Unconfirmed,
            "its edge may never hear of it"
        );
    }
    assert_eq!(read(&store, &device).await.lease, held, "nor does it get the device back");
    // A renewal isn't enough: the session may still be turned away.
    let renewed = store.check_session(&device.user, device.id, newer, &life("edge-2")).await.unwrap();
    assert_eq!(
        (renewed, renew(&store, &device, older).await),
        (SessionCheck::Held, SessionCheck::Unconfirmed)
    );
    let confirm = async |session| {
        store.confirm_session(&device.user, device.id, session, &life("edge-2")).await.unwrap()
    };
    assert_eq!(confirm(older).await, SessionCheck::Unconfirmed);
    assert_eq!(confirm(newer).await, SessionCheck::Held);
    assert_eq!(renew(&store, &device, older).await, SessionCheck::Replaced);
    assert_eq!(confirm(older).await, SessionCheck::Replaced);
    store.close_session(&device.user, device.id, newer, &life("edge-2")).await.unwrap();
    assert_eq!(renew(&store, &device, older).await, SessionCheck::Unconfirmed, "it isn't there any more");
}

#[tokio::test]
async fn the_number_of_a_closed_session_is_used_up() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    assert!(store.close_session(&device.user, device.id, session, &life("edge-1")).await.unwrap());
    // A renewal that was under way, and a closing that comes again.
    assert_eq!(renew(&store, &device, session).await, SessionCheck::Unconfirmed);
    assert!(!store.close_session(&device.user, device.id, session, &life("edge-1")).await.unwrap());
    let is = read(&store, &device).await;
    assert!(!is.online() && is.session > session);
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
    let next = connect(&store, &device, "edge-2").await;
    assert!(next > is.session);
    assert!(!store.close_session(&device.user, device.id, session, &life("edge-1")).await.unwrap());
    assert!(read(&store, &device).await.online());
}

#[tokio::test]
async fn a_device_that_somebody_gave_back_is_taken_again() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    let noted = super::noted(&device, session, &life("edge-1"));
    let lapse = async |silence| store.expire_session("edge-1", &noted, silence).await.unwrap();
    assert!(matches!(lapse(Duration::ZERO).await, ExpiredSession::Now(_)));
    let unseen = read(&store, &device).await;
    assert!(!unseen.online() && !unseen.unrenewed);
    assert!(store.warn_device(&unseen, 9_999).await.unwrap());

    assert_eq!(renew(&store, &device, session).await, SessionCheck::Revived);
    let is = read(&store, &device).await;
    assert_eq!((is.online(), is.session, is.expires), (true, session, None));
    assert_eq!(renew(&store, &device, session).await, SessionCheck::Held);
    assert_eq!(
        store.registered_sessions("edge-1").await.unwrap(),
        std::slice::from_ref(&noted),
        "noted again"
    );
    // Whoever is about to serve it takes it back, too.
    assert!(matches!(lapse(Duration::ZERO).await, ExpiredSession::Now(_)));
    let (user, by) = (&device.user, life("edge-1"));
    let confirmed = store.confirm_session(user, device.id, session, &by).await.unwrap();
    assert_eq!((confirmed, read(&store, &device).await.online()), (SessionCheck::Revived, true));
    // And where nobody can be told who gave it back, its own edge is asked by the number.
    assert!(store.close_session(user, device.id, session, &life("edge-2")).await.unwrap());
    assert!(matches!(lapse(Duration::ZERO).await, ExpiredSession::Now(_)), "nobody may have been told");
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
}

#[tokio::test]
async fn a_device_is_online_while_the_incarnation_of_its_edge_lives() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let first = connect(&store, &device, "edge-1").await;
    // Its edge goes on after its lease had run out: nothing of before looks alive again.
    let later = Incarnation { term: 1, ..life("edge-1") };
    assert!(matches!(store.edge_alive(&later, LONG).await.unwrap(), Beat::Heard(_)));
    assert_eq!(store.edge_alive(&life("edge-1"), LONG).await.unwrap(), Beat::Lapsed, "executed late");
    let is = read(&store, &device).await;
    assert_eq!((is.online(), is.unrenewed, is.session), (false, true, first));
    assert!(!store.devices(&device.user).await.unwrap()[0].online());
    assert!(!store.warn_device(&is, 9_999).await.unwrap(), "it waits for its release");
    assert!(!store.expire_device(&is, Duration::ZERO).await.unwrap(), "it waits for its release");
    // What isn't the later one's doesn't end with the first.
    let noted = super::noted(&device, first, &later);
    assert_eq!(store.expire_session("edge-1", &noted, LONG).await.unwrap(), ExpiredSession::Before);

    // It is free for whoever comes, and its number fences.
    let next = opens(&store, &device, "edge-2").await;
    let Opened::Session { session, previous, .. } = next else { panic!("{next:?}") };
    assert_eq!((session, previous.map(|lease| lease.session)), (first + 1, Some(first)));
    assert_eq!(renew(&store, &device, first).await, SessionCheck::Unconfirmed);
    store.confirm_session(&device.user, device.id, session, &life("edge-2")).await.unwrap();
    assert_eq!(renew(&store, &device, first).await, SessionCheck::Replaced);
    // One that is dead replaces nobody.
    store.edge_alive(&Incarnation { term: 1, ..life("edge-2") }, LONG).await.unwrap();
    assert_eq!(renew(&store, &device, first).await, SessionCheck::Unconfirmed);
    assert!(!read(&store, &device).await.online());
    // Another process under the name is another incarnation, too.
    let third = connect(&store, &device, "edge-3").await;
    store.release_edge("edge-3", "edge-3").await.unwrap();
    assert!(matches!(store.edge_alive(&process("edge-3", "next"), LONG).await.unwrap(), Beat::Heard(_)));
    let is = read(&store, &device).await;
    assert_eq!((is.online(), is.unrenewed, is.session), (false, true, third));
}

#[tokio::test]
async fn a_device_of_a_dead_edge_was_last_seen_when_the_edge_was_last_heard_of() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let session = connect(&store, &device, "edge-1").await;
    let opened = read(&store, &device).await.last_seen;
    let heard = wait_until("a later heartbeat", PATIENCE, async || {
        store.edge_alive(&life("edge-1"), LONG).await.unwrap();
        let now = read(&store, &device).await.last_seen;
        (now > opened + 50).then_some(now)
    })
    .await;
    let next = Incarnation { term: 1, ..life("edge-1") };
    store.edge_alive(&next, LONG).await.unwrap();
    let seen = read(&store, &device).await.last_seen;
    assert!((opened + 40..=heard).contains(&seen), "{opened} {seen} {heard}");
    let noted = super::noted(&device, session, &life("edge-1"));
    let expired = store.expire_session("edge-1", &noted, Duration::ZERO).await.unwrap();
    assert_eq!((expired, read(&store, &device).await.last_seen), (ExpiredSession::Now(seen), seen));
}
