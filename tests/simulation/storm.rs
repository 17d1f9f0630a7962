//! What goes wrong, and when: a plan drawn from the seed.

use std::time::Duration;

use keepstep::simulation::{Link, Port, Weather};
use tokio::time::sleep;

use crate::{
    history::{Phase, What},
    world::World,
};

/// Calls at which an edge may die; "" is any.
const CALLS: &[&str] = &[
    "",
    "",
    "",
    "append",
    "published",
    "publish",
    "outbox",
    "owe",
    "provision",
    "activate_device",
    "register_device",
    "add_member",
    "remove_member",
    "disown",
    "remove_queues",
    "forget_device",
    "save_termination",
    "begin_termination",
    "open_session",
    "confirm_session",
    "attach",
    "move_cursors",
    "close_session",
    "move_read",
    "note_sender",
    "forget_note",
    "take_work",
];

/// Of the faults: an edge is cut off from the store, and its people go elsewhere. It needs time to show what it does.
const SHUNNED: u64 = 14;

/// What may happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The log is short and the broker honest: what it has must all arrive.
    ShortLog,
    /// Anything.
    Anything,
    /// Nothing but what clients do.
    Calm,
}

/// One fault after the other, some at once, for so long.
pub async fn storm(world: World, kind: Kind, faults: u64, length: Duration) {
    let below = |most| world.shared().below(most);
    let mut running = Vec::new();
    for _ in 0..faults {
        let mut at = Duration::from_millis(below(length.as_millis() as u64));
        let which = match kind {
            // The broker is honest, but not always within reach.
            Kind::ShortLog if below(3) == 0 => 10,
            Kind::ShortLog => below(7),
            _ => below(15),
        };
        if which == SHUNNED {
            at = at.min(length.saturating_sub(Duration::from_secs(10)));
        }
        let world = world.clone();
        running.push(tokio::spawn(async move {
            sleep(at).await;
            one(&world, which).await;
        }));
    }
    sleep(length).await;
    for fault in running {
        fault.abort();
    }
    heal(&world);
}

/// Everything is well again.
pub fn heal(world: &World) {
    world.shun_none();
    world.shared().set_weather(Weather::default());
    world.shared().run_broker(true);
    let places = world.edges().len();
    for place in 0..places {
        let edge = world.edge(place);
        edge.gate.thaw();
        edge.faults.set_link(Port::Store, Link::default());
        edge.faults.set_link(Port::Broker, Link::default());
        edge.faults.crash_at("no such call", u64::MAX, false);
        world.restart(place);
    }
    world.saw(What::Fault { name: "all".to_owned(), phase: Phase::Healed });
}

async fn one(world: &World, which: u64) {
    let shared = world.shared().clone();
    let below = |most| shared.below(most);
    let places = world.edges().len() as u64;
    let place = below(places) as usize;
    let edge = world.edge(place);
    let begun = |name: &str| world.saw(What::Fault { name: format!("{name} {place}"), phase: Phase::Begun });
    match which {
        // An edge dies at some call, before or after it is done, and comes back.
        0 | 1 => {
            let name = CALLS[below(CALLS.len() as u64) as usize];
            begun(&format!("crash at {name}"));
            let calls = 1 + below(if name.is_empty() { 400 } else { 6 });
            edge.faults.crash_at(name, calls, below(2) == 0);
            for _ in 0..40 {
                sleep(Duration::from_millis(500)).await;
                if edge.gate.is_dead() {
                    sleep(Duration::from_millis(below(7000))).await;
                    return world.restart(place);
                }
            }
        }
        // It is killed.
        2 => {
            begun("kill");
            shared.bit("edges killed", 1);
            edge.gate.kill();
            sleep(Duration::from_millis(100 + below(8000))).await;
            world.restart(place);
        }
        // It is frozen.
        3 => {
            begun("freeze");
            shared.bit("edges frozen", 1);
            edge.gate.freeze();
            sleep(Duration::from_millis(200 + below(11_000))).await;
            edge.gate.thaw();
        }
        // Its store is away.
        4 => {
            begun("cut from the store");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
            sleep(Duration::from_millis(200 + below(10_000))).await;
            edge.faults.set_link(Port::Store, Link::default());
        }
        // Its store is bad.
        5 => {
            begun("a bad link to the store");
            let link = Link {
                fail: below(150) as u32,
                unknown: below(150) as u32,
                delay: 50..200 + below(100_000),
                ..Link::default()
            };
            edge.faults.set_link(Port::Store, link);
            sleep(Duration::from_millis(500 + below(8000))).await;
            edge.faults.set_link(Port::Store, Link::default());
        }
        // Events are lost, doubled, late.
        6 => {
            begun("bad events");
            shared.set_weather(Weather {
                lose_events: below(900) as u32,
                tell_losses: below(2) == 0,
                double_events: below(200) as u32,
                late_events: below(1500),
                ..shared.weather()
            });
        }
        // The broker dies, with what was in flight, and perhaps more.
        7 | 8 => {
            begun("the broker dies");
            shared.run_broker(false);
            let waiting = below(300) as u32;
            let lost = world.broker().crash(|in_flight| in_flight || shared.per_mille(waiting));
            shared.bit("messages lost by the broker", lost);
            sleep(Duration::from_millis(100 + below(9000))).await;
            shared.run_broker(true);
        }
        // It loses its disk.
        9 => {
            begun("the broker's disk is lost");
            shared.run_broker(false);
            shared.bit("broker disks lost", 1);
            world.broker().vanish();
            sleep(Duration::from_millis(100 + below(3000))).await;
            shared.run_broker(true);
        }
        // The way to it is bad.
        10 => {
            begun("a bad link to the broker");
            let link = Link {
                cut: below(3) == 0,
                fail: below(300) as u32,
                unknown: below(300) as u32,
                delay: 50..200 + below(200_000),
            };
            edge.faults.set_link(Port::Broker, link);
            sleep(Duration::from_millis(500 + below(8000))).await;
            edge.faults.set_link(Port::Broker, Link::default());
        }
        // It has its manners.
        11 => {
            begun("bad queues");
            shared.set_weather(Weather {
                double_publications: below(200) as u32,
                reorder: below(300) as u32,
                ghosts: below(900) as u32,
                ..shared.weather()
            });
        }
        // It is alone with the broker, for longer than a lease.
        12 => {
            begun("cut from the store for long");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
        }
        // The same, while everyone goes elsewhere, where their old connections aren't heard of; then for longer than a
        // lease there is silence, and what comes after it must not come to the old ones.
        SHUNNED if places > 1 => {
            begun("cut from the store, and shunned");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
            world.shun(place, Duration::from_millis(7000 + below(1500)));
        }
        // Sessions don't hear that they are over, and their consumers cling to their queues.
        _ => {
            begun("lost events, clinging consumers");
            shared.set_weather(Weather { lose_events: 900, ghosts: 900, ..shared.weather() });
        }
    }
}
