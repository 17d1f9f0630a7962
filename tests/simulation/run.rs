//! One schedule, from its seed to its verdict.

use std::{collections::BTreeMap, time::Duration};

use keepstep::{
    config::{Limits, Timing},
    domain::device::DeviceKind,
    simulation::{Manners, Shared, seed},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    device::Device,
    held,
    history::{Event, History, Phase, Rules, What, check::check},
    leases, life, random,
    scenes::{self, Scene},
    settle,
    storm::{Kind, heal, storm},
    unkind::{self, Unkind, may},
    world::{Stage, World, user},
};

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub violations: Vec<String>,
    pub fingerprint: u64,
    pub events: Vec<Event>,
    pub injected: BTreeMap<&'static str, u64>,
    pub sends: u64,
    pub deliveries: u64,
    pub simulated: Duration,
}

/// Runs one schedule.
pub fn schedule(seed: u64) -> Outcome {
    apart(seed, async move || story(seed).await)
}

/// Plays one scene.
pub fn scene(scene: Scene, seed: u64) -> Outcome {
    apart(seed, async move || play(scene, seed).await)
}

/// In a thread of its own: hash maps draw their order from the thread.
fn apart(seed: u64, story: impl AsyncFnOnce() -> Outcome + Send + 'static) -> Outcome {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).spawn(move || {
        random::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            seed::seed(seed);
            story().await
        })
    });
    thread.expect("a thread").join().unwrap_or_else(|_| Outcome {
        violations: vec!["it panicked; see above".to_owned()],
        fingerprint: 0,
        events: Vec::new(),
        injected: BTreeMap::new(),
        sends: 0,
        deliveries: 0,
        simulated: Duration::ZERO,
    })
}

async fn story(seed: u64) -> Outcome {
    let shared = Shared::new(seed);
    let below = |most| shared.below(most);
    let kind = match below(8) {
        0 => Kind::Calm,
        1..=3 => Kind::ShortLog,
        _ if may(Unkind::SlowStore) && below(200) == 0 => Kind::Crowd,
        _ => Kind::Anything,
    };
    let (limits, timing, rules, msg_timeout) = settings(&shared, kind);
    let edges = if kind == Kind::Crowd { 1 } else { 1 + below(3) as usize };
    let window = limits.unacked_window;
    let world = World::new(shared.clone(), edges, limits, timing, msg_timeout);
    if kind == Kind::Calm {
        world.set_calm();
    }
    // A crowd has as many queues as would make the looks the most of the work.
    let held = (kind != Kind::Crowd).then(|| tokio::spawn(held::watch(world.clone(), window)));
    let watches: Vec<_> = held.into_iter().chain([tokio::spawn(leases::watch(world.clone()))]).collect();
    let people = match kind {
        Kind::Crowd => life::begins_crowded(&world).await,
        _ => life::begins(&world).await,
    };
    let faults = if kind == Kind::Calm { 0 } else { 1 + below(4) };
    let length = match kind {
        Kind::Crowd => 120_000 + below(60_000),
        _ => 3_000 + below(if below(4) == 0 { 18_000 } else { 9_000 }),
    };
    let length = Duration::from_millis(length);
    let storm = tokio::spawn(storm(world.clone(), kind, faults, length));
    tokio::join!(goes_on(&world, kind, &people, length), comes_and_goes(&world, &people, length));
    let _ = storm.await;
    verdict(world, kind, rules, watches).await
}

/// One scene, from its seed to its verdict.
async fn play(scene: Scene, seed: u64) -> Outcome {
    let shared = Shared::new(seed);
    let timing = Timing { nsq_idle: scenes::NSQ_IDLE, ..Timing::default() };
    let rules = Rules {
        gaps: false,
        silence_after: 6_500_000,
        lease: timing.lease.as_micros() as u64,
        queues_complete: true,
        clients_read: true,
        window: None,
    };
    let world = World::new(shared, 3, scene.limits(), timing, scene.msg_timeout());
    let watches = vec![tokio::spawn(leases::watch(world.clone()))];
    world.saw(What::Fault { name: scene.name().to_owned(), phase: Phase::Begun });
    scene.plays(&world).await;
    heal(&world);
    verdict(world, Kind::Anything, rules, watches).await
}

/// Everyone comes back and goes, and all is judged.
async fn verdict(world: World, kind: Kind, rules: Rules, watches: Vec<JoinHandle<Vec<String>>>) -> Outcome {
    let shared = world.shared().clone();
    world.set_stage(Stage::Settling);
    let (end, mut violations) = settle::settles(&world).await;
    world.set_stage(Stage::Over);
    violations.extend(settle::is_over(&world).await);
    for watch in watches {
        violations.extend(watch.await.unwrap_or_default());
    }
    violations.extend(world.take_violations());
    let history = History { events: world.take_events(), end, rules };
    world.falls_apart();
    violations.extend(check(&history).into_iter().map(|violation| {
        let at = violation.at.map_or(String::new(), |at| format!(" at {:.3} ms", at as f64 / 1000.0));
        format!("invariant {}{at}: {}", violation.invariant, violation.what)
    }));
    if kind == Kind::Crowd {
        violations.extend(turned_away(&history));
    }
    let violations = unkind::counted(violations);
    let count =
        |which: fn(&What) -> bool| history.events.iter().filter(|event| which(&event.what)).count() as u64;
    Outcome {
        violations,
        fingerprint: shared.fingerprint(),
        injected: shared.injected(),
        sends: count(|what| matches!(what, What::Sent { .. })),
        deliveries: count(|what| matches!(what, What::Message { .. })),
        simulated: Duration::from_micros(shared.now()),
        events: history.events,
    }
}

// What the deployment of this run is like.
fn settings(shared: &Shared, kind: Kind) -> (Limits, Timing, Rules, Duration) {
    let below = |most| shared.below(most);
    // Calls aren't what is bounded here.
    let mut limits = Limits { creates_per_minute: 100_000, ..Limits::default() };
    // Half of the runs: the queues must bring what was sent.
    let short_log = kind == Kind::ShortLog || (kind == Kind::Anything && below(4) == 0);
    if short_log {
        limits.log_messages = 20 + below(40);
        limits.log_keep = below(10);
    }
    if below(3) == 0 {
        limits.unacked_window = 16 + below(16) as usize;
    }
    // As nsqd is run, or faster, so that a run needn't take minutes.
    let as_it_is = below(8) == 0 || kind == Kind::Crowd;
    let msg_timeout = Duration::from_millis(if as_it_is { 60_000 } else { 4000 + below(4000) });
    // Mostly short, so that queues are detached and attached again and again.
    let nsq_idle = Duration::from_millis(if below(4) == 0 { 10_000 } else { 50 + below(2000) });
    let timing = Timing { ack_timeout: msg_timeout.mul_f64(0.75), nsq_idle, ..Timing::default() };
    let half_open = may(Unkind::LinesLost) && below(3) == 0;
    let large = may(Unkind::LargeMessages) && below(6) == 0;
    shared.set_manners(Manners {
        attach: if may(Unkind::SlowAttach) && below(4) == 0 { 10_000 } else { 2 },
        largest: if large { life::LARGE } else { usize::MAX },
        half_open: if half_open { 300 } else { 0 },
        half_open_for: msg_timeout,
    });
    let rules = Rules {
        // Both the broker and the log may have lost it.
        gaps: short_log,
        // Should the signal be lost: the lease, and the sweep.
        silence_after: if kind == Kind::Calm { 1_000_000 } else { 6_500_000 },
        lease: timing.lease.as_micros() as u64,
        queues_complete: true,
        clients_read: true,
        window: Some(limits.unacked_window as u64),
    };
    (limits, timing, rules, msg_timeout)
}

// However slow the store is, it answers in time: nobody is sent away.
fn turned_away(history: &History) -> Vec<String> {
    let mut codes: BTreeMap<u16, usize> = BTreeMap::new();
    // Subs that came before their mains don't count.
    let slow = |event: &&Event| !matches!(event.what, What::Fault { .. });
    for event in history.events.iter().skip_while(slow) {
        if let What::Closed { code: Some(code), .. } = event.what {
            *codes.entry(code).or_default() += 1;
        }
    }
    let told = |(code, times)| {
        format!("invariant 17: {times} sockets were closed {code}: the store is slow, and answers")
    };
    codes.into_iter().map(told).collect()
}

// Everything people do, until the storm is over.
async fn goes_on(world: &World, kind: Kind, people: &life::People, length: Duration) {
    let begun = tokio::time::Instant::now();
    let below = |most| world.shared().below(most);
    let (group, guest) = (people.group, user(2));
    let mut subs: Vec<Device> = people.subs.clone();
    while begun.elapsed() < length {
        sleep(Duration::from_millis(below(1500))).await;
        if kind == Kind::Crowd {
            life::bot_sends(world, &user(below(2)), group, 0).await;
            continue;
        }
        match below(9) {
            0 if world.is_member(&guest, group).await => life::leaves(world, &guest, group).await,
            0 | 1 if !world.is_member(&guest, group).await => life::joins(world, &guest, group).await,
            // Gone and back in a moment: the traces of the one meet the other.
            1 => {
                life::leaves(world, &guest, group).await;
                if below(2) == 0 {
                    sleep(Duration::from_millis(below(1500))).await;
                }
                life::joins(world, &guest, group).await;
            }
            2 | 3 if subs.len() < 4 => {
                let whose = user(below(3));
                subs.extend(
                    life::registers(world, &whose, DeviceKind::Sub, life::habits(world, false)).await,
                );
            }
            4 if !subs.is_empty() => {
                let sub = subs.swap_remove(below(subs.len() as u64) as usize);
                life::ends(world, &sub.user, sub.id).await;
            }
            // Whichever of the two comes second must see the other.
            8 => {
                if world.is_member(&guest, group).await {
                    life::leaves(world, &guest, group).await;
                }
                let (one, other) = (below(30), below(30));
                let later = |ms| sleep(Duration::from_millis(ms));
                let joining = async {
                    later(one).await;
                    life::joins(world, &guest, group).await;
                };
                let registering = async {
                    later(other).await;
                    life::registers(world, &guest, DeviceKind::Sub, life::habits(world, false)).await
                };
                let ((), new) = tokio::join!(joining, registering);
                subs.extend(new);
            }
            5 | 6 if !world.is_silent() => {
                let large = world.shared().manners().largest == life::LARGE && below(4) == 0;
                let length = if large { life::LARGE } else { 0 };
                life::bot_sends(world, &user(below(2)), group, length).await;
            }
            _ => {}
        }
    }
}

// One who asks for nothing is brought into the group, and sent out of it.
async fn comes_and_goes(world: &World, people: &life::People, length: Duration) {
    let begun = tokio::time::Instant::now();
    let below = |most| world.shared().below(most);
    let (owner, whom, group) = (user(0), user(3), people.group);
    while people.invited && begun.elapsed() < length {
        sleep(Duration::from_millis(below(2500))).await;
        if !world.is_member(&whom, group).await {
            life::invites(world, &owner, group, &whom).await;
        } else {
            life::removes(world, &owner, group, &whom).await;
            if below(2) == 0 {
                sleep(Duration::from_millis(below(200))).await;
                life::invites(world, &owner, group, &whom).await;
            }
        }
    }
}
