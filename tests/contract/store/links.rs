//! Links are opened, decided once, and gone by themselves.

use futures_util::future::join_all;
use keepstep::{
    domain::{
        id::LinkId,
        link::{Decision, LinkCode, LinkState},
    },
    store::{Decided, LinkOpened, LinkOutcome, NewLink, StoreLimits},
};

use super::*;

fn new_link() -> NewLink {
    NewLink {
        id: LinkId::random(),
        code: LinkCode::from_bits(rand::random()),
        secret: "a digest".into(),
        name: "a \"page\" {1}\u{e9}".into(),
        platform: "web".into(),
        bound: None,
        share: format!("of {}", rand::random::<u64>()),
        neighbourhood: None,
        lifetime: LONG,
        kept: LONG,
    }
}

fn yes(by: &UserId) -> Decision {
    let (main, device) = (DeviceId::random(), DeviceId::random());
    Decision { user: by.clone(), main, approve: true, history: None, device }
}

async fn open(store: &Store, new: &NewLink) {
    assert_eq!(store.open_link(new, 1_000_000).await.unwrap(), LinkOpened::Opened);
}

async fn state(store: &Store, id: LinkId) -> LinkState {
    store.link(id).await.unwrap().expect("it is there").state
}

#[tokio::test]
async fn a_link_is_found_by_its_id_and_by_its_code() {
    let (store, _guard) = start(StoreLimits::default()).await;
    for bound in [None, Some(user("a.b@c-d_E"))] {
        let new = NewLink { bound, ..new_link() };
        assert_eq!(store.link(new.id).await.unwrap(), None);
        assert_eq!(store.link_by_code(new.code).await.unwrap(), None);
        open(&store, &new).await;
        open(&store, &new).await;
        let link = store.link(new.id).await.unwrap().expect("it is there");
        assert_eq!((link.id, link.code, link.state), (new.id, new.code, LinkState::Pending));
        assert_eq!((&link.secret, &link.name, &link.platform), (&new.secret, &new.name, &new.platform));
        assert_eq!((&link.bound, &link.decided), (&new.bound, &None));
        assert!(link.left <= LONG && link.left > LONG / 2, "{:?}", link.left);
        assert_eq!(store.link_by_code(new.code).await.unwrap().map(|link| link.id), Some(new.id));
        // A code is one link's.
        let other = NewLink { code: new.code, ..new_link() };
        assert_eq!(store.open_link(&other, 1_000_000).await.unwrap(), LinkOpened::CodeTaken);
        assert_eq!(store.link(other.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_first_decision_counts_and_is_answered_alike() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let new = new_link();
    let first = Decision { history: Some(3), ..yes(&alice) };
    assert_eq!(store.decide_link(new.id, &first).await.unwrap(), Decided::Gone, "it isn't there yet");
    open(&store, &new).await;
    assert_eq!(store.decide_link(new.id, &first).await.unwrap(), Decided::Counts(first.device));
    assert_eq!(state(&store, new.id).await, LinkState::Approving);
    let link = store.link(new.id).await.unwrap().unwrap();
    assert_eq!(link.decided, Some((alice.clone(), first.device)));
    // The same again, with another id for the device: it has one.
    let again = Decision { device: DeviceId::random(), ..first.clone() };
    assert_eq!(store.decide_link(new.id, &again).await.unwrap(), Decided::Counts(first.device));
    for otherwise in [
        Decision { approve: false, history: None, ..first.clone() },
        Decision { history: None, ..first.clone() },
        Decision { history: Some(4), ..first.clone() },
        Decision { main: DeviceId::random(), ..first.clone() },
    ] {
        assert_eq!(store.decide_link(new.id, &otherwise).await.unwrap(), Decided::Otherwise, "{otherwise:?}");
    }
    let stranger = Decision { user: bob.clone(), ..first.clone() };
    assert_eq!(store.decide_link(new.id, &stranger).await.unwrap(), Decided::Gone);

    // Only the device that is being registered settles it.
    store.settle_link(new.id, again.device, LinkOutcome::Registered).await.unwrap();
    assert_eq!(state(&store, new.id).await, LinkState::Approving);
    store.settle_link(new.id, first.device, LinkOutcome::Registered).await.unwrap();
    store.settle_link(new.id, first.device, LinkOutcome::Undecided).await.unwrap();
    assert_eq!(state(&store, new.id).await, LinkState::Approved);
    assert_eq!(store.decide_link(new.id, &again).await.unwrap(), Decided::Counts(first.device));

    // What can't be registered is decided anew, by anybody.
    let new = new_link();
    open(&store, &new).await;
    store.decide_link(new.id, &first).await.unwrap();
    store.settle_link(new.id, first.device, LinkOutcome::Undecided).await.unwrap();
    let link = store.link(new.id).await.unwrap().unwrap();
    assert_eq!((link.state, link.decided), (LinkState::Pending, None));
    assert_eq!(store.decide_link(new.id, &stranger).await.unwrap(), Decided::Counts(stranger.device));

    let new = new_link();
    open(&store, &new).await;
    let no = Decision { approve: false, ..yes(&alice) };
    store.decide_link(new.id, &no).await.unwrap();
    assert_eq!(state(&store, new.id).await, LinkState::Refused);
    assert_eq!(
        store.decide_link(new.id, &Decision { approve: true, ..no }).await.unwrap(),
        Decided::Otherwise
    );
}

#[tokio::test]
async fn of_many_who_decide_at_once_one_does() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let new = new_link();
    open(&store, &new).await;
    let decisions: Vec<_> = (0..20).map(|n| yes(&user(&format!("user-{n}")))).collect();
    let asked = decisions.iter().map(|decision| store.decide_link(new.id, decision));
    let decided: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    let winner = store.link(new.id).await.unwrap().unwrap().decided.expect("somebody");
    for (decision, decided) in decisions.iter().zip(decided) {
        let won = (decision.user.clone(), decision.device) == winner;
        assert_eq!(decided, if won { Decided::Counts(decision.device) } else { Decided::Gone });
    }
}

#[tokio::test]
async fn a_bound_link_is_one_users() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, bob) = (user("alice"), user("bob"));
    let new = NewLink { bound: Some(alice.clone()), ..new_link() };
    open(&store, &new).await;
    assert_eq!(store.decide_link(new.id, &yes(&bob)).await.unwrap(), Decided::Gone);
    assert_eq!(state(&store, new.id).await, LinkState::Pending);
    let decision = yes(&alice);
    assert_eq!(store.decide_link(new.id, &decision).await.unwrap(), Decided::Counts(decision.device));
}

#[tokio::test]
async fn links_run_out_and_are_gone() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (alice, short) = (user("alice"), Duration::from_secs(2));
    let (late, decided) = (
        NewLink { lifetime: short, kept: short * 3, ..new_link() },
        NewLink { lifetime: short, kept: short * 3, ..new_link() },
    );
    open(&store, &late).await;
    open(&store, &decided).await;
    let decision = yes(&alice);
    store.decide_link(decided.id, &decision).await.unwrap();
    wait_until("its time to run out", PATIENCE, async || {
        store.link(late.id).await.unwrap().expect("it is kept for longer").left.is_zero().then_some(())
    })
    .await;
    assert_eq!(store.decide_link(late.id, &yes(&alice)).await.unwrap(), Decided::Gone);
    assert_eq!(state(&store, late.id).await, LinkState::Pending);
    // Whoever decided in time may ask again.
    assert_eq!(store.decide_link(decided.id, &decision).await.unwrap(), Decided::Counts(decision.device));
    wait_until("both to be gone", PATIENCE, async || {
        let (late, decided) = (store.link(late.id).await.unwrap(), store.link(decided.id).await.unwrap());
        (late.is_none() && decided.is_none()).then_some(())
    })
    .await;
    assert_eq!(store.link_by_code(late.code).await.unwrap(), None);
    store.settle_link(decided.id, decision.device, LinkOutcome::Undecided).await.unwrap();
    assert_eq!(store.link(decided.id).await.unwrap(), None, "nothing brings it back");
    open(&store, &NewLink { code: late.code, ..new_link() }).await;
}

#[tokio::test]
async fn only_so_many_wait() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let short = NewLink { lifetime: Duration::from_secs(2), ..new_link() };
    let (one, other, more) = (new_link(), new_link(), new_link());
    let opens = async |new: &NewLink| store.open_link(new, 3).await.unwrap();
    for new in [&short, &one, &other] {
        assert_eq!(opens(new).await, LinkOpened::Opened);
    }
    // One whose time is over doesn't wait any more.
    assert_eq!(opens(&more).await, LinkOpened::Full);
    assert_eq!(store.link(more.id).await.unwrap(), None);
    wait_until("room", PATIENCE, async || (opens(&more).await != LinkOpened::Full).then_some(())).await;
    // Nor does one that is decided, unless it is to be decided anew.
    let (decision, next) = (yes(&user("alice")), new_link());
    assert_eq!(opens(&next).await, LinkOpened::Full);
    store.decide_link(one.id, &decision).await.unwrap();
    assert_eq!(opens(&next).await, LinkOpened::Opened);
    store.settle_link(one.id, decision.device, LinkOutcome::Undecided).await.unwrap();
    store.decide_link(other.id, &decision).await.unwrap();
    assert_eq!(opens(&new_link()).await, LinkOpened::Full);
}

#[tokio::test]
async fn a_share_leaves_places_for_others() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let of = |share: &str| NewLink {
        share: share.into(),
        neighbourhood: Some(format!("beside {share}")),
        ..new_link()
    };
    let opens = async |new: &NewLink| store.open_link(new, 24).await.unwrap();
    let mine: Vec<_> = (0..4).map(|_| of("mine")).collect();
    for new in &mine[..3] {
        assert_eq!(opens(new).await, LinkOpened::Opened);
    }
    // An eighth of the 21 that are free, rounded up, is three.
    assert_eq!(opens(&mine[3]).await, LinkOpened::ShareTaken);
    assert_eq!(store.link(mine[3].id).await.unwrap(), None);
    assert_eq!(opens(&mine[0]).await, LinkOpened::Opened, "the same again");
    let short = NewLink { lifetime: Duration::from_secs(2), ..of("short") };
    assert_eq!(opens(&short).await, LinkOpened::Opened);
    for _ in 0..2 {
        assert_eq!(opens(&of("short")).await, LinkOpened::Opened);
    }
    assert_eq!(opens(&of("short")).await, LinkOpened::ShareTaken);
    // One that is decided takes no place of its share any more, unless it is to be decided anew.
    let decision = yes(&user("alice"));
    store.decide_link(mine[0].id, &decision).await.unwrap();
    assert_eq!(opens(&mine[3]).await, LinkOpened::Opened);
    store.settle_link(mine[0].id, decision.device, LinkOutcome::Undecided).await.unwrap();
    store.decide_link(mine[1].id, &decision).await.unwrap();
    assert_eq!(opens(&of("mine")).await, LinkOpened::ShareTaken);
    // Nor one whose time is over.
    let again = of("short");
    wait_until("a place", PATIENCE, async || (opens(&again).await == LinkOpened::Opened).then_some(())).await;
}

#[tokio::test]
async fn neighbours_leave_places_for_others() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let of = |share: usize, house: &str| NewLink {
        share: format!("{share} of {house}"),
        neighbourhood: Some(house.into()),
        ..new_link()
    };
    let opens = async |new: &NewLink| store.open_link(new, 40).await.unwrap();
    // Each has another share, of which nothing is taken.
    let near: Vec<_> = (0..9).map(|share| of(share, "near")).collect();
    for new in &near[..8] {
        assert_eq!(opens(new).await, LinkOpened::Opened);
    }
    // A quarter of the 32 that are free is eight.
    assert_eq!(opens(&near[8]).await, LinkOpened::ShareTaken);
    assert_eq!(store.link(near[8].id).await.unwrap(), None);
    assert_eq!(opens(&near[0]).await, LinkOpened::Opened, "the same again");
    assert_eq!(opens(&new_link()).await, LinkOpened::Opened, "a user");
    let short = |share| NewLink { lifetime: Duration::from_secs(2), ..of(share, "far") };
    assert_eq!(opens(&short(0)).await, LinkOpened::Opened);
    // One that is decided takes no place of its neighbourhood any more, unless it is to be decided anew.
    let decision = yes(&user("alice"));
    store.decide_link(near[0].id, &decision).await.unwrap();
    assert_eq!(opens(&near[8]).await, LinkOpened::Opened);
    store.settle_link(near[0].id, decision.device, LinkOutcome::Undecided).await.unwrap();
    store.decide_link(near[1].id, &decision).await.unwrap();
    assert_eq!(opens(&of(9, "near")).await, LinkOpened::ShareTaken);
    // Nor one whose time is over.
    let mut next = 1;
    while opens(&short(next)).await == LinkOpened::Opened {
        next += 1;
        assert!(next < 20, "neighbours have no bound");
    }
    let again = of(next, "far");
    wait_until("a place", PATIENCE, async || (opens(&again).await == LinkOpened::Opened).then_some(())).await;
}

#[tokio::test]
async fn what_a_device_may_ask_for_is_kept_with_it() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let alice = user("alice");
    for history in [None, Some(0), Some((1 << 53) - 1)] {
        let new = NewDevice { history, ..new_device(&alice, DeviceKind::Sub) };
        store.register_device(&new).await.unwrap();
        let Registered::Existing(device) = store.register_device(&new).await.unwrap() else { panic!() };
        assert_eq!(device.history, history);
        store.activate_device(&alice, new.id).await.unwrap();
        assert_eq!(store.device(&alice, new.id).await.unwrap().unwrap().history, history);
        let opened =
            store.open_session(&alice, new.id, device.generation, after(0), &life("edge")).await.unwrap();
        let Opened::Session { device, .. } = opened else { panic!("{opened:?}") };
        assert_eq!(device.history, history);
        let listed = store.devices(&alice).await.unwrap();
        assert_eq!(listed.iter().find(|device| device.id == new.id).unwrap().history, history);
        assert!(store.begin_termination(&termination(&device)).await.unwrap().is_some());
        store.forget_device(&alice, new.id, &[]).await.unwrap();
    }
}
