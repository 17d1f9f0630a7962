//! The processes of one run, with a proxy on each link between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::plan::{Kind, Log, Plan};
use crate::proxy::Proxy;
use crate::support::{
    Edge, EdgeConfig, Lookupd, Nsqd, NsqdOptions, Redis, RedisOptions, WallClock, free_port, http_get,
};

/// See the module.
#[derive(Debug)]
pub struct World {
    /// The edges.
    pub edges: Vec<Edge>,
    /// Their addresses for clients.
    pub addresses: Arc<[String]>,
    /// The two nsqd.
    pub nsqd: Vec<Nsqd>,
    /// nsqlookupd.
    pub lookupd: Lookupd,
    /// Redis.
    pub redis: Redis,
    /// Groups of links that a fault takes together, by name.
    pub links: Vec<(String, Vec<usize>)>,
    /// All links.
    pub proxies: Vec<Proxy>,
    /// Each edge's link to Redis.
    pub to_redis: Vec<usize>,
    /// The small disk of the first nsqd, if a fault needs it.
    pub disk: Option<Disk>,
    /// Whether Redis has a clock that can be set, for a fault.
    pub redis_clock: bool,
    /// The edges' clocks, for a fault.
    pub edge_clocks: Vec<WallClock>,
    /// Faults that aren't possible here, and why.
    pub lacking: BTreeMap<Kind, String>,
    /// The length of a lease.
    pub lease: u64,
    // What each edge was told.
    configs: Vec<EdgeConfig>,
    // What the edges' clocks are kept in.
    _clocks: TempDir,
}

/// How long a device may take to acknowledge.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long nsqd waits for an edge that took a message and died.
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an edge that is refused at first may take to start: the name of the dead one may not be free yet.
const REVIVAL: Duration = Duration::from_secs(30);

/// A small file system in memory. Unmounted on drop.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    fn mount() -> Result<Disk, String> {
        let folder =
            tempfile::Builder::new().prefix("keepstep-disk-").tempdir().map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m", "keepstep-chaos"]).arg(folder.path());
        let output = mount.output().map_err(|error| format!("mount: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(Disk(folder))
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all the free space.
    pub fn fill(&self) {
        use std::io::Write;
        let Ok(mut file) = std::fs::File::create(self.ballast()) else { return };
        let zeros = vec![0; 64 * 1024];
        while file.write_all(&zeros).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    /// Frees that space.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} couldn't be unmounted", self.0.path().display());
        }
    }
}

fn temp_folder() -> TempDir {
    tempfile::Builder::new().prefix("keepstep-clocks-").tempdir().expect("make a temporary folder")
}

/// Returns whether a clock jumps in this plan, and can.
fn jumps(plan: &Plan, kind: Kind, lacks: &mut impl FnMut(Kind, String)) -> bool {
    match WallClock::lacking().filter(|_| plan.has(kind)) {
        Some(why) => {
            lacks(kind, why.to_owned());
            false
        }
        None => plan.has(kind),
    }
}

async fn proxy(server: &str) -> Proxy {
    let port =
        server.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address has a port");
    for _ in 0..10 {
        if let Ok(proxy) = Proxy::start(free_port(), port).await {
            return proxy;
        }
    }
    panic!("no port for a proxy")
}

impl World {
    /// Starts everything, and waits until the edges are ready.
    pub async fn start(plan: &Plan) -> World {
        let mut lacking = BTreeMap::new();
        let mut lacks = |kind, why| drop(lacking.insert(kind, why));
        let (redis_clock, folder) = (jumps(plan, Kind::RedisClock, &mut lacks), temp_folder());
        let of_edge = |number| {
            let folder = folder.path().join(format!("edge-{number}"));
            std::fs::create_dir(&folder).expect("make a temporary folder");
            WallClock::new(&folder)
        };
        let edges = if jumps(plan, Kind::EdgeClock, &mut lacks) { plan.edges } else { 0 };
        let edge_clocks: Vec<WallClock> = (0..edges).map(of_edge).collect();
        let options = RedisOptions { own_clock: redis_clock, ..RedisOptions::default() };
        let redis = Redis::start_with(options).await;
        let lookupd = Lookupd::start().await;
        let mut proxies = vec![proxy(&lookupd.tcp()).await];
        let mut links = vec![("nsqd to nsqlookupd".to_owned(), vec![0])];
        let disk = plan.has(Kind::NsqdFull).then(Disk::mount).and_then(|disk| {
            disk.map_err(|why| lacks(Kind::NsqdFull, format!("no disk can be mounted here: {why}"))).ok()
        });
        let (mut nsqd, mut http) = (Vec::new(), Vec::new());
        for n in 0..2 {
            let data = disk.as_ref().filter(|_| n == 0).map(|disk| disk.0.path().join("nsqd"));
            let lookupd = Some(proxies[0].addr());
            let one = Nsqd::start_with(NsqdOptions { lookupd, data, args: Vec::new() }).await;
            http.push(proxies.len());
            proxies.push(proxy(&one.http()).await);
            nsqd.push(one);
        }
        let mut to_nsqd: Vec<Vec<usize>> = http.iter().map(|http| vec![*http]).collect();
        let lease = if plan.short { 3 } else { 6 };
        let (mut edges, mut configs, mut to_redis) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..plan.edges {
            let mut from_edge = Vec::new();
            let mut addresses = Vec::new();
            for n in 0..nsqd.len() {
                let tcp = proxy(&nsqd[n].tcp()).await;
                addresses.push(format!("http://{}?tcp={}", proxies[http[n]].addr(), tcp.addr()));
                from_edge.push(proxies.len());
                to_nsqd[n].push(proxies.len());
                proxies.push(tcp);
            }
            let redis_link = proxy(&redis.addr()).await;
            let mut config = EdgeConfig::on(&redis, &nsqd, Some(&lookupd))
                .set("KEEPSTEP_REDIS_URL", format!("redis://{}/", redis_link.addr()))
                .set("KEEPSTEP_NSQD", addresses.join(","))
                .set("KEEPSTEP_EDGE", format!("edge-{number}"))
                .set("KEEPSTEP_CREATES_PER_MINUTE", "10000")
                .set("KEEPSTEP_INVITED_PER_HOUR", "1000000")
                .set("KEEPSTEP_DEVICES_PER_HOUR", "1000000")
                .set("KEEPSTEP_DEVICES_PER_DAY", "1000000")
                .set("KEEPSTEP_REINVITE_AFTER", "0s")
                // Those whose registration nobody finished count.
                .set("KEEPSTEP_SUBS_PER_USER", "50")
                .set("KEEPSTEP_ACK_TIMEOUT", format!("{}s", ACK_TIMEOUT.as_secs()))
                .set("KEEPSTEP_NSQ_MESSAGE_TIMEOUT", format!("{}s", MESSAGE_TIMEOUT.as_secs()));
            if plan.log == Log::Short {
                config = config.set("KEEPSTEP_LOG_MESSAGES", "100").set("KEEPSTEP_LOG_KEEP", "100");
            }
            for (name, value) in edge_clocks.get(number).map(WallClock::env).unwrap_or_default() {
                config = config.set(&name, value);
            }
            if plan.short {
                for (name, value) in [("LEASE", "3s"), ("LEASE_RENEWAL", "1s"), ("TAIL_CHECK", "1s")] {
                    config = config.set(&format!("KEEPSTEP_{name}"), value);
                }
            }
            links.push((format!("edge {number} to its nsqd"), from_edge));
            links.push((format!("edge {number} to Redis"), vec![proxies.len()]));
            to_redis.push(proxies.len());
            proxies.push(redis_link);
            edges.push(Edge::start(config.clone()).await);
            configs.push(config);
        }
        links.extend(to_nsqd.into_iter().enumerate().map(|(n, links)| (format!("edges to nsqd {n}"), links)));
        for edge in &edges {
            edge.ready().await;
        }
        let addresses = edges.iter().map(Edge::listen).collect();
        World {
            edges,
            addresses,
            nsqd,
            lookupd,
            redis,
            links,
            proxies,
            to_redis,
            disk,
            redis_clock,
            edge_clocks,
            lacking,
            lease,
            configs,
            _clocks: folder,
        }
    }

    /// Restarts an edge as a service manager would: repeatedly, if it refuses.
    pub async fn revive(&mut self, edge: usize) {
        let deadline = Instant::now() + REVIVAL;
        while let Err(why) = self.edges[edge].try_restart().await {
            assert!(Instant::now() < deadline, "edge {edge} doesn't start again: {why}");
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Starts a second edge with all settings of another except its addresses; returns its message if it refuses.
    pub async fn twin(&self, edge: usize) -> Result<Edge, String> {
        Edge::attempt(self.configs[edge].clone()).await
    }

    /// Returns the queues of one nsqd. None if it doesn't answer.
    pub async fn queues(&self, n: usize) -> Option<Vec<Queue>> {
        queues(&self.nsqd[n].http()).await
    }

    /// Writes the output of all processes into a folder.
    pub fn logs(&mut self, folder: &Path) {
        let write = |name: String, log: String| {
            let _ = std::fs::write(folder.join(name), log);
        };
        for (n, edge) in self.edges.iter_mut().enumerate() {
            write(format!("edge-{n}.log"), edge.process().log());
        }
        for (n, nsqd) in self.nsqd.iter_mut().enumerate() {
            write(format!("nsqd-{n}.log"), nsqd.process().log());
        }
        write("nsqlookupd.log".to_owned(), self.lookupd.process().log());
        write("redis.log".to_owned(), self.redis.process().log());
    }
}

/// One queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The chat's id.
    pub chat: String,
    /// The device's id.
    pub device: String,
    /// Waiting messages.
    pub depth: u64,
    /// Messages in flight. The consumer may be gone: then nsqd waits for its time-out.
    pub in_flight: u64,
    /// Of these, the messages of connected consumers.
    pub held: u64,
    /// Its consumers.
    pub clients: u64,
}

/// Returns the queues of an nsqd's statistics. None if it doesn't answer.
pub async fn queues(address: &str) -> Option<Vec<Queue>> {
    let (_, body) = http_get(address, "/stats?format=json&include_mem=false").await.ok()?;
    let stats: Value = serde_json::from_str(&body).ok()?;
    let mut queues = Vec::new();
    for topic in stats["topics"].as_array()? {
        let Some(chat) = topic["topic_name"].as_str().and_then(|name| id(name, "c.")) else { continue };
        for channel in topic["channels"].as_array()? {
            let Some(device) = channel["channel_name"].as_str().and_then(|name| id(name, "d.")) else {
                continue;
            };
            let number = |name: &str| channel[name].as_u64().unwrap_or_default();
            let (depth, in_flight) = (number("depth") + number("deferred_count"), number("in_flight_count"));
            let consumers = channel["clients"].as_array().cloned().unwrap_or_default();
            let held = consumers.iter().filter_map(|consumer| consumer["in_flight_count"].as_u64()).sum();
            let (chat, clients) = (chat.clone(), consumers.len() as u64);
            queues.push(Queue { chat, device, depth, in_flight, held, clients });
        }
    }
    Some(queues)
}

/// Returns the id in an NSQ name.
pub fn id(name: &str, prefix: &str) -> Option<String> {
    Some(uuid::Uuid::parse_str(name.strip_prefix(prefix)?).ok()?.hyphenated().to_string())
}
