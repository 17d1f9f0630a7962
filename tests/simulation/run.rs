//! One schedule, from its seed to its verdict.

use std::{collections::BTreeMap, time::Duration};

use keepstep::{
    chance,
    config::{Limits, Timing},
    domain::device::DeviceKind,
    simulation::Shared,
};
use tokio::time::sleep;

use crate::{
    device::{Device, Habits},
    history::{Event, History, Rules, What, check::check},
    life, random, settle,
    storm::{Kind, storm},
    world::{Stage, World, user},
};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub violations: Vec<String>,
    pub fingerprint: u64,
    pub events: Vec<Event>,
    pub bites: BTreeMap<&'static str, u64>,
    pub sends: u64,
    pub deliveries: u64,
    pub simulated: Duration,
}

/// Runs one schedule in a thread of its own: hash maps draw their order from the thread.
pub fn schedule(seed: u64) -> Outcome {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || {
        random::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(story(seed))
    });
    thread.expect("a thread").join().unwrap_or_else(|_| Outcome {
        violations: vec!["it panicked; see above".to_owned()],
        fingerprint: 0,
        events: Vec::new(),
        bites: BTreeMap::new(),
        sends: 0,
        deliveries: 0,
        simulated: Duration::ZERO,
    })
}

async fn story(seed: u64) -> Outcome {
    chance::seed(seed);
    let shared = Shared::new(seed);
    let below = |most| shared.below(most);
    let kind = match below(8) {
        0 => Kind::Calm,
        1 | 2 => Kind::ShortLog,
        _ => Kind::Anything,
    };
    let mut limits = Limits::default();
    if kind == Kind::ShortLog {
        limits.log_messages = 20 + below(40);
        limits.log_keep = below(10);
    }
    if below(3) == 0 {
        limits.unacked_window = 16 + below(16) as usize;
    }
    let timing = Timing::default();
    let rules = Rules {
        gaps: false,
        // Should the signal be lost: the lease, and the sweep.
        silence_after: if kind == Kind::Calm { 1_000_000 } else { 6_500_000 },
        silence_after_leave: if kind == Kind::Calm { 1_000_000 } else { 10_000_000 },
        lease: timing.lease.as_micros() as u64,
        queues_complete: true,
    };
    let world = World::new(shared.clone(), 1 + below(3) as usize, limits, timing);
    let devices = begins(&world).await;
    let faults = if kind == Kind::Calm { 0 } else { 1 + below(4) };
    let (faults, length) =
        (faults, Duration::from_millis(3_000 + below(if below(4) == 0 { 18_000 } else { 9_000 })));
    let storm = tokio::spawn(storm(world.clone(), kind, faults, length));
    goes_on(&world, kind, devices.clone(), length).await;
    let _ = storm.await;
    world.set_stage(Stage::Settling);
    let (end, mut violations) = settle::settles(&world).await;
    world.set_stage(Stage::Over);
    violations.extend(settle::is_over(&world).await);
    let history = History { events: world.take_events(), end, rules };
    world.falls_apart();
    violations.extend(check(&history).into_iter().map(|violation| {
        let at = violation.at.map_or(String::new(), |at| format!(" at {:.3} ms", at as f64 / 1000.0));
        format!("invariant {}{at}: {}", violation.invariant, violation.what)
    }));
    let count =
        |which: fn(&What) -> bool| history.events.iter().filter(|event| which(&event.what)).count() as u64;
    Outcome {
        violations,
        fingerprint: shared.fingerprint(),
        bites: shared.bites(),
        sends: count(|what| matches!(what, What::Sent { .. })),
        deliveries: count(|what| matches!(what, What::Message { .. })),
        simulated: Duration::from_micros(shared.now()),
        events: history.events,
    }
}

fn habits(world: &World, busy: bool) -> Habits {
    let below = |most| world.shared().below(most);
    let once = |of: u64, most: u64| if below(of) == 0 { below(most) as u32 } else { 0 };
    Habits {
        tick: 10 + below(80),
        sends: if busy { 50 + below(400) as u32 } else { below(60) as u32 },
        acks: 100 + below(900) as u32,
        reads: below(200) as u32,
        hangs_up: once(2, 30),
        dawdles: once(4, 100),
        lies: once(4, 500),
        page: 1 + below(12),
    }
}

// Two people with a phone each, perhaps the web; a chat of theirs and a group; a third who comes and goes.
async fn begins(world: &World) -> Vec<Device> {
    let mut devices = Vec::new();
    for n in 0..3 {
        devices.extend(life::registers(world, &user(n), DeviceKind::Main, habits(world, n < 2)).await);
    }
    life::creates(world, &user(0), Some(&user(1))).await;
    let group = life::creates(world, &user(0), None).await;
    life::joins(world, &user(1), group).await;
    if world.shared().below(2) == 0 {
        devices.extend(life::registers(world, &user(0), DeviceKind::Sub, habits(world, false)).await);
    }
    devices
}

// Everything people do, until the storm is over.
async fn goes_on(world: &World, kind: Kind, devices: Vec<Device>, length: Duration) {
    let (world, begun) = (world.clone(), tokio::time::Instant::now());
    let below = |most| world.shared().below(most);
    let group = group(&world).await;
    let mut subs: Vec<Device> = devices.into_iter().filter(|device| device.kind == DeviceKind::Sub).collect();
    let mut member = false;
    while begun.elapsed() < length {
        sleep(Duration::from_millis(below(1500))).await;
        // Between a coming and its queue there is the log, which is too short then.
        match if kind == Kind::ShortLog { 4 + below(4) } else { below(9) } {
            0 if member => {
                life::leaves(&world, &user(2), group).await;
                member = false;
            }
            0 | 1 if !member => {
                life::joins(&world, &user(2), group).await;
                member = true;
            }
            // Gone and back in a moment: the traces of the one meet the other.
            1 => {
                life::leaves(&world, &user(2), group).await;
                if below(2) == 0 {
                    sleep(Duration::from_millis(below(1500))).await;
                }
                life::joins(&world, &user(2), group).await;
            }
            2 | 3 if subs.len() < 4 => {
                let whose = user(below(3));
                subs.extend(life::registers(&world, &whose, DeviceKind::Sub, habits(&world, false)).await);
            }
            4 if !subs.is_empty() => {
                let sub = subs.swap_remove(below(subs.len() as u64) as usize);
                life::ends(&world, &sub.user, sub.id).await;
            }
            // Whichever of the two comes second must see the other.
            8 => {
                if member {
                    life::leaves(&world, &user(2), group).await;
                }
                let (one, other) = (below(30), below(30));
                let later = |ms| sleep(Duration::from_millis(ms));
                let joining = async {
                    later(one).await;
                    life::joins(&world, &user(2), group).await;
                };
                let registering = async {
                    later(other).await;
                    life::registers(&world, &user(2), DeviceKind::Sub, habits(&world, false)).await
                };
                let ((), new) = tokio::join!(joining, registering);
                subs.extend(new);
                member = true;
            }
            5 | 6 if !world.is_silent() => life::bot_sends(&world, &user(below(2)), group).await,
            _ => {}
        }
    }
}

async fn group(world: &World) -> keepstep::domain::id::ChatId {
    for chat in world.store().chats_of(&user(0)).await.expect("the truth") {
        if world.store().chat(chat).await.expect("the truth").is_some_and(|chat| chat.public) {
            return chat;
        }
    }
    panic!("there is a group");
}
