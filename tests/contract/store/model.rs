//! Whatever is asked in whatever order, the store answers as a model of a few lines does.

use std::collections::HashMap;

use keepstep::store::{CursorMove, CursorMoved, StoreLimits};
use proptest::{prelude::*, test_runner::Config};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { key: usize, text: u8 },
    Publish { seq: Seq },
    Attach { device: usize, session: u64 },
    Ack { device: usize, session: u64, seq: Seq },
    Read { seq: Seq },
    Log { from: Seq, count: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12usize, 0..2u8).prop_map(|(key, text)| Step::Append { key, text }),
        1 => (0..15u64).prop_map(|seq| Step::Publish { seq }),
        2 => (0..2usize, 0..6u64).prop_map(|(device, session)| Step::Attach { device, session }),
        4 => (0..2usize, 0..6u64, 0..15u64)
            .prop_map(|(device, session, seq)| Step::Ack { device, session, seq }),
        2 => (0..15u64).prop_map(|seq| Step::Read { seq }),
        1 => (0..15u64, 0..6usize).prop_map(|(from, count)| Step::Log { from, count }),
    ]
}

#[derive(Default)]
struct Model {
    head: Seq,
    keys: HashMap<usize, (Seq, u8)>,
    outbox: Vec<Seq>,
    cursors: [Seq; 2],
    fences: [u64; 2],
    read: Seq,
}

async fn follow(store: &Store, steps: Vec<Step>) {
    let alice = user("alice");
    let chat = group(store, &alice).await;
    let devices = [DeviceId::random(), DeviceId::random()];
    for device in devices {
        subscribe_now(store, chat, &alice, device).await;
    }
    let keys: Vec<_> = (0..12).map(|_| MessageKey::random()).collect();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { key, text } => {
                let append = Append { key: keys[key], ..message(chat, &alice, &text.to_string()) };
                let appended = store.append(&append).await.unwrap();
                match model.keys.get(&key) {
                    Some((seq, same)) if *same == text => {
                        assert_eq!(appended, Appended::Again { seq: *seq, at: append.at });
                    }
                    Some(_) => assert_eq!(appended, Appended::KeyConflict),
                    None => {
                        model.head += 1;
                        model.keys.insert(key, (model.head, text));
                        model.outbox.push(model.head);
                        assert!(matches!(appended, Appended::New { seq, .. } if seq == model.head));
                    }
                }
            }
            Step::Publish { seq } => {
                store.published(chat, &[seq]).await.unwrap();
                model.outbox.retain(|other| *other != seq);
                let waiting = store.outbox(chat, 100).await.unwrap().messages;
                assert_eq!(waiting.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), model.outbox);
            }
            Step::Attach { device, session } => {
                let attached = store.attach(&[chat], &alice, devices[device], session).await.unwrap();
                assert_eq!(attached[0].is_some(), session >= model.fences[device]);
                model.fences[device] = model.fences[device].max(session);
            }
            Step::Ack { device, session, seq } => {
                let wanted = CursorMove { device: devices[device], session, from: 0, seq };
                let moved = store.move_cursors(chat, &[wanted]).await.unwrap();
                if session < model.fences[device] {
                    assert_eq!(moved, [CursorMoved::Fenced]);
                } else {
                    model.cursors[device] = model.cursors[device].max(seq.min(model.head));
                    assert_eq!(moved, [CursorMoved::At(model.cursors[device])]);
                }
                let position = store.position(chat, devices[device]).await.unwrap().unwrap();
                assert_eq!(position.cursor, model.cursors[device]);
            }
            Step::Read { seq } => {
                model.read = model.read.max(seq);
                assert_eq!(store.move_read(&alice, chat, seq, None).await.unwrap(), model.read);
            }
            Step::Log { from, count } => {
                let page = store.log(chat, from, count, 1 << 20).await.unwrap();
                let expected: Vec<_> = (from.max(1)..=model.head).take(count).collect();
                assert_eq!(page.messages.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected);
                assert_eq!((page.floor, page.head), (1, model.head));
            }
        }
    }
}

#[test]
fn any_order_of_calls_is_answered_as_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, _guard) = runtime.block_on(start(StoreLimits::default()));
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..60))| {
        runtime.block_on(follow(&store, steps));
    });
}
