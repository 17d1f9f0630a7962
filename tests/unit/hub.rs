use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering as Order},
};

use proptest::prelude::*;

use super::*;
use crate::store::Incarnation;

fn session(user: &str) -> (SessionHandle, Inbox) {
    let (mailbox, inbox) = Mailbox::new(8);
    let handle = SessionHandle {
        user: user.parse().unwrap(),
        device: DeviceId::random(),
        kind: DeviceKind::Main,
        session: 1,
        mailbox,
        lease: Arc::new(EdgeLease::new(Incarnation {
            edge: "e".to_owned(),
            process: "p".to_owned(),
            term: 0,
        })),
    };
    (handle, inbox)
}

fn followed() -> Followed {
    Followed { progress: Progress::default(), node: "node".into(), intake: Intake::Awake }
}

fn reads(inbox: &mut Inbox) -> Vec<(ChatId, Seq)> {
    let read = |command| match command {
        Command::Read(chat, offset) => (chat, offset.seq),
        other => panic!("{other:?}"),
    };
    inbox.take().into_iter().map(read).collect()
}

fn offsets(of: &[(ChatId, Seq)]) -> HashMap<ChatId, ReadOffset> {
    of.iter().map(|(chat, seq)| (*chat, ReadOffset { seq: *seq, device: None })).collect()
}

#[tokio::test]
async fn each_session_is_told_what_is_new_for_it_in_its_chats() {
    let (hub, chat, other) = (Hub::default(), ChatId::random(), ChatId::random());
    let ((one, mut ones), (two, mut twos)) = (session("alice"), session("alice"));
    hub.attach(one.clone());
    assert!(!hub.follow(&one, [(chat, followed(), 5)], hub.readings(&one.user)));
    assert_eq!(hub.begin_reading(&one.user), [chat]);
    hub.push_reads(&one.user, &offsets(&[(chat, 5), (other, 9)]));
    assert_eq!(reads(&mut ones), [], "what its welcome told, and a chat that it isn't in, is no news");
    // Another session comes, which was notified of more already.
    hub.attach(two.clone());
    let readings = hub.readings(&two.user);
    assert!(!hub.follow(&two, [(chat, followed(), 7), (other, followed(), 0)], readings));
    let mut both = vec![chat, other];
    both.sort_unstable();
    assert_eq!(hub.begin_reading(&two.user), both);
    hub.push_reads(&two.user, &offsets(&[(chat, 7), (other, 9)]));
    assert_eq!((reads(&mut ones), reads(&mut twos)), (vec![(chat, 7)], vec![(other, 9)]));
    hub.push_reads(&two.user, &offsets(&[(chat, 6), (other, 9)]));
    assert_eq!(
        (reads(&mut ones), reads(&mut twos)),
        (vec![], vec![]),
        "nothing falls, nothing is told twice"
    );
}

#[tokio::test]
async fn what_was_read_before_a_session_followed_is_read_again() {
    let (hub, chat) = (Hub::default(), ChatId::random());
    let (one, mut ones) = session("alice");
    hub.attach(one.clone());
    let readings = hub.readings(&one.user);
    assert_eq!(hub.begin_reading(&one.user), [], "a hint comes, and finds no chat yet");
    assert!(hub.follow(&one, [(chat, followed(), 1)], readings));
    // The same chat again (a new membership) isn't followed twice, and begins with the offset given for it.
    assert!(!hub.follow(&one, [(chat, followed(), 3)], hub.readings(&one.user)));
    hub.push_reads(&one.user, &offsets(&[(chat, 2)]));
    assert_eq!(reads(&mut ones), []);
    assert!(hub.unfollow(&one, chat), "it was the only one");
    assert!(!hub.has_chat(chat) && hub.unfollow_all(&one).is_empty());
    assert!(hub.detach(&one) && !hub.has_user(&one.user));
}

#[tokio::test]
async fn a_session_is_told_of_all_differences_at_once() {
    let hub = Hub::default();
    let (one, mut ones) = session("alice");
    hub.attach(one.clone());
    let mut chats: Vec<ChatId> = (0..2000).map(|_| ChatId::random()).collect();
    hub.follow(&one, chats[..1000].iter().map(|chat| (*chat, followed(), 0)), Readings::default());
    let wanted: BTreeSet<ChatId> = chats.drain(500..).collect();
    hub.compare_chats(&one.user, &wanted.iter().copied().collect::<Vec<_>>());
    let [Command::CheckMemberships(told)] = &ones.take()[..] else { panic!("one command") };
    let told: BTreeSet<ChatId> = told.iter().copied().collect();
    assert_eq!(told.len(), 500 + 1000);
    assert!(chats.iter().all(|gone| told.contains(gone)));
    hub.compare_chats(&one.user, &hub.begin_reading(&one.user));
    assert!(ones.take().is_empty());
    assert_eq!(hub.unfollow_all(&one).len(), 1000);
}

proptest! {
    #[test]
    fn differences_are_those_of_sets(
        one in proptest::collection::btree_set(0..40u128, 0..30),
        other in proptest::collection::btree_set(0..40u128, 0..30),
    ) {
        let ids = |set: &BTreeSet<u128>| -> Vec<ChatId> {
            set.iter().map(|n| ChatId::from_hex(&format!("{n:032x}")).unwrap()).collect()
        };
        let wanted: BTreeSet<u128> = one.symmetric_difference(&other).copied().collect();
        let mut found = differences(&ids(&one), &ids(&other));
        found.sort_unstable();
        prop_assert_eq!(found, ids(&wanted));
    }
}

/// The seqs for which a session was woken.
fn woken(inbox: &mut Inbox) -> Vec<Seq> {
    let rung = |command| match command {
        Command::Doorbell(_, seq) => seq,
        other => panic!("{other:?}"),
    };
    inbox.take().into_iter().map(rung).collect()
}

#[tokio::test]
async fn a_doorbell_wakes_who_is_idle_and_behind_and_never_gets_lost_between_resting_and_ringing() {
    let (hub, chat) = (Hub::default(), ChatId::random());
    let (alice, mut inbox) = session("alice");
    hub.attach(alice.clone());
    let idle = Followed { intake: Intake::Idle, ..followed() };
    hub.follow(&alice, [(chat, idle.clone(), 0)], hub.readings(&alice.user));
    hub.doorbell(chat, 1, Instant::now());
    assert_eq!(woken(&mut inbox), [1]);
    hub.doorbell(chat, 2, Instant::now());
    assert!(woken(&mut inbox).is_empty(), "it is awake");
    assert_eq!(hub.rest(&alice, chat, 1), Intake::Awake, "the doorbell of 2 came first");
    idle.progress.store(2, Order::Relaxed);
    assert_eq!(hub.rest(&alice, chat, 2), Intake::Idle);
    hub.doorbell(chat, 2, Instant::now());
    assert!(woken(&mut inbox).is_empty(), "it has that");
    hub.doorbell(chat, 3, Instant::now());
    assert_eq!(woken(&mut inbox), [3]);

    // A doorbell that came before a session follows the chat, with a head that it had read before.
    let (bob, mut bobs) = session("bob");
    hub.attach(bob.clone());
    let behind = Followed { intake: Intake::Idle, progress: Arc::new(AtomicU64::new(2)), ..followed() };
    hub.follow(&bob, [(chat, behind, 0)], hub.readings(&bob.user));
    assert_eq!(woken(&mut bobs), [3]);
}
