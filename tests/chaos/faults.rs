//! Doing harm and undoing it, and the evidence that it bit.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::device::Device;
use crate::history::{Phase, What};
use crate::meter::{LOG, MISSED, Meter, RELAYED, Sums};
use crate::plan::{Fault, Kind, Wave};
use crate::proxy::Weather;
use crate::record::Recorder;
use crate::world::World;

/// What became of one fault.
#[derive(Debug, Clone)]
pub struct Harm {
    /// What it was.
    pub fault: Fault,
    /// Whether it hurt anything.
    pub bit: bool,
    /// What shows that.
    pub evidence: String,
    /// Messages that nsqd held in memory or on the disk that it lost.
    pub nsq_lost: u64,
}

/// What is counted before a wave and after its recovery.
#[derive(Debug, Clone, Copy)]
struct Counts {
    sums: Sums,
    unknown: u64,
    unavailable: u64,
    dropped: u64,
    provisioned: u64,
}

/// A fault that has begun.
struct Begun {
    fault: Fault,
    // What it hit at once, in words; and whether that is harm enough.
    hit: String,
    bit: bool,
    nsq_lost: u64,
    troubled: u64,
}

/// Who is hurt and who counts.
pub struct Harmer {
    /// Who writes.
    pub record: Arc<Recorder>,
    /// What the edges count.
    pub meter: Meter,
    ops: Vec<String>,
    begun: Vec<Begun>,
    before: Option<Counts>,
}

impl Harmer {
    /// Nothing has happened yet.
    pub fn new(world: &World, record: Arc<Recorder>) -> Harmer {
        let ops = world.edges.iter().map(crate::support::Edge::ops).collect();
        Harmer { record, meter: Meter::default(), ops, begun: Vec::new(), before: None }
    }

    async fn counts(&mut self) -> Counts {
        let sums = self.meter.read(&self.ops).await;
        let tally = &self.record.tally;
        let (unknown, unavailable) = (tally.unknown.load(Relaxed), tally.unavailable.load(Relaxed));
        let (dropped, provisioned) = (tally.dropped.load(Relaxed), tally.provisioned.load(Relaxed));
        Counts { sums, unknown, unavailable, dropped, provisioned }
    }

    /// What the edges have counted.
    pub async fn sums(&mut self) -> Sums {
        self.meter.read(&self.ops).await
    }

    /// One wave, from its first fault's begin to its last one's end.
    pub async fn wave(&mut self, world: &mut World, wave: &Wave, devices: &[Arc<Device>]) {
        self.before = Some(self.counts().await);
        self.begun.clear();
        let start = Instant::now();
        let mut steps: Vec<(Duration, Phase, Fault)> = Vec::new();
        for fault in wave {
            steps.push((fault.after, Phase::Begun, *fault));
            steps.push((fault.after + fault.lasts, Phase::Healed, *fault));
        }
        steps.sort_by_key(|(at, ..)| *at);
        for (at, phase, fault) in steps {
            sleep_until(start + at).await;
            let name = fault.kind.to_string();
            match phase {
                Phase::Begun => {
                    self.record.write(What::Fault { name, phase });
                    let begun = self.begin(world, fault, devices).await;
                    self.begun.push(begun);
                }
                Phase::Healed => {
                    self.end(world, fault, devices).await;
                    self.record.write(What::Fault { name, phase });
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
                None => ("no disk can be mounted here".to_owned(), false),
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
                (format!("{name}, {open} connections"), weather == Weather::Cut && open > 0)
            }
        };
        Begun { fault, hit, bit, nsq_lost, troubled }
    }

    async fn end(&mut self, world: &mut World, fault: Fault, devices: &[Arc<Device>]) {
        let (edge, n) = (fault.target % world.edges.len(), fault.target % world.nsqd.len());
        match fault.kind {
            Kind::EdgeKill | Kind::EdgeStop => world.edges[edge].restart().await,
            Kind::EdgeFreeze => world.edges[edge].sigcont(),
            Kind::NsqdKill | Kind::NsqdStop => world.nsqd[n].restart().await,
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
            Kind::NsqdLost | Kind::EventsOff | Kind::PubsubDrop => {}
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
                    world.proxies[*link].set(Weather::Fine);
                }
            }
        }
    }

    /// After the recovery: what bit.
    pub async fn judge(&mut self, world: &World) -> Vec<Harm> {
        let mut after = self.counts().await;
        let Some(before) = self.before.take() else { return Vec::new() };
        // That events are off shows in silence alone: it takes a while to notice.
        let silent = self.begun.iter().any(|begun| begun.fault.kind == Kind::EventsOff);
        let until = Instant::now() + Duration::from_secs(8);
        while silent && after.sums[MISSED] == before.sums[MISSED] && Instant::now() < until {
            sleep(Duration::from_millis(200)).await;
            after = self.counts().await;
        }
        let rose = |at: usize| after.sums[at] - before.sums[at];
        let (log, relayed, missed) = (rose(LOG), rose(RELAYED), rose(MISSED));
        let unknown = after.unknown - before.unknown + after.unavailable - before.unavailable;
        let dropped = after.dropped - before.dropped;
        let provisioned = after.provisioned - before.provisioned;
        let broker = format!("{log} from the log, {relayed} published again");
        let clients = format!("{unknown} unknown or refused, {dropped} sockets dropped");
        let judge = |begun: Begun| {
            let (bit, more) = match begun.fault.kind {
                Kind::EdgeKill | Kind::EdgeStop | Kind::EdgeFreeze | Kind::Storm => (false, clients.clone()),
                Kind::NsqdKill | Kind::NsqdStop | Kind::NsqdFreeze | Kind::NsqdFull | Kind::NsqdLost => {
                    (log + relayed > 0, broker.clone())
                }
                Kind::LookupdKill | Kind::LookupdFreeze => {
                    (provisioned > 0, format!("{provisioned} registrations, joins and ends meanwhile"))
                }
                Kind::RedisKill | Kind::RedisStop | Kind::RedisFreeze => {
                    (unknown + dropped > 0, clients.clone())
                }
                Kind::EventsOff => (missed > 0, format!("{missed} notifications missed")),
                Kind::PubsubDrop => (false, format!("{missed} notifications missed")),
                Kind::LinkDelay
                | Kind::LinkThrottle
                | Kind::LinkCut
                | Kind::LinkHalfOpen
                | Kind::LinkOneWay => {
                    let troubled = trouble(world, begun.fault) - begun.troubled;
                    (troubled > 0, format!("{troubled} bytes or connections troubled; {broker}; {clients}"))
                }
            };
            let possible = begun.fault.kind != Kind::NsqdFull || world.disk.is_some();
            let evidence = [begun.hit, more].into_iter().filter(|text| !text.is_empty());
            Harm {
                fault: begun.fault,
                bit: (begun.bit || bit) && possible,
                evidence: evidence.collect::<Vec<_>>().join("; "),
                nsq_lost: begun.nsq_lost,
            }
        };
        self.begun.drain(..).map(judge).collect()
    }
}

/// Bytes that couldn't pass freely, and connections that broke.
fn trouble(world: &World, fault: Fault) -> u64 {
    let links = &world.links[fault.target % world.links.len()].1;
    let seen = links.iter().map(|link| world.proxies[*link].seen());
    seen.map(|seen| seen.troubled.load(Relaxed) + seen.cut.load(Relaxed)).sum()
}

fn weather(fault: Fault) -> Weather {
    match fault.kind {
        Kind::LinkDelay => Weather::Delay(Duration::from_secs_f64(0.05 + 0.35 * fault.strength)),
        Kind::LinkThrottle => Weather::Throttle((2000.0 + 18_000.0 * fault.strength) as u64),
        Kind::LinkCut => Weather::Cut,
        Kind::LinkHalfOpen => Weather::HalfOpen,
        _ => Weather::OneWay,
    }
}
