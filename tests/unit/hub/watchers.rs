use std::slice::from_ref;

use super::*;
use crate::{
    domain::device::DeviceKind,
    hub::{EdgeLease, Inbox},
    store::Incarnation,
};

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn session() -> (SessionHandle, Inbox) {
    let (mailbox, commands) = Mailbox::new(8);
    let handle = SessionHandle {
        user: user("alice"),
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
    (handle, commands)
}

fn look(online: bool) -> PresenceRead {
    let device: DeviceId = "3f396dde-0000-4000-8000-000000000000".parse().unwrap();
    PresenceRead {
        presence: Presence { user: user("bob"), online, last_seen: None },
        devices: vec![device],
        online: Vec::from_iter(online.then_some(device)),
    }
}

fn notified(inbox: &mut Inbox) -> Vec<(u64, bool)> {
    let taken = inbox.take().into_iter();
    taken
        .map(|command| match command {
            Command::Presence(round, presence) => (round, presence.online),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_set_replaces_the_one_before() {
    let watchers = Watchers::default();
    let ((one, _one), (two, _two)) = (session(), session());
    let (bob, carol) = (user("bob"), user("carol"));
    assert_eq!(watchers.watch(&one, 1, from_ref(&bob)), []);
    assert_eq!(watchers.watch(&two, 1, from_ref(&bob)), []);
    assert_eq!(watchers.watch(&one, 2, from_ref(&carol)), [], "somebody else still watches");
    assert_eq!(watchers.forget(&two), vec![bob]);
    assert_eq!(watchers.unwatch(&one, from_ref(&carol)), vec![carol.clone()]);
    assert!(watchers.users().is_empty() && lock(&watchers.maps).users.is_empty());
}

#[tokio::test]
async fn each_is_told_what_is_new_for_it_and_only_after_its_answer() {
    let watchers = Watchers::default();
    let ((one, mut ones), (two, mut twos)) = (session(), session());
    let bob = user("bob");
    watchers.watch(&one, 1, from_ref(&bob));
    assert!(!watchers.answered(&one, &bob, &look(false)));
    assert!(watchers.hint(&bob));
    assert!(!watchers.hint(&bob), "once");
    watchers.reading(&bob);
    // Another session comes during the read, and has read the earlier state: the read must be repeated.
    watchers.watch(&two, 7, from_ref(&bob));
    assert!(!watchers.answered(&two, &bob, &look(false)), "the present look goes on with it");
    assert!(watchers.on_read(&bob, Some(&look(true)), Duration::ZERO), "again");
    assert_eq!((notified(&mut ones), notified(&mut twos)), (vec![(1, true)], vec![(7, true)]));
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(true)), Duration::ZERO));
    assert_eq!((notified(&mut ones), notified(&mut twos)), (vec![], vec![]), "nothing new");
    // An answer that differs from the known state is doubtful.
    watchers.watch(&two, 8, from_ref(&bob));
    assert!(watchers.answered(&two, &bob, &look(false)));
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(true)), Duration::ZERO));
    assert_eq!((notified(&mut ones), notified(&mut twos)), (vec![], vec![(8, true)]));
    watchers.reading(&bob);
    assert!(watchers.on_read(&bob, None, Duration::ZERO), "a look that failed is made again");
}

#[tokio::test]
async fn a_full_mailbox_is_told_later() {
    let watchers = Watchers::default();
    let (one, mut ones) = session();
    let bob = user("bob");
    watchers.watch(&one, 1, from_ref(&bob));
    watchers.answered(&one, &bob, &look(false));
    while one.mailbox.offer(Command::Typing(crate::domain::id::ChatId::random(), bob.clone())) {}
    assert!(watchers.on_read(&bob, Some(&look(true)), Duration::ZERO), "again");
    assert_eq!(one.mailbox.close_signal.code(), None, "nobody is closed for that");
    assert!(!ones.take().is_empty());
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(true)), Duration::ZERO));
    assert_eq!(notified(&mut ones), [(1, true)]);
}

#[tokio::test]
async fn who_has_gone_is_given_time_to_come_back() {
    const GRACE: Duration = Duration::from_millis(100);
    let watchers = Watchers::default();
    let (one, mut ones) = session();
    let bob = user("bob");
    watchers.watch(&one, 1, from_ref(&bob));
    watchers.answered(&one, &bob, &look(true));
    watchers.reading(&bob);
    assert!(watchers.on_read(&bob, Some(&look(false)), GRACE), "it is read_at at again, in a while");
    assert!(watchers.when(&bob, Duration::from_secs(9)) > watchers.when(&bob, GRACE));
    // Back in time: no session is notified.
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(true)), GRACE));
    assert!(notified(&mut ones).is_empty());
    // Offline for longer.
    watchers.reading(&bob);
    assert!(watchers.on_read(&bob, Some(&look(false)), GRACE));
    tokio::time::sleep(GRACE).await;
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(false)), GRACE));
    assert_eq!(notified(&mut ones), [(1, false)]);
    // Terminated: there is nothing to wait for.
    watchers.reading(&bob);
    assert!(!watchers.on_read(&bob, Some(&look(true)), GRACE));
    watchers.reading(&bob);
    let ended = PresenceRead { devices: Vec::new(), ..look(false) };
    assert!(!watchers.on_read(&bob, Some(&ended), GRACE));
    assert_eq!(notified(&mut ones), [(1, true), (1, false)]);
}
