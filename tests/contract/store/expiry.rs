//! Devices that nobody sees: looked at when due, warned of once, ended only as they were; and sessions that end without a word.

use keepstep::{
    domain::Millis,
    store::{Beat, ExpiredSession, OtherEdge, StoreLimits},
};

use super::*;

/// Its time is over, whatever it was given.
const NONE: Duration = Duration::ZERO;

async fn due(store: &Store) -> (Millis, Vec<DeviceId>) {
    let (now, due) = store.due_devices(100).await.unwrap();
    (now, due.into_iter().map(|(_, device)| device).collect())
}

#[tokio::test]
async fn a_device_is_due_at_once_and_then_when_it_was_put_off_to() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("a.l@i_c-e"), user("bob"));
    assert_eq!(due(&store).await.1, vec![]);
    let (one, two) = (active(&store, &alice, DeviceKind::Main).await, new_device(&bob, DeviceKind::Sub));
    store.register_device(&two).await.unwrap();
    let (now, mut all) = due(&store).await;
    assert!(now.abs_diff(keepstep::domain::now_millis()) < 5_000);
    all.sort_unstable();
    let mut both = vec![one.id, two.id];
    both.sort_unstable();
    assert_eq!(all, both);
    assert_eq!(store.due_devices(1).await.unwrap().1.len(), 1);

    store.put_off(&alice, one.id, Some(now + 60_000)).await.unwrap();
    assert_eq!(store.due_devices(100).await.unwrap().1, [(bob.clone(), two.id)]);
    store.register_device(&two).await.unwrap();
    store.put_off(&bob, two.id, Some(7)).await.unwrap();
    store.put_off(&alice, one.id, Some(6)).await.unwrap();
    assert_eq!(due(&store).await.1, [one.id, two.id], "those that wait longest first");
    store.put_off(&bob, two.id, None).await.unwrap();
    assert_eq!(due(&store).await.1, [one.id]);
    store.begin_termination(&termination(&one)).await.unwrap();
    store.forget_device(&alice, one.id, &[]).await.unwrap();
    store.put_off(&alice, one.id, Some(5)).await.unwrap();
    assert_eq!(due(&store).await.1, vec![], "nothing of it is left");
}

#[tokio::test]
async fn a_device_is_warned_of_once_until_it_is_seen_again() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let device = active(&store, &alice, DeviceKind::Sub).await;
    let stranger = Device { id: DeviceId::random(), ..device.clone() };
    assert!(!store.warn_device(&stranger, 5).await.unwrap());
    let session = connect(&store, &device, "edge").await;
    assert!(!store.warn_device(&device, 5).await.unwrap(), "it is online");
    assert!(store.close_session(&alice, device.id, session, &life("edge")).await.unwrap());
    assert!(!store.warn_device(&device, 5).await.unwrap(), "it was seen since it was read");
    let read = async || store.device(&alice, device.id).await.unwrap().unwrap();
    let unseen = read().await;
    assert_eq!(unseen.expires, None);
    assert!(store.warn_device(&unseen, 9_999).await.unwrap());
    assert!(!store.warn_device(&unseen, 10_000).await.unwrap());
    assert_eq!(read().await.expires, Some(9_999));
    assert_eq!(store.devices(&alice).await.unwrap()[0].expires, Some(9_999));

    connect(&store, &device, "edge").await;
    assert_eq!(read().await.expires, None, "it is seen again");
    let coming = new_device(&alice, DeviceKind::Main);
    store.register_device(&coming).await.unwrap();
    let coming = store.device(&alice, coming.id).await.unwrap().unwrap();
    assert!(!store.warn_device(&coming, 5).await.unwrap(), "it isn't active yet");
}

#[tokio::test]
async fn only_a_device_that_is_as_it_was_expires() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let device = active(&store, &alice, DeviceKind::Sub).await;
    let read = async || store.device(&alice, device.id).await.unwrap().unwrap();
    // As it was written: who reads it later is told that it is seen now.
    let opened = opens(&store, &device, "edge").await;
    let Opened::Session { session, device: before, .. } = opened else { panic!("{opened:?}") };
    assert!(!store.expire_device(&before, NONE).await.unwrap(), "it is online");
    wait_until("the store's clock to go on", PATIENCE, async || {
        (due(&store).await.0 > before.last_seen).then_some(())
    })
    .await;
    store.close_session(&alice, device.id, session, &life("edge")).await.unwrap();
    assert!(!store.expire_device(&before, NONE).await.unwrap(), "it was seen since");
    let unseen = read().await;
    let stranger = Device { id: DeviceId::random(), ..unseen.clone() };
    assert!(!store.expire_device(&stranger, NONE).await.unwrap());
    assert!(store.expire_device(&unseen, NONE).await.unwrap());
    let expired = read().await;
    assert_eq!((expired.state, expired.generation), (DeviceState::Terminating, unseen.generation + 1));
    assert!(store.expire_device(&expired, NONE).await.unwrap(), "begun again");
    assert_eq!(read().await.generation, expired.generation);
    let opened = store
        .open_session(&alice, device.id, device.generation, after(expired.session), &life("edge"))
        .await
        .unwrap();
    assert_eq!(opened, Opened::Terminated);
    // What follows is the same as for any other end.
    assert!(store.begin_termination(&termination(&expired)).await.unwrap().is_some());
    assert_eq!(read().await.generation, expired.generation);

    let coming = new_device(&alice, DeviceKind::Sub);
    store.register_device(&coming).await.unwrap();
    let coming = store.device(&alice, coming.id).await.unwrap().unwrap();
    assert!(store.activate_device(&alice, coming.id).await.unwrap());
    assert!(!store.expire_device(&coming, NONE).await.unwrap(), "it was finished meanwhile");
}

#[tokio::test]
async fn a_session_without_an_end_lapses_once() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("a.l@i_c-e");
    let device = active(&store, &alice, DeviceKind::Main).await;
    let quick = Duration::from_millis(1);
    let opened = opens(&store, &device, "edge-1").await;
    let Opened::Session { session, .. } = opened else { panic!("{opened:?}") };
    let noted = noted(&device, session, &life("edge-1"));
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), std::slice::from_ref(&noted));
    assert_eq!(store.registered_sessions("edge-2").await.unwrap(), []);
    store.edge_alive(&life("edge-1"), LONG).await.unwrap();
    let others = async || match store.edge_alive(&life("edge-2"), quick).await.unwrap() {
        Beat::Heard(others) => others,
        other => panic!("{other:?}"),
    };
    let silent = wait_until("edge-1 to be silent", PATIENCE, async || {
        others().await.into_iter().find(|other| other.silent)
    })
    .await;
    assert_eq!((silent.name.as_str(), silent.noted), ("edge-1", true), "found by its session");
    store.forget_edge(&silent).await.unwrap();
    assert_eq!(others().await, std::slice::from_ref(&silent), "as long as that is noted");

    let lapse = async || store.expire_session("edge-1", &noted, quick).await.unwrap();
    let seen = store.device(&alice, device.id).await.unwrap().unwrap().last_seen;
    let ExpiredSession::Now(last) = lapse().await else { panic!("it was there") };
    assert!(last <= seen, "when it was last seen, and not when it was found");
    assert_eq!(lapse().await, ExpiredSession::Coming, "once; whoever has the session may take it again");
    assert_eq!(store.registered_sessions("edge-1").await.unwrap(), []);
    store.forget_edge(&OtherEdge { noted: false, ..silent }).await.unwrap();
    assert_eq!(others().await, []);

    // One that ended well, and one that a newer one has followed.
    let first = connect(&store, &device, "edge-1").await;
    connect(&store, &device, "edge-1").await;
    let followed = RegisteredSession { session: first, ..noted.clone() };
    assert_eq!(store.expire_session("edge-1", &followed, LONG).await.unwrap(), ExpiredSession::Before);
    let second = connect(&store, &device, "edge-2").await;
    let elsewhere = super::noted(&device, second, &life("edge-2"));
    assert_eq!(store.expire_session("edge-1", &elsewhere, LONG).await.unwrap(), ExpiredSession::Before);
    let of_another_life = RegisteredSession { incarnation: "edge-2.7".to_owned(), ..elsewhere };
    assert_eq!(store.expire_session("edge-2", &of_another_life, LONG).await.unwrap(), ExpiredSession::Before);
    assert!(store.device(&alice, device.id).await.unwrap().unwrap().online());
    assert!(store.close_session(&alice, device.id, second, &life("edge-2")).await.unwrap());
    // Its note goes with it; also if it ends in the very millisecond in which its edge said that it lives.
    for _ in 0..200 {
        let session = connect(&store, &device, "edge-2").await;
        assert!(store.close_session(&alice, device.id, session, &life("edge-2")).await.unwrap());
        assert_eq!(store.registered_sessions("edge-2").await.unwrap(), []);
    }

    // Of a device that was ended nothing is left, even if its edge never came to closing it.
    connect(&store, &device, "edge-3").await;
    store.begin_termination(&termination(&device)).await.unwrap();
    store.forget_device(&alice, device.id, &[]).await.unwrap();
    assert_eq!(store.registered_sessions("edge-3").await.unwrap(), []);
}
