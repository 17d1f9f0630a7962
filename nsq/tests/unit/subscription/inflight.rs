use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Deliver(u8),
    Remove(usize),
    Touch(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => any::<u8>().prop_map(Step::Deliver),
        4 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Touch),
        1 => (0_u64..1500).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..400)
}

#[test]
fn what_is_about_to_time_out_is_touched() {
    let (mut now, second) = (Instant::now(), Duration::from_secs(1));
    let mut inflight = Inflight::new(4 * second);
    let touched = |inflight: &mut Inflight, now| {
        inflight.touch_due(2 * second, now).map(|id| id[0]).collect::<Vec<_>>()
    };
    let first = inflight.insert([1; 16], 10, 1, now);
    now += second;
    inflight.insert([2; 16], 10, 1, now);
    assert_eq!(touched(&mut inflight, now), [0; 0], "there is time");
    now += second;
    assert_eq!(touched(&mut inflight, now), [1]);
    now += second;
    assert_eq!(touched(&mut inflight, now), [2]);
    inflight.remove(first);
    now += 5 * second;
    assert_eq!(touched(&mut inflight, now), [0; 0], "it is too late, or done");
}

proptest! {
    /// Against a plain map: only the newest delivery of an id can be settled, once.
    #[test]
    fn behaves_like_a_map(steps in steps()) {
        let mut now = Instant::now();
        let mut inflight = Inflight::new(Duration::from_secs(1));
        let mut model: BTreeMap<u64, MessageId> = BTreeMap::new();
        let mut serials = Vec::new();
        for step in steps {
            match step {
                Step::Deliver(id) => {
                    let id = [id; 16];
                    let again = model.iter().find(|(_, held)| **held == id).map(|(serial, _)| *serial);
                    if let Some(old) = again {
                        model.remove(&old);
                    }
                    let serial = inflight.insert(id, usize::from(id[0]), 1 + u16::from(again.is_some()), now);
                    model.insert(serial, id);
                    serials.push(serial);
                }
                Step::Remove(n) if !serials.is_empty() => {
                    let serial = serials[n % serials.len()];
                    prop_assert_eq!(inflight.remove(serial), model.remove(&serial));
                }
                Step::Touch(n) if !serials.is_empty() => {
                    let serial = serials[n % serials.len()];
                    prop_assert_eq!(inflight.touch(serial, now), model.get(&serial).copied());
                }
                Step::Wait(ms) => now += Duration::from_millis(ms),
                _ => {}
            }
            inflight.expire(now);
            let held = inflight.held();
            prop_assert_eq!(held.messages, inflight.live() + inflight.expired());
            prop_assert_eq!(held.messages as usize, model.len());
            prop_assert_eq!(held.bytes, model.values().map(|id| usize::from(id[0])).sum::<usize>());
            prop_assert!(inflight.entries.len() <= 65 + 4 * model.len(), "places are given back");
        }
        now += Duration::from_secs(2);
        inflight.expire(now);
        prop_assert_eq!(inflight.live(), 0, "in the end all have expired");
        prop_assert_eq!(inflight.drain().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
    }
}
