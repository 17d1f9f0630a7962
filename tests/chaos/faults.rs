//! Injects and heals faults, and collects evidence of their effect.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::client::in_seconds;
use crate::device::Device;
use crate::gaps::Loss;
use crate::history::{Phase, What};
use crate::meter::{LOG, MISSED, Meter, RELAYED, Sums};
use crate::plan::{Fault, Kind};
use crate::proxy::FaultProfile;
use crate::record::Recorder;
use crate::support::{Edge, http_get};
use crate::world::World;

/// The effect of one fault.
#[derive(Debug, Clone)]
pub struct Harm {
    /// The fault.
    pub fault: Fault,
    /// Whether it had an effect.
    pub bit: bool,
    /// The evidence.
    pub evidence: String,
    /// Messages that nsqd lost, from memory or its disk.
    pub nsq_lost: u64,
    /// Why it wasn't possible, if it wasn't.
    pub lacking: Option<String>,
}

/// Counters before a wave and after its recovery.
#[derive(Debug, Clone, Copy)]
struct Counts {
    sums: Sums,
    unknown: u64,
    unavailable: u64,
    dropped: u64,
    provisioned: u64,
}

/// An active fault.
struct Begun {
    fault: Fault,
    // What it hit at once, in words; and whether that is harm enough.
    hit: String,
    bit: bool,
    nsq_lost: u64,
    troubled: u64,
}

/// Injects and heals faults.
pub struct Harmer {
    /// The recorder.
    pub record: Arc<Recorder>,
    /// The edges' counters.
    pub meter: Meter,
    /// Guarantees that a fault found broken at once.
    pub broken: Vec<(u8, String)>,
    ops: Vec<String>,
    begun: Vec<Begun>,
    before: Option<Counts>,
    // Of a name that is taken, if it started all the same.
    twin: Option<Edge>,
    far: Option<(Begun, Counts)>,
}

/// The edge that is far from Redis, if any.
pub const FAR: usize = 0;

impl Harmer {
    /// Returns one without any fault yet.
    pub fn new(world: &World, record: Arc<Recorder>) -> Harmer {
        let ops = world.edges.iter().map(crate::support::Edge::ops).collect();
        Harmer {
            record,
            meter: Meter::default(),
            broken: Vec::new(),
            ops,
            begun: Vec::new(),
            before: None,
            twin: None,
            far: None,
        }
    }

    /// Begins a fault for the length of the run.
    pub async fn settle(&mut self, world: &World, fault: Fault) {
        let before = self.counts().await;
        world.proxies[world.to_redis[FAR]].settle(FaultProfile::Far(fault.distance() / 2));
        let troubled = trouble(world, fault);
        let hit = format!("edge {FAR} is {:?} from Redis, there and back", fault.distance());
        self.record.write(What::Fault { name: fault.kind.to_string(), phase: Phase::Begun });
        self.far = Some((Begun { fault, hit, bit: false, nsq_lost: 0, troubled }, before));
    }

    /// Ends it.
    pub async fn heal(&mut self, world: &World) -> Option<Harm> {
        let (begun, before) = self.far.take()?;
        world.proxies[world.to_redis[FAR]].settle(FaultProfile::Fine);
        self.record.write(What::Fault { name: begun.fault.kind.to_string(), phase: Phase::Healed });
        let after = self.counts().await;
        Some(judge(world, begun, before, after))
    }

    async fn counts(&mut self) -> Counts {
        let sums = self.meter.read(&self.ops).await;
        let tally = &self.record.tally;
        let (unknown, unavailable) = (tally.unknown.load(Relaxed), tally.unavailable.load(Relaxed));
        let (dropped, provisioned) = (tally.dropped.load(Relaxed), tally.provisioned.load(Relaxed));
        Counts { sums, unknown, unavailable, dropped, provisioned }
    }

    /// Returns the edges' counters.
    pub async fn sums(&mut self) -> Sums {
        self.meter.read(&self.ops).await
    }

    /// Runs one wave, from the start of its first fault to the end of its last.
    pub async fn wave(&mut self, world: &mut World, wave: &[Fault], devices: &[Arc<Device>]) {
        self.before = Some(self.counts().await);
        self.begun.clear();
        let start = Instant::now();
        let mut steps: Vec<(Duration, Phase, Fault)> = Vec::new();
        for mut fault in wave.iter().copied() {
            let edge = |fault: &Fault| fault.target % world.edges.len();
            let dies = |other: &Fault| matches!(other.kind, Kind::EdgeKill | Kind::EdgeStop);
            // Of an edge that is dead, nothing can be late.
            if fault.kind == Kind::RedisLate
                && wave.iter().any(|other| dies(other) && edge(other) == edge(&fault))
            {
                fault.target += 1;
            }
            steps.push((fault.after, Phase::Begun, fault));
            steps.push((fault.after + fault.lasts, Phase::Healed, fault));
        }
        steps.sort_by_key(|(at, ..)| *at);
        for (at, phase, fault) in steps {
            sleep_until(start + at).await;
            let name = fault.kind.to_string();
            match phase {
                Phase::Begun => {
                    self.record.write(What::Fault { name, phase });
                    if fault.kind.loses() || fault.kind.hides_nsqd() {
                        self.record.tally.away.fetch_add(1, Relaxed);
                        let (kind, begun) = (fault.kind, self.record.now());
                        let nsqd = match kind {
                            // Only the first has a disk that can be filled.
                            Kind::NsqdFull => Some(0),
                            _ => kind.loses().then(|| fault.target % world.nsqd.len()),
                        };
                        self.record.losses.lock().unwrap().push(Loss { nsqd, kind, begun, healed: None });
                    }
                    let begun = self.begin(world, fault, devices).await;
                    self.begun.push(begun);
                }
                Phase::Healed => {
                    self.end(world, fault, devices).await;
                    self.record.write(What::Fault { name, phase });
                    if fault.kind.loses() || fault.kind.hides_nsqd() {
                        self.record.tally.away.fetch_sub(1, Relaxed);
                        let healed = Some(self.record.now());
                        let mut losses = self.record.losses.lock().unwrap();
                        let open = losses.iter_mut().filter(|loss| loss.kind == fault.kind);
                        open.filter(|loss| loss.healed.is_none()).for_each(|loss| loss.healed = healed);
                    }
                }
            }
            self.meter.read(&self.ops).await;
        }
    }

    async fn begin(&mut self, world: &mut World, fault: Fault, devices: &[Arc<Device>]) -> Begun {
        let (edge, n) = (fault.target % world.edges.len(), fault.target % world.nsqd.len());
        let connected = devices.iter().filter(|device| device.sight().edge == Some(edge)).count();
        let queues = world.queues(n).await.unwrap_or_default();
        let in_flight: u64 = queues.iter().map(|queue| queue.in_flight).sum();
        let depth: u64 = queues.iter().map(|queue| queue.depth).sum();
        let on_edge = (format!("{connected} sockets on edge {edge}"), connected > 0);
        let on_nsqd = (format!("nsqd {n}: {depth} queued, {in_flight} in flight"), depth + in_flight > 0);
        let (mut nsq_lost, mut troubled) = (0, 0);
        let (hit, bit) = match fault.kind {
            Kind::EdgeKill => {
                world.edges[edge].kill9();
                on_edge
            }
            Kind::EdgeStop => {
                world.edges[edge].terminate().await;
                on_edge
            }
            Kind::EdgeFreeze => {
                world.edges[edge].sigstop();
                on_edge
            }
            Kind::NsqdKill => {
                world.nsqd[n].kill9();
                nsq_lost = in_flight;
                on_nsqd
            }
            Kind::NsqdStop => {
                world.nsqd[n].terminate().await;
                on_nsqd
            }
            Kind::NsqdFreeze => {
                world.nsqd[n].sigstop();
                on_nsqd
            }
            Kind::NsqdFull => match &world.disk {
                Some(disk) => {
                    disk.fill();
                    ("nsqd 0".to_owned(), false)
                }
                None => (String::new(), false),
            },
            Kind::NsqdLost => {
                world.nsqd[n].restart_empty().await;
                nsq_lost = depth + in_flight;
                (format!("{}; {} queues", on_nsqd.0, queues.len()), !queues.is_empty())
            }
            Kind::LookupdKill => {
                world.lookupd.kill9();
                (String::new(), false)
            }
            Kind::LookupdFreeze => {
                world.lookupd.sigstop();
                (String::new(), false)
            }
            Kind::RedisKill => {
                world.redis.kill9();
                (String::new(), false)
            }
            Kind::RedisStop => {
                world.redis.terminate().await;
                (String::new(), false)
            }
            Kind::RedisFreeze => {
                world.redis.sigstop();
                (String::new(), false)
            }
            Kind::EventsOff => {
                let set = world.redis.command(&["CONFIG", "SET", "notify-keyspace-events", ""]).await;
                (format!("{set:?}"), false)
            }
            Kind::PubsubDrop => {
                let killed =
                    world.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap_or_default();
                (format!("{killed} connections"), killed.parse().is_ok_and(|killed: u64| killed > 0))
            }
            Kind::RedisLate => {
                let link = world.to_redis[edge];
                let weather = if fault.strength < 0.5 {
                    FaultProfile::Late
                } else {
                    FaultProfile::LateOfOld(self.record.now())
                };
                world.proxies[link].set(weather);
                troubled = trouble(world, fault);
                let whose = if weather == FaultProfile::Late { "all" } else { "the old" };
                (format!("{whose} connections of edge {edge}, {connected} sockets on it"), false)
            }
            // It goes on for the whole run: see `settle`.
            Kind::RedisFar => (String::new(), false),
            Kind::RedisClock => {
                let jumped = jumps(world, fault.jump()).await;
                (format!("by {} s", fault.jump()), jumped)
            }
            Kind::EdgeClock => {
                if let Some(clock) = world.edge_clocks.get(edge) {
                    clock.set(&format!("{:+}", fault.jump()));
                }
                (format!("by {} s, {}", fault.jump(), on_edge.0), on_edge.1)
            }
            Kind::NsqdSlow => {
                world.nsqd[n].terminate().await;
                reconnect_meanwhile(devices.to_vec(), fault.lasts);
                on_nsqd
            }
            Kind::EdgeTwin => {
                // One that is far from Redis takes long to know anything.
                let edge = if self.far.is_some() { (FAR + 1) % world.edges.len() } else { edge };
                let said = self.twin(world, edge).await;
                (format!("edge {edge}: {said}"), true)
            }
            Kind::Storm => {
                let all = devices.iter().filter(|device| device.sight().edge.is_some()).count();
                (format!("{all} sockets"), all > 0)
            }
            Kind::LinkDelay | Kind::LinkThrottle | Kind::LinkCut | Kind::LinkHalfOpen | Kind::LinkOneWay => {
                let (name, links) = &world.links[fault.target % world.links.len()];
                let open: u64 = links.iter().map(|link| world.proxies[*link].seen().open.load(Relaxed)).sum();
                let weather = weather(fault);
                for link in links {
                    world.proxies[*link].set(weather);
                }
                troubled = trouble(world, fault);
                (format!("{name}, {open} connections"), weather == FaultProfile::Cut && open > 0)
            }
        };
        Begun { fault, hit, bit, nsq_lost, troubled }
    }

    async fn end(&mut self, world: &mut World, fault: Fault, devices: &[Arc<Device>]) {
        let (edge, n) = (fault.target % world.edges.len(), fault.target % world.nsqd.len());
        match fault.kind {
            Kind::EdgeKill | Kind::EdgeStop => world.revive(edge).await,
            Kind::EdgeFreeze => world.edges[edge].sigcont(),
            Kind::NsqdKill | Kind::NsqdStop | Kind::NsqdSlow => world.nsqd[n].restart().await,
            Kind::NsqdFreeze => world.nsqd[n].sigcont(),
            Kind::NsqdFull => {
                if let Some(disk) = &world.disk {
                    disk.free();
                }
            }
            Kind::LookupdKill => world.lookupd.restart().await,
            Kind::LookupdFreeze => world.lookupd.sigcont(),
            Kind::RedisKill | Kind::RedisStop => world.redis.restart().await,
            Kind::RedisFreeze => world.redis.sigcont(),
            Kind::NsqdLost | Kind::EventsOff | Kind::PubsubDrop | Kind::RedisFar => {}
            Kind::RedisLate => world.proxies[world.to_redis[edge]].heal(),
            Kind::RedisClock => drop(jumps(world, 0).await),
            Kind::EdgeClock => {
                if let Some(clock) = world.edge_clocks.get(edge) {
                    clock.set("+0");
                }
            }
            // Killed, as whatever notices such a mistake would do it at last.
            Kind::EdgeTwin => drop(self.twin.take()),
            Kind::Storm => {
                // The storm is its end: everybody at once, several times.
                for _ in 0..5 {
                    for device in devices {
                        device.told(|orders| orders.round += 1);
                    }
                    sleep(Duration::from_millis(60)).await;
                }
            }
            Kind::LinkDelay | Kind::LinkThrottle | Kind::LinkCut | Kind::LinkHalfOpen | Kind::LinkOneWay => {
                for link in &world.links[fault.target % world.links.len()].1 {
                    world.proxies[*link].heal();
                }
            }
        }
    }

    /// Returns each fault's effect, after the recovery.
    pub async fn judge(&mut self, world: &World) -> Vec<Harm> {
        let mut after = self.counts().await;
        let Some(before) = self.before else { return Vec::new() };
        // That events are off shows in silence alone: it takes a while to notice.
        let silent = self.begun.iter().any(|begun| begun.fault.kind == Kind::EventsOff);
        let until = Instant::now() + Duration::from_secs(8);
        while silent && after.sums[MISSED] == before.sums[MISSED] && Instant::now() < until {
            sleep(Duration::from_millis(200)).await;
            after = self.counts().await;
        }
        self.begun.drain(..).map(|begun| judge(world, begun, before, after)).collect()
    }

    /// Starts a second edge with the name of a live one, which must not take part.
    async fn twin(&mut self, world: &World, edge: usize) -> String {
        match world.twin(edge).await {
            Err(said) => {
                let words = said.lines().rev().find(|line| line.contains("KEEPSTEP_EDGE"));
                format!("refused: {}", words.unwrap_or("without a word about its name").trim())
            }
            Ok(twin) => {
                // One that can't reach Redis, or is far from it, doesn't know yet.
                let ready = async || matches!(http_get(&twin.ops(), "/readyz").await, Ok((200, _)));
                let until = Instant::now() + Duration::from_secs(25);
                let mut took_part = ready().await;
                while !took_part && Instant::now() < until {
                    sleep(Duration::from_millis(100)).await;
                    took_part = ready().await;
                }
                self.twin = Some(twin);
                if took_part {
                    let what = format!("a second edge-{edge} started while the first lived, and was ready");
                    self.broken.push((0, what));
                }
                if took_part { "it took part" } else { "it waited" }.to_owned()
            }
        }
    }
}

/// Returns a fault's effect from the counters before and after.
fn judge(world: &World, begun: Begun, before: Counts, after: Counts) -> Harm {
    let rose = |at: usize| after.sums[at] - before.sums[at];
    let (log, relayed, missed) = (rose(LOG), rose(RELAYED), rose(MISSED));
    let unknown = after.unknown - before.unknown + after.unavailable - before.unavailable;
    let dropped = after.dropped - before.dropped;
    let provisioned = after.provisioned - before.provisioned;
    let broker = format!("{log} from the log, {relayed} published again");
    let clients = format!("{unknown} unknown or refused, {dropped} sockets dropped");
    let (bit, more) = match begun.fault.kind {
        Kind::EdgeKill | Kind::EdgeStop | Kind::EdgeFreeze | Kind::Storm => (false, clients),
        Kind::NsqdKill
        | Kind::NsqdStop
        | Kind::NsqdFreeze
        | Kind::NsqdFull
        | Kind::NsqdLost
        | Kind::NsqdSlow => (log + relayed > 0, broker),
        Kind::LookupdKill | Kind::LookupdFreeze => {
            (provisioned > 0, format!("{provisioned} registrations, joins and ends meanwhile"))
        }
        Kind::RedisKill | Kind::RedisStop | Kind::RedisFreeze => (unknown + dropped > 0, clients),
        Kind::EventsOff => (missed > 0, format!("{missed} notifications missed")),
        Kind::PubsubDrop => (false, format!("{missed} notifications missed")),
        Kind::RedisClock | Kind::EdgeClock | Kind::EdgeTwin => (false, clients),
        Kind::RedisLate => {
            let troubled = trouble(world, begun.fault) - begun.troubled;
            let edge = begun.fault.target % world.edges.len();
            let orphaned = world.proxies[world.to_redis[edge]].seen().orphaned.load(Relaxed);
            (
                troubled > 0,
                format!("{troubled} bytes late, {orphaned} of them after their edge had gone; {clients}"),
            )
        }
        Kind::RedisFar
        | Kind::LinkDelay
        | Kind::LinkThrottle
        | Kind::LinkCut
        | Kind::LinkHalfOpen
        | Kind::LinkOneWay => {
            let troubled = trouble(world, begun.fault) - begun.troubled;
            (troubled > 0, format!("{troubled} bytes or connections troubled; {broker}; {clients}"))
        }
    };
    let lacking = world.lacking.get(&begun.fault.kind).cloned();
    let evidence = [begun.hit, more].into_iter().filter(|text| !text.is_empty());
    Harm {
        fault: begun.fault,
        bit: (begun.bit || bit) && lacking.is_none(),
        evidence: evidence.collect::<Vec<_>>().join("; "),
        nsq_lost: begun.nsq_lost,
        lacking,
    }
}

/// Sets Redis's clock this many seconds beside the true time. Returns whether Redis shows it.
async fn jumps(world: &World, by: i64) -> bool {
    if !world.redis_clock {
        return false;
    }
    world.redis.set_clock(&format!("{by:+}")).await;
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        let time = world.redis.command(&["TIME"]).await.unwrap_or_default();
        let told = time.lines().next().and_then(|seconds| seconds.parse::<i64>().ok());
        if told.is_some_and(|told| (told - in_seconds(by)).abs() < 3) {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Makes every device reconnect, again and again, while something is down.
fn reconnect_meanwhile(devices: Vec<Arc<Device>>, lasts: Duration) {
    tokio::spawn(async move {
        for _ in 0..3 {
            sleep(lasts / 4).await;
            for device in &devices {
                device.told(|orders| orders.round += 1);
            }
        }
    });
}

/// Returns the impaired bytes and the broken connections on the links of a fault.
fn trouble(world: &World, fault: Fault) -> u64 {
    let of_edge = |edge: usize| vec![world.to_redis[edge]];
    let links = match fault.kind {
        Kind::RedisLate => of_edge(fault.target % world.edges.len()),
        Kind::RedisFar => of_edge(FAR),
        _ => world.links[fault.target % world.links.len()].1.clone(),
    };
    let seen = links.iter().map(|link| world.proxies[*link].seen());
    seen.map(|seen| seen.troubled.load(Relaxed) + seen.cut.load(Relaxed)).sum()
}

fn weather(fault: Fault) -> FaultProfile {
    match fault.kind {
        Kind::LinkDelay => FaultProfile::Delay(Duration::from_secs_f64(0.05 + 0.35 * fault.strength)),
        Kind::LinkThrottle => FaultProfile::Throttle((2000.0 + 18_000.0 * fault.strength) as u64),
        Kind::LinkCut => FaultProfile::Cut,
        Kind::LinkHalfOpen => FaultProfile::HalfOpen,
        _ => FaultProfile::OneWay,
    }
}
