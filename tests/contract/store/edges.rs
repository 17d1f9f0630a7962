//! Edges: whose a name is, who lives, and what the dead leave.

use keepstep::store::{Beat, Claimed, Holder, OtherEdge, RegisteredSender, StoreLimits};

use super::*;

/// The other edges, as an edge hears of them when it says that it lives.
async fn others(store: &Store, edge: &str, dead_after: Duration) -> Vec<OtherEdge> {
    match store.edge_alive(&life(edge), dead_after).await.unwrap() {
        Beat::Heard(others) => others,
        other => panic!("{edge}: {other:?}"),
    }
}

/// Of those the silent ones that have left something.
async fn dead(store: &Store, edge: &str, dead_after: Duration) -> Vec<String> {
    let others = others(store, edge, dead_after).await.into_iter();
    others.filter(|other| other.silent && other.noted).map(|other| other.name).collect()
}

async fn forget(store: &Store, edge: &str) {
    for other in others(store, "edge-2", LONG).await.into_iter().filter(|other| other.name == edge) {
        store.forget_edge(&other).await.unwrap();
    }
}

async fn noted(store: &Store, edge: &str) -> Vec<ChatId> {
    store.registered_senders(edge).await.unwrap().into_iter().map(|noted| noted.chat).collect()
}

#[tokio::test]
async fn the_notes_of_a_dead_edge_are_found() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let (one, two) = (ChatId::random().min(ChatId::random()), ChatId::random());
    let quick = Duration::from_millis(1);
    let mut notes = Vec::new();
    for chat in [one, two, one] {
        notes.push(store.register_sender("edge-1", chat).await.unwrap());
    }
    let mut both = vec![notes[2], notes[1]];
    both.sort_unstable_by_key(|noted| noted.chat);
    assert_eq!(store.registered_senders("edge-1").await.unwrap(), both);
    assert_eq!(store.registered_senders("edge-9").await.unwrap(), vec![]);
    others(&store, "edge-1", LONG).await;
    others(&store, "edge-without-notes", LONG).await;
    assert_eq!(dead(&store, "edge-2", LONG).await, Vec::<String>::new(), "all said so lately");
    let found = wait_until("silent edges", PATIENCE, async || {
        let dead = dead(&store, "edge-2", quick).await;
        (!dead.is_empty()).then_some(dead)
    });
    assert_eq!(found.await, ["edge-1"], "and never itself, nor one without notes");
    let mut all: Vec<_> = others(&store, "edge-2", quick).await.into_iter().map(|edge| edge.name).collect();
    all.sort_unstable();
    assert_eq!(all, ["edge-1", "edge-without-notes"]);
    forget(&store, "edge-1").await;
    assert_eq!(dead(&store, "edge-2", quick).await, ["edge-1"], "it has notes");
    store.unregister_senders("edge-1", &[notes[2]], LONG).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap(), both, "it lived not so long ago");
    store.unregister_senders("edge-1", &[notes[2]], quick).await.unwrap();
    store.unregister_senders("edge-1", &[notes[2]], Duration::ZERO).await.unwrap();
    assert_eq!(dead(&store, "edge-2", quick).await, ["edge-1"]);
    store.unregister_senders("edge-1", &[notes[1]], quick).await.unwrap();
    assert_eq!(dead(&store, "edge-2", quick).await, Vec::<String>::new());
    forget(&store, "edge-1").await;
    forget(&store, "edge-1").await;
    forget(&store, "edge-without-notes").await;
    assert_eq!(others(&store, "edge-2", quick).await, []);
    assert_eq!(noted(&store, "edge-1").await, []);
    // It comes back to life.
    store.register_sender("edge-1", two).await.unwrap();
    assert_eq!(noted(&store, "edge-1").await, [two]);
    assert_eq!(dead(&store, "edge-2", LONG).await, Vec::<String>::new(), "it lives by a note, too");
}

#[tokio::test]
async fn a_note_that_was_made_again_is_not_forgotten_by_who_read_the_one_before() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let chat = ChatId::random();
    let first = store.register_sender("edge-1", chat).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap(), [first]);
    let again = store.register_sender("edge-1", chat).await.unwrap();
    assert_ne!(first, again);
    for silence in [Duration::ZERO, Duration::from_millis(1)] {
        for stale in [first, RegisteredSender { chat, token: 0 }] {
            store.unregister_senders("edge-1", &[stale], silence).await.unwrap();
            assert_eq!(store.registered_senders("edge-1").await.unwrap(), [again], "{stale:?}");
        }
    }
    store.unregister_senders("edge-1", &[again], Duration::ZERO).await.unwrap();
    let newer = store.register_sender("edge-1", chat).await.unwrap();
    store.unregister_senders("edge-1", &[again], Duration::ZERO).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap(), [newer]);
}

#[tokio::test]
async fn many_notes_are_forgotten_together() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let mut notes = Vec::new();
    for _ in 0..5 {
        notes.push(store.register_sender("edge-1", ChatId::random()).await.unwrap());
    }
    store.unregister_senders("edge-1", &notes, LONG).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap().len(), 5, "it lived not so long ago");
    let unknown = RegisteredSender { chat: ChatId::random(), token: 7 };
    // Noted again since.
    let again = store.register_sender("edge-1", notes[2].chat).await.unwrap();
    let some = [notes[0], unknown, notes[0], notes[2], notes[1]];
    store.unregister_senders("edge-1", &some, Duration::ZERO).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap().len(), 3);
    notes[2] = again;
    store.unregister_senders("edge-1", &[], Duration::ZERO).await.unwrap();
    store.unregister_senders("edge-1", &notes, Duration::ZERO).await.unwrap();
    assert_eq!(store.registered_senders("edge-1").await.unwrap(), []);
}

#[tokio::test]
async fn an_edge_that_spoke_meanwhile_is_not_taken_off_the_list() {
    let (store, _guard) = start(StoreLimits::default()).await;
    others(&store, "edge-1", LONG).await;
    let before = others(&store, "edge-2", LONG).await.remove(0);
    let spoke = wait_until("edge-1 to speak later", PATIENCE, async || {
        others(&store, "edge-1", LONG).await;
        let now = others(&store, "edge-2", LONG).await.remove(0);
        (now.alive > before.alive).then_some(now)
    })
    .await;
    store.forget_edge(&before).await.unwrap();
    assert_eq!(others(&store, "edge-2", LONG).await, std::slice::from_ref(&spoke));
    store.forget_edge(&spoke).await.unwrap();
    assert_eq!(others(&store, "edge-2", LONG).await, []);
}

#[tokio::test]
async fn a_name_is_one_process_s() {
    let (store, _guard) = start(StoreLimits::default()).await;
    let held = |holder: Claimed| match holder {
        Claimed::Held(holder) => holder,
        Claimed::Ours => panic!("it is somebody else's"),
    };
    let claim = async |who: &str, dead: Option<&Holder>| store.claim_edge("one", who, dead).await.unwrap();
    assert_eq!(claim("first", None).await, Claimed::Ours);
    assert_eq!(claim("first", None).await, Claimed::Ours, "asked again");
    assert_eq!(store.claim_edge("two", "second", None).await.unwrap(), Claimed::Ours, "another name");
    let seen = held(claim("second", None).await);
    assert_eq!(seen.incarnation, "first");
    store.edge_alive(&process("one", "first"), LONG).await.unwrap();
    let later = held(claim("second", Some(&seen)).await);
    assert!(later.beat > seen.beat, "it lives");
    assert_eq!(store.edge_alive(&process("one", "second"), LONG).await.unwrap(), Beat::NameTaken);
    assert_eq!(held(claim("second", None).await), later, "who hasn't the name can't say anything under it");
    assert_eq!(claim("second", Some(&later)).await, Claimed::Ours, "it said nothing since");

    // The first wakes. Whatever it does, late or not, the name is the second's.
    assert_eq!(store.edge_alive(&process("one", "first"), LONG).await.unwrap(), Beat::NameTaken);
    assert_eq!(held(claim("first", Some(&later)).await).incarnation, "second");
    store.release_edge("one", "first").await.unwrap();
    assert_eq!(held(claim("third", None).await).incarnation, "second");
    store.release_edge("one", "second").await.unwrap();
    assert_eq!(claim("third", None).await, Claimed::Ours, "given back, it is free at once");
    // A name that nobody has claimed is taken by the first word.
    assert!(matches!(store.edge_alive(&process("new", "first"), LONG).await.unwrap(), Beat::Heard(_)));
    assert_eq!(store.edge_alive(&process("new", "second"), LONG).await.unwrap(), Beat::NameTaken);
}

#[tokio::test]
async fn a_name_that_another_process_has_by_now_is_not_forgotten() {
    let (store, _guard) = start(StoreLimits::default()).await;
    store.edge_alive(&process("edge-1", "old"), LONG).await.unwrap();
    let dead = others(&store, "edge-2", LONG).await.remove(0);
    let claim = async |who: &str, dead: Option<&Holder>| store.claim_edge("edge-1", who, dead).await.unwrap();
    let Claimed::Held(old) = claim("new", None).await else { panic!("it is the old one's") };
    assert_eq!(claim("new", Some(&old)).await, Claimed::Ours);
    store.forget_edge(&dead).await.unwrap();
    assert_eq!(others(&store, "edge-2", LONG).await, [], "the dead one is");
    let Claimed::Held(new) = claim("third", None).await else { panic!("it is the new one's") };
    assert_eq!(new.incarnation, "new");
}
