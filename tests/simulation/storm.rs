//! What goes wrong, and when: a plan drawn from the seed.

use std::time::Duration;

use keepstep::simulation::{FaultProfile, Link, Port, Shared, queue::Found};
use tokio::time::sleep;

use crate::{
    history::{Phase, What},
    unkind::{Unkind, may},
    world::World,
};

/// nsqd writes down how far it is with a queue once in so long.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls at which an edge may die; "" is any.
const CALLS: &[&str] = &[
    "",
    "",
    "",
    "append",
    "published",
    "publish",
    "outbox",
    "subscribe_device",
    "provision",
    "activate_device",
    "register_device",
    "add_member",
    "remove_member",
    "unsubscribe_device",
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
    "register_sender",
    "unregister_senders",
    "try_acquire_lease",
];

/// Calls that change something which others may have changed anew when they are done late.
const LATE: &[&str] = &[
    "add_member",
    "add_member",
    "remove_member",
    "remove_member",
    "remove_member",
    "subscribe_device",
    "unsubscribe_device",
    "unsubscribe_device",
    "unsubscribe_device",
    "open_session",
    "open_session",
    "close_session",
    "attach",
    "move_cursors",
    "move_read",
    "register_device",
    "activate_device",
    "begin_termination",
    "save_termination",
    "forget_device",
    "try_acquire_lease",
    "release_lease",
    "append",
    "published",
    "register_sender",
    "unregister_senders",
    "expire_session",
    "check_session",
    "edge_alive",
    "delete_chat",
];

/// What may happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The log is short and the broker loses nothing: what it has must all arrive.
    ShortLog,
    /// Anything.
    Anything,
    /// Nothing but what clients do.
    Calm,
    /// Hundreds of devices on one edge, whose store answers slowly for minutes, and nothing else.
    Crowd,
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// An edge dies at some call, before or after it is done, and comes back.
    CrashAtCall,
    /// It is killed.
    Kill,
    /// It is stopped, in order.
    Stop,
    /// It is frozen.
    Freeze,
    /// Its store is away.
    StoreCut,
    /// Its store is bad.
    StoreBad,
    /// Events are lost, doubled, late.
    BadEvents,
    /// The broker dies, with what was in flight, and perhaps more.
    BrokerDies,
    /// It is stopped, or dies and finds all of it again, some of it twice.
    BrokerStops,
    /// It loses its disk.
    DiskLost,
    /// The way to it is bad.
    BrokerBad,
    /// Its connections are lost, once or again and again.
    LinesLost,
    /// It brings messages twice and out of order, and makes queues too late.
    BadQueues,
    /// An edge is alone with the broker, for longer than a lease.
    StoreCutLong,
    /// The same, while everyone goes elsewhere, where their old connections aren't heard of; then for longer than a lease there
    /// is silence, and what comes after it must not come to the old ones.
    Shunned,
    /// Sessions don't hear that they are over, and their consumers cling to their queues.
    Clinging,
    /// Calls to the store are done when their callers have given up.
    LateCalls,
    /// The store's clock jumps, perhaps back again.
    StoreClock,
    /// An edge's wall clock does.
    EdgeClock,
}

impl Fault {
    fn draw(world: &World, kind: Kind) -> Self {
        use Fault::*;
        let anything = [
            CrashAtCall,
            CrashAtCall,
            Kill,
            Stop,
            Freeze,
            StoreCut,
            StoreBad,
            BadEvents,
            BrokerDies,
            BrokerDies,
            DiskLost,
            BrokerBad,
            BadQueues,
            StoreCutLong,
            Clinging,
            Shunned,
            BrokerStops,
            LinesLost,
            LateCalls,
            LateCalls,
            StoreClock,
            EdgeClock,
        ];
        // Nothing is lost, but the broker isn't always within reach.
        let short_log = [
            BrokerBad,
            BrokerBad,
            BrokerStops,
            BrokerStops,
            LinesLost,
            LinesLost,
            BadQueues,
            CrashAtCall,
            CrashAtCall,
            Kill,
            Kill,
            Stop,
            Freeze,
            StoreCut,
            StoreBad,
            BadEvents,
            Clinging,
            LateCalls,
            StoreClock,
        ];
        let from: &[Self] = if kind == Kind::ShortLog { &short_log } else { &anything };
        let fault = from[world.shared().below(from.len() as u64) as usize];
        match fault {
            LinesLost if !may(Unkind::LinesLost) => BrokerBad,
            LateCalls if !may(Unkind::LateCalls) => StoreBad,
            StoreClock if !may(Unkind::StoreClock) => StoreBad,
            EdgeClock if !may(Unkind::EdgeClock) => Freeze,
            fault => fault,
        }
    }
}

/// One fault after the other, some at once, for so long.
pub async fn storm(world: World, kind: Kind, faults: u64, length: Duration) {
    let below = |most| world.shared().below(most);
    if kind == Kind::Crowd {
        world.saw(What::Fault { name: "a slow store 0".to_owned(), phase: Phase::Begun });
        let slow = Link { delay: 150_000..500_000, ..Link::default() };
        world.edge(0).faults.set_link(Port::Store, slow);
        sleep(length).await;
        return heal(&world);
    }
    let mut running = Vec::new();
    for _ in 0..faults {
        let mut at = Duration::from_millis(below(length.as_millis() as u64));
        let which = Fault::draw(&world, kind);
        // It needs time to show what it does.
        if which == Fault::Shunned {
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
    world.heal_partitions();
    world.shared().set_profile(FaultProfile::default());
    world.shared().run_broker(true);
    let places = world.edges().len();
    for place in 0..places {
        let edge = world.edge(place);
        edge.gate.thaw();
        edge.faults.set_link(Port::Store, Link::default());
        edge.faults.set_link(Port::Broker, Link::default());
        edge.faults.crash_at("no such call", u64::MAX, false);
        // One that was just stopping: nobody waits for it.
        if edge.core.drain.has_begun() {
            edge.gate.kill();
        }
        world.restart(place);
    }
    world.saw(What::Fault { name: "all".to_owned(), phase: Phase::Healed });
}

async fn one(world: &World, which: Fault) {
    let shared = world.shared().clone();
    let below = |most| shared.below(most);
    let places = world.edges().len() as u64;
    let place = below(places) as usize;
    let edge = world.edge(place);
    let begun = |name: &str| world.saw(What::Fault { name: format!("{name} {place}"), phase: Phase::Begun });
    match which {
        Fault::CrashAtCall => {
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
        Fault::Kill => {
            begun("kill");
            shared.record("edges killed", 1);
            edge.gate.kill();
            sleep(Duration::from_millis(100 + below(8000))).await;
            world.restart(place);
        }
        Fault::Stop => {
            begun("stop");
            shared.record("edges stopped", 1);
            let core = edge.core.clone();
            core.drain.begin();
            core.drain.finish(core.timing.drain_deadline, core.flushed()).await;
            core.release_name().await;
            edge.gate.kill();
            sleep(Duration::from_millis(100 + below(3000))).await;
            world.restart(place);
        }
        Fault::Freeze => {
            begun("freeze");
            shared.record("edges frozen", 1);
            edge.gate.freeze();
            sleep(Duration::from_millis(200 + below(11_000))).await;
            edge.gate.thaw();
        }
        Fault::StoreCut => {
            begun("cut from the store");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
            sleep(Duration::from_millis(200 + below(10_000))).await;
            edge.faults.set_link(Port::Store, Link::default());
        }
        Fault::StoreBad => {
            begun("a bad link to the store");
            let link = Link {
                fail: below(150) as u32,
                unknown: below(150) as u32,
                delay: 50..200 + below(if below(3) == 0 { 900_000 } else { 100_000 }),
                ..Link::default()
            };
            edge.faults.set_link(Port::Store, link);
            sleep(Duration::from_millis(500 + below(8000))).await;
            edge.faults.set_link(Port::Store, Link::default());
        }
        Fault::BadEvents => {
            begun("bad events");
            shared.set_profile(FaultProfile {
                lose_events: below(900) as u32,
                notice_losses: below(2) == 0,
                double_events: below(200) as u32,
                late_events: below(1500),
                ..shared.profile()
            });
        }
        Fault::BrokerDies => {
            begun("the broker dies");
            broker_restarts(world, |age| match below(3) {
                0 if age < SYNC_TIMEOUT => Found::Anew,
                1 => Found::Before(below(24) as usize),
                _ => Found::WithoutFlight,
            })
            .await;
        }
        Fault::BrokerStops => {
            begun("the broker is stopped");
            let stopped = below(2) == 0;
            broker_restarts(
                world,
                |_| if stopped { Found::Stopped } else { Found::Before(below(24) as usize) },
            )
            .await;
        }
        Fault::DiskLost => {
            begun("the broker's disk is lost");
            shared.run_broker(false);
            shared.record("broker disks lost", 1);
            world.broker().vanish();
            sleep(Duration::from_millis(100 + below(3000))).await;
            shared.run_broker(true);
        }
        Fault::BrokerBad => {
            begun("a bad link to the broker");
            let link = Link {
                cut: below(3) == 0,
                fail: below(300) as u32,
                unknown: below(300) as u32,
                delay: 50..200 + below(200_000),
                ..Link::default()
            };
            edge.faults.set_link(Port::Broker, link);
            sleep(Duration::from_millis(500 + below(8000))).await;
            edge.faults.set_link(Port::Broker, Link::default());
        }
        Fault::LinesLost => {
            begun("connections to the broker are lost");
            for _ in 0..1 + below(4) {
                shared.record("connections to the broker lost", 1);
                edge.faults.lose_lines();
                sleep(Duration::from_millis(50 + below(3000))).await;
            }
        }
        Fault::BadQueues => {
            begun("bad queues");
            shared.set_profile(FaultProfile {
                double_publications: below(200) as u32,
                reorder: below(300) as u32,
                ghosts: below(900) as u32,
                torn: if may(Unkind::TornMessages) && below(3) == 0 { below(50) as u32 } else { 0 },
                ..shared.profile()
            });
        }
        Fault::StoreCutLong => {
            begun("cut from the store for long");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
        }
        Fault::Shunned if places > 1 => {
            begun("cut from the store, and partitioned");
            edge.faults.set_link(Port::Store, Link { cut: true, ..Link::default() });
            world.partition(place, Duration::from_millis(7000 + below(1500)));
        }
        Fault::LateCalls => {
            // Any of them, or nearly all of one kind.
            let name = if below(3) == 0 { "" } else { LATE[below(LATE.len() as u64) as usize] };
            begun(&format!("calls of {name} done late"));
            let late = if name.is_empty() { 20 + below(150) } else { 300 + below(700) } as u32;
            let link = Link { late, late_name: name, unknown: below(50) as u32, ..Link::default() };
            edge.faults.set_link(Port::Store, link);
            sleep(Duration::from_millis(500 + below(8000))).await;
            edge.faults.set_link(Port::Store, Link::default());
        }
        Fault::StoreClock => {
            let by = jump(&shared);
            begun(&format!("the store's clock jumps by {} s", by / 1000));
            shared.record("jumps of the store's clock", 1);
            world.jump_store(by);
            if below(2) == 0 {
                sleep(Duration::from_millis(below(12_000))).await;
                world.jump_store(-by);
            }
        }
        Fault::EdgeClock => {
            let by = jump(&shared);
            begun(&format!("an edge's clock jumps by {} s", by / 1000));
            shared.record("jumps of an edge's clock", 1);
            edge.gate.jump(by);
            if below(2) == 0 {
                sleep(Duration::from_millis(below(12_000))).await;
                edge.gate.jump(-by);
            }
        }
        Fault::Shunned | Fault::Clinging => {
            begun("lost events, clinging consumers");
            shared.set_profile(FaultProfile { lose_events: 900, ghosts: 900, ..shared.profile() });
        }
    }
}

/// By how many milliseconds a clock jumps.
fn jump(shared: &Shared) -> i64 {
    let by = [30, 3_600, 8 * 24 * 3_600][shared.below(3) as usize] * 1000;
    if shared.below(2) == 0 { by } else { -by }
}

/// The broker is away for a while, and finds its queues so.
async fn broker_restarts(world: &World, mut found: impl FnMut(Duration) -> Found) {
    let shared = world.shared();
    shared.run_broker(false);
    // What a topic had copied to its channels it copies again.
    let again = if shared.below(3) == 0 { shared.below(8) as usize } else { 0 };
    let found = |age| {
        let found = found(age);
        (found, if found == Found::Stopped { 0 } else { again })
    };
    let lost = world.broker().restart(found, |most| shared.below(most as u64) as usize);
    shared.record("messages lost by the broker", lost);
    sleep(Duration::from_millis(100 + shared.below(9000))).await;
    shared.run_broker(true);
}
