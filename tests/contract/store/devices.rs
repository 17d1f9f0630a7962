//! Devices are registered, come to life, are owned by one session at a time.

use std::collections::HashSet;

use keepstep::{
    domain::device::{DeviceState, Lease},
    store::{Owner, SessionCheck, StoreLimits},
};

use super::*;

#[tokio::test]
async fn a_device_is_registered_once_and_found_again() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let new = new_device(&alice, DeviceKind::Main);
    assert_eq!(store.owner(new.id).await.unwrap(), None);
    let Registered::Created(device) = store.register_device(&new).await.unwrap() else { panic!() };
    assert_eq!(
        device,
        Device {
            id: new.id,
            user: alice.clone(),
            kind: DeviceKind::Main,
            name: new.name.clone(),
            platform: new.platform.clone(),
            created: new.created,
            last_seen: new.created,
            state: DeviceState::Registering,
            // Builds before this one began each device with 1.
            generation: 2,
            session: 0,
            lease: None,
            unrenewed: false,
            expires: None,
            history: None,
        }
    );
    assert_eq!(store.register_device(&new).await.unwrap(), Registered::Existing(device.clone()));
    assert_eq!(store.device(&alice, new.id).await.unwrap(), Some(device.clone()));
    assert_eq!(store.devices(&alice).await.unwrap(), vec![device]);
    assert_eq!(store.owner(new.id).await.unwrap(), Some(Owner { user: alice.clone(), terminated: None }));
    let opened = store.open_session(&alice, new.id, 2, after(0), &life("edge")).await.unwrap();
    assert_eq!(opened, Opened::Unknown, "it isn't active yet");

    assert!(store.activate_device(&alice, new.id).await.unwrap());
    assert!(store.activate_device(&alice, new.id).await.unwrap(), "asked again, it is active still");
    let Registered::Existing(again) = store.register_device(&new).await.unwrap() else { panic!() };
    assert_eq!(again.state, DeviceState::Active);
    assert!(!store.activate_device(&alice, DeviceId::random()).await.unwrap());
    assert_eq!(store.device(&alice, DeviceId::random()).await.unwrap(), None);
    assert_eq!(store.devices(&user("nobody")).await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_id_belongs_to_one_user_and_one_kind() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let device = active(&store, &alice, DeviceKind::Sub).await;
    for (thief, kind) in [(&bob, DeviceKind::Sub), (&bob, DeviceKind::Main), (&alice, DeviceKind::Main)] {
        let new = NewDevice { id: device.id, ..new_device(thief, kind) };
        assert_eq!(store.register_device(&new).await.unwrap(), Registered::Conflict, "{thief} {kind:?}");
    }
    assert_eq!(store.devices(&bob).await.unwrap(), vec![]);
    assert_eq!(store.devices(&alice).await.unwrap(), vec![device.clone()]);
    let opened =
        store.open_session(&bob, device.id, device.generation, after(0), &life("edge")).await.unwrap();
    assert_eq!(opened, Opened::Unknown);
}

#[tokio::test]
async fn one_main_and_some_subs() {
    let (store, _guard) = start(StoreLimits { subs_per_user: 2, ..StoreLimits::default() }).await;
    let alice = user("alice");
    let main = active(&store, &alice, DeviceKind::Main).await;
    let second = new_device(&alice, DeviceKind::Main);
    assert_eq!(store.register_device(&second).await.unwrap(), Registered::MainExists(main.id));
    let sub = active(&store, &alice, DeviceKind::Sub).await;
    active(&store, &alice, DeviceKind::Sub).await;
    let third = new_device(&alice, DeviceKind::Sub);
    assert_eq!(store.register_device(&third).await.unwrap(), Registered::LimitReached);
    // A refusal changes nothing: the ids are nobody's.
    assert_eq!(store.owner(second.id).await.unwrap(), None);
    assert_eq!(store.owner(third.id).await.unwrap(), None);
    assert_eq!(store.devices(&alice).await.unwrap().len(), 3);

    // What is being terminated makes room.
    store.begin_termination(&termination(&sub)).await.unwrap().unwrap();
    store.begin_termination(&termination(&main)).await.unwrap().unwrap();
    assert!(matches!(store.register_device(&second).await.unwrap(), Registered::Created(_)));
    assert!(matches!(store.register_device(&third).await.unwrap(), Registered::Created(_)));
}

#[tokio::test]
async fn devices_come_by_creation_with_any_characters_in_their_user() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let longest = "Z".repeat(64);
    for name in ["a.b", "a-b@c_D.9", "-", ".", "..", "@", "_", "alice.read", longest.as_str()] {
        // Older builds have users who are called `.`.
        let owner = keepstep::domain::id::UserId::stored(name).unwrap();
        let mut ids = Vec::new();
        for created in [30, 10, 20] {
            let new = NewDevice { created, ..new_device(&owner, DeviceKind::Sub) };
            store.register_device(&new).await.unwrap();
            ids.push((created, new.id));
        }
        ids.sort_unstable();
        let found = store.devices(&owner).await.unwrap();
        assert_eq!(found.iter().map(|d| (d.created, d.id)).collect::<Vec<_>>(), ids, "{name}");
    }
}

#[tokio::test]
async fn a_newer_session_takes_the_device_and_the_older_one_can_no_longer() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let device = active(&store, &alice, DeviceKind::Main).await;
    let opened = opens(&store, &device, "edge-1").await;
    let Opened::Session { session: first, previous: None, device: seen } = opened else {
        panic!("{opened:?}")
    };
    assert_eq!((seen.session, &seen.lease), (first, &Some(Lease { edge: "edge-1".into(), session: first })));
    assert!(seen.last_seen > device.last_seen);
    let renew = async |session| store.check_session(&alice, device.id, session, &life("edge")).await.unwrap();
    assert_eq!(renew(first).await, SessionCheck::Held);

    let opened = opens(&store, &device, "edge-2").await;
    let Opened::Session { session: second, previous, .. } = opened else { panic!("{opened:?}") };
    assert_eq!(second, first + 1);
    assert_eq!(previous.map(|lease| lease.session), Some(first));
    store.confirm_session(&alice, device.id, second, &life("edge-2")).await.unwrap();
    assert_eq!(renew(first).await, SessionCheck::Replaced);
    assert!(
        !store.close_session(&alice, device.id, first, &life("edge-1")).await.unwrap(),
        "only what is still its own"
    );
    assert!(store.device(&alice, device.id).await.unwrap().unwrap().online());

    assert!(store.close_session(&alice, device.id, second, &life("edge-2")).await.unwrap());
    assert!(!store.close_session(&alice, device.id, second, &life("edge-2")).await.unwrap());
    assert_eq!(renew(second).await, SessionCheck::Unconfirmed);
    let offline = store.device(&alice, device.id).await.unwrap().unwrap();
    assert_eq!(offline.lease, None);
    assert!(offline.last_seen >= seen.last_seen);

    let opened = opens(&store, &device, "edge-1").await;
    let Opened::Session { session: third, previous, .. } = opened else { panic!("{opened:?}") };
    assert!(third > second && previous.is_none(), "numbers go on, and nobody has to be told");
    let opened = store
        .open_session(&alice, device.id, device.generation + 1, after(third), &life("edge-1"))
        .await
        .unwrap();
    assert_eq!(opened, Opened::Unknown, "a generation that doesn't exist yet");
}

#[tokio::test]
async fn sessions_opened_at_once_are_numbered_apart() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let opening = (0..20).map(|edge| {
        let (store, device) = (store.clone(), device.clone());
        tokio::spawn(async move { connect(&store, &device, &format!("edge-{edge}")).await })
    });
    let mut sessions = HashSet::new();
    for one in opening.collect::<Vec<_>>() {
        assert!(sessions.insert(one.await.unwrap()));
    }
    let mut held = 0;
    for session in sessions {
        let renewed = store.check_session(&device.user, device.id, session, &life("edge")).await.unwrap();
        if renewed == SessionCheck::Held {
            held += 1;
        }
    }
    assert_eq!(held, 1);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_runs_out() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let device = active(&store, &alice, DeviceKind::Main).await;
    let first = connect(&store, &device, "edge-1").await;
    let short = Incarnation { term: 1, ..life("edge-1") };
    store.edge_alive(&short, Duration::from_millis(400)).await.unwrap();
    let (_, at) = store.device_at(&alice, device.id).await.unwrap().unwrap();
    let after = Read { session: first, at };
    let opened = store.open_session(&alice, device.id, device.generation, after, &short).await;
    let Ok(Opened::Session { session, .. }) = opened else { panic!("{opened:?}") };
    wait_until("the lease to run out", PATIENCE, async || {
        (!store.devices(&alice).await.unwrap()[0].online()).then_some(())
    })
    .await;
    assert!(!store.device(&alice, device.id).await.unwrap().unwrap().online());
    // Nobody else came, so the device is still its own.
    let checked = store.check_session(&alice, device.id, session, &short).await.unwrap();
    assert_eq!(checked, SessionCheck::Held);
    store.edge_alive(&short, LONG).await.unwrap();
    assert!(store.device(&alice, device.id).await.unwrap().unwrap().online());
}
