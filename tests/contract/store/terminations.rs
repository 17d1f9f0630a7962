//! A termination fences a device for ever; leased work and rate windows.

use keepstep::{
    domain::{device::DeviceState, termination::ReceiptLine},
    store::{CursorMove, CursorMoved, Departure, Owner, SessionCheck, StoreLimits},
};

use super::*;

#[tokio::test]
async fn a_terminated_device_is_refused_everywhere_and_for_ever() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    let chat = group(&store, &alice).await;
    let device = active(&store, &alice, DeviceKind::Sub).await;
    subscribe_now(&store, chat, &alice, device.id).await.unwrap();
    let session = connect(&store, &device, "edge").await;
    store.attach(&[chat], &alice, device.id, session).await.unwrap()[0].as_ref().unwrap();
    send(&store, chat, &alice, "one").await;

    let new = termination(&device);
    assert_eq!(store.begin_termination(&new).await.unwrap(), Some(new.clone()));
    assert_eq!(store.begin_termination(&new).await.unwrap(), Some(new.clone()));
    let later = termination(&device);
    assert_eq!(store.begin_termination(&later).await.unwrap(), Some(new.clone()), "the earlier one counts");
    assert_eq!(store.termination(later.id).await.unwrap(), None);
    assert_eq!(store.unfinished_terminations().await.unwrap(), vec![new.id]);
    let tombstone = Owner { user: alice.clone(), terminated: Some(new.id) };
    assert_eq!(store.owner(device.id).await.unwrap(), Some(tombstone.clone()));

    let fenced = store.device(&alice, device.id).await.unwrap().unwrap();
    assert_eq!(
        (fenced.state, fenced.generation),
        (DeviceState::Terminating, device.generation + 1),
        "raised once"
    );
    let moved = CursorMove { device: device.id, session, from: 0, seq: 1 };
    assert_eq!(store.move_cursors(chat, &[moved]).await.unwrap(), vec![CursorMoved::Fenced]);
    assert_eq!(store.attach(&[chat], &alice, device.id, session + 1).await.unwrap(), vec![None]);
    let renew = async || store.check_session(&alice, device.id, session, &life("edge")).await.unwrap();
    assert_eq!(renew().await, SessionCheck::Terminated);
    let confirmed = store.confirm_session(&alice, device.id, session, &life("edge")).await.unwrap();
    assert_eq!(confirmed, SessionCheck::Terminated);
    for generation in [device.generation, device.generation + 1] {
        let opened =
            store.open_session(&alice, device.id, generation, after(session), &life("edge")).await.unwrap();
        assert_eq!(opened, Opened::Terminated);
    }
    assert!(!store.activate_device(&alice, device.id).await.unwrap());
    assert!(
        store.close_session(&alice, device.id, session, &life("edge")).await.unwrap(),
        "its edge lets go"
    );

    store.forget_device(&alice, device.id, &[chat]).await.unwrap();
    store.forget_device(&alice, device.id, &[chat, ChatId::random()]).await.unwrap();
    assert_eq!(store.device(&alice, device.id).await.unwrap(), None);
    assert_eq!(store.position(chat, device.id).await.unwrap(), None);
    assert_eq!(store.owner(device.id).await.unwrap(), Some(tombstone));
    assert_eq!(store.move_cursors(chat, &[moved]).await.unwrap(), vec![CursorMoved::Fenced]);
    assert_eq!(renew().await, SessionCheck::Terminated);
    let own = device.generation;
    let opened = store.open_session(&alice, device.id, own, after(session), &life("edge")).await.unwrap();
    assert_eq!(opened, Opened::Terminated, "also when only the tombstone is left");
    for owner in [&alice, &user("bob")] {
        let again = NewDevice { id: device.id, ..new_device(owner, DeviceKind::Sub) };
        assert_eq!(store.register_device(&again).await.unwrap(), Registered::Conflict, "not used again");
    }
    assert_eq!(store.begin_termination(&later).await.unwrap(), Some(new));
}

#[tokio::test]
async fn a_termination_is_unfinished_until_it_is_done() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let mut record = termination(&device);
    store.begin_termination(&record).await.unwrap();
    record.state = TerminationState::Pending;
    record.unreachable = vec!["nsqd-2:4151".into()];
    store.save_termination(&record).await.unwrap();
    assert_eq!(store.termination(record.id).await.unwrap(), Some(record.clone()));
    assert_eq!(store.unfinished_terminations().await.unwrap(), vec![record.id]);

    record.state = TerminationState::Done;
    record.unreachable.clear();
    let line = ReceiptLine { node: "n".into(), topic: "c.1".into(), channel: "d.1".into(), depth: u64::MAX };
    record.receipt = Receipt { channels: vec![line], verified_at: Some(5), remaining: 0 };
    store.save_termination(&record).await.unwrap();
    store.save_termination(&record).await.unwrap();
    assert_eq!(store.unfinished_terminations().await.unwrap(), vec![]);
    assert_eq!(store.termination(record.id).await.unwrap(), Some(record.clone()), "the receipt stays");
    assert_eq!(store.begin_termination(&termination(&device)).await.unwrap(), Some(record));
    assert_eq!(store.termination(TerminationId::random()).await.unwrap(), None);
}

#[tokio::test]
async fn a_termination_only_goes_forward() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let line =
        |n: u64| ReceiptLine { node: "n".into(), topic: "c.1".into(), channel: "d.1".into(), depth: n };
    let with = |state, lines: u64| {
        let channels = (0..lines).map(line).collect();
        let receipt = Receipt { channels, ..Receipt::default() };
        Termination { state, receipt, ..termination(&device) }
    };
    let new = with(TerminationState::Accepted, 0);
    let id = new.id;
    let with = |state, lines| Termination { id, ..with(state, lines) };
    store.begin_termination(&new).await.unwrap();
    let stands = async |what: &Termination| {
        assert_eq!(store.termination(id).await.unwrap().as_ref(), Some(what));
        let unfinished: Vec<_> = (what.state != TerminationState::Done).then_some(id).into_iter().collect();
        assert_eq!(store.unfinished_terminations().await.unwrap(), unfinished);
    };
    let pending = with(TerminationState::Pending, 2);
    store.save_termination(&pending).await.unwrap();
    // Workers that others have overtaken.
    for late in [new.clone(), with(TerminationState::Accepted, 3), with(TerminationState::Pending, 1)] {
        store.save_termination(&late).await.unwrap();
        stands(&pending).await;
    }
    let done = with(TerminationState::Done, 2);
    store.save_termination(&done).await.unwrap();
    for late in [new.clone(), pending, with(TerminationState::Pending, 9), with(TerminationState::Done, 0)] {
        store.save_termination(&late).await.unwrap();
        stands(&done).await;
    }

    // One that was written late, after another had begun: it ends nothing, and is forgotten when it is taken up.
    let lost = termination(&device);
    store.save_termination(&lost).await.unwrap();
    assert_eq!(store.unfinished_terminations().await.unwrap(), [lost.id]);
    assert_eq!(store.begin_termination(&lost).await.unwrap(), Some(done));
    assert_eq!(store.unfinished_terminations().await.unwrap(), []);
    assert_eq!(store.termination(lost.id).await.unwrap(), None);
}

#[tokio::test]
async fn only_ones_own_device_can_be_terminated() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let device = active(&store, &user("alice"), DeviceKind::Main).await;
    let foreign = Termination { user: user("bob"), ..termination(&device) };
    let unknown = Termination { device: DeviceId::random(), ..termination(&device) };
    for refused in [foreign, unknown] {
        assert_eq!(store.begin_termination(&refused).await.unwrap(), None);
        assert_eq!(store.termination(refused.id).await.unwrap(), None, "a refusal changes nothing");
    }
    assert_eq!(store.unfinished_terminations().await.unwrap(), vec![]);
    assert_eq!(store.device(&device.user, device.id).await.unwrap().unwrap().state, DeviceState::Active);
}

/// The mark of what has ended runs out, and then the same id may come again; but no token of the first is good for the second.
#[tokio::test]
async fn tombstones_run_out_and_no_token_is_good_again() {
    let limits = StoreLimits { tombstones: Duration::from_millis(800), ..StoreLimits::default() };
    let (store, _guard) = start(limits).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let first = active(&store, &alice, DeviceKind::Sub).await;
    let ended = termination(&first);
    store.begin_termination(&ended).await.unwrap();
    assert!(store.owner(first.id).await.unwrap().is_some());
    store.forget_device(&alice, first.id, &[]).await.unwrap();
    let again = NewDevice { id: first.id, ..new_device(&alice, DeviceKind::Sub) };
    assert_eq!(store.register_device(&again).await.unwrap(), Registered::Conflict, "its tombstone stands");
    wait_until("the tombstone to be gone", PATIENCE, || async {
        store.owner(first.id).await.unwrap().is_none().then_some(())
    })
    .await;
    let of_a_stranger = store.open_session(&alice, first.id, first.generation, after(0), &life("edge")).await;
    assert_eq!(of_a_stranger.unwrap(), Opened::Unknown, "it isn't there");
    let Registered::Created(second) = store.register_device(&again).await.unwrap() else { panic!() };
    assert!(second.generation > first.generation, "{} {}", second.generation, first.generation);
    store.activate_device(&alice, second.id).await.unwrap();
    for generation in [1, first.generation] {
        let opened = store.open_session(&alice, first.id, generation, after(0), &life("edge")).await.unwrap();
        assert_eq!(opened, Opened::Terminated, "by a token of the first");
    }
    assert!(matches!(opens(&store, &second, "edge").await, Opened::Session { .. }));

    // A chat's, too; one in which nothing was said doesn't need it for as long.
    let (said, unsaid) = (group(&store, &bob).await, group(&store, &bob).await);
    send(&store, said, &bob, "one").await;
    for chat in [said, unsaid] {
        leave(&store, chat, &bob, Departure::Left).await;
        for _ in 0..2 {
            assert!(store.delete_chat(chat).await.unwrap());
        }
        let again = NewChat { id: chat, ..new_group(&bob) };
        assert_eq!(store.create_chat(&again).await.unwrap(), Created::Conflict);
        wait_until("the mark to be gone", PATIENCE, || async {
            (!store.was_deleted(chat).await.unwrap()).then_some(())
        })
        .await;
        assert!(matches!(store.create_chat(&again).await.unwrap(), Created::New(_)));
    }
}

#[tokio::test]
async fn terminations_asked_for_at_once_are_one() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for _ in 0..10 {
        let device = active(&store, &user("alice"), DeviceKind::Sub).await;
        let asking = (0..8).map(|_| {
            let (store, new) = (store.clone(), termination(&device));
            tokio::spawn(async move { store.begin_termination(&new).await.unwrap().unwrap() })
        });
        let mut answers = Vec::new();
        for one in asking.collect::<Vec<_>>() {
            answers.push(one.await.unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1);
        assert_eq!(store.unfinished_terminations().await.unwrap(), vec![answers[0].id]);
        let ended = store.device(&device.user, device.id).await.unwrap().unwrap();
        assert_eq!(ended.generation, device.generation + 1);
        let done = Termination { state: TerminationState::Done, ..answers.remove(0) };
        store.save_termination(&done).await.unwrap();
        store.forget_device(&device.user, device.id, &[]).await.unwrap();
    }
}

#[tokio::test]
async fn work_is_one_holders_until_given_back_or_run_out() {
    let (store, _guard) = start(StoreLimits::default()).await;
    assert!(store.try_acquire_lease("reconcile", "edge-1", LONG).await.unwrap());
    assert!(store.try_acquire_lease("reconcile", "edge-1", LONG).await.unwrap(), "renewed");
    assert!(!store.try_acquire_lease("reconcile", "edge-2", LONG).await.unwrap());
    assert!(store.try_acquire_lease("relay {a}", "edge-2", LONG).await.unwrap(), "other work");
    store.release_lease("reconcile", "edge-2").await.unwrap();
    assert!(
        !store.try_acquire_lease("reconcile", "edge-2", LONG).await.unwrap(),
        "it wasn't edge-2's to give"
    );
    store.release_lease("reconcile", "edge-1").await.unwrap();
    assert!(store.try_acquire_lease("reconcile", "edge-2", Duration::from_millis(200)).await.unwrap());
    wait_until("edge-2's to run out", PATIENCE, async || {
        store.try_acquire_lease("reconcile", "edge-1", LONG).await.unwrap().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_window_counts_from_its_first_event() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for expected in 1..=5 {
        assert_eq!(store.count("logins alice", LONG).await.unwrap(), expected);
    }
    assert_eq!(store.count("logins bob", Duration::from_millis(300)).await.unwrap(), 1);
    wait_until("a new window to begin", PATIENCE, async || {
        (store.count("logins bob", Duration::from_millis(300)).await.unwrap() == 1).then_some(())
    })
    .await;
}
