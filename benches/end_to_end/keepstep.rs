//! Keepstep: the real binary over a real Redis and nsqd.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use crate::{
    client::{self, Api, Device, Member},
    machine,
    support::{Aof, Lookupd, Nsqd, Process, Redis, RedisOptions, free_port, http_get, wait_until},
    tally::{Figures, Tally, content},
    work::{self, Rig, Size},
};

const SECRET: &str = "a secret of the benchmark alone, 32 bytes or more";
/// The load comes from few users at a great rate: what limits one user must not be what is measured.
const LIMITS: [&str; 9] = [
    "KEEPSTEP_FRAMES_PER_SECOND",
    "KEEPSTEP_FRAMES_BURST",
    "KEEPSTEP_CONNECTS_PER_MINUTE",
    "KEEPSTEP_CREATES_PER_MINUTE",
    "KEEPSTEP_INVITED_PER_HOUR",
    "KEEPSTEP_NEW_CONNECTIONS_PER_IP",
    "KEEPSTEP_DEVICES_PER_HOUR",
    "KEEPSTEP_DEVICES_PER_DAY",
    "KEEPSTEP_PASSWORDS_PER_MINUTE",
];
/// HTTP calls at once while a scene is set.
const AT_ONCE: usize = 16;
/// Devices that connect at once.
const CONNECTING: usize = 64;
/// Devices of each user of a chat: the main and three subs.
const PER_USER: usize = 4;

/// Every process of a Keepstep on one machine.
pub struct World {
    keepstep: Process,
    listen: u16,
    ops: u16,
    redis: Redis,
    nsqd: Nsqd,
    // Dropped last.
    _lookupd: Lookupd,
    _folder: TempDir,
    pub api: Api,
}

impl World {
    /// Starts all of it on the servers' core.
    pub async fn start(aof: Aof) -> Result<Self, String> {
        machine::pin(machine::SERVERS);
        let redis = Redis::start_with(RedisOptions { aof, ..RedisOptions::default() }).await;
        let lookupd = Lookupd::start().await;
        let nsqd = Nsqd::start(Some(&lookupd)).await;
        let (listen, ops) = (free_port(), free_port());
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        let env = [
            ("KEEPSTEP_LISTEN", format!("127.0.0.1:{listen}")),
            ("KEEPSTEP_OPS_LISTEN", format!("127.0.0.1:{ops}")),
            ("KEEPSTEP_JWT_SECRET", SECRET.to_owned()),
            ("KEEPSTEP_REDIS_URL", redis.url()),
            ("KEEPSTEP_NSQD", nsqd.http()),
            ("KEEPSTEP_NSQLOOKUPD", lookupd.http()),
            ("KEEPSTEP_USER_BYTES", "1000000000000".to_owned()),
        ]
        .into_iter()
        .chain(LIMITS.map(|name| (name, "1000000".to_owned())))
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<BTreeMap<_, _>>();
        let keepstep =
            Process::new("keepstep", binary(), folder.path().join("keepstep.log")).arg("serve").env(env);
        let api = Api::new(&format!("127.0.0.1:{listen}"), SECRET)?;
        let mut world = Self { keepstep, listen, ops, redis, nsqd, _lookupd: lookupd, _folder: folder, api };
        world.run().await?;
        Ok(world)
    }

    async fn run(&mut self) -> Result<(), String> {
        machine::pin(machine::SERVERS);
        self.keepstep.spawn();
        machine::pin(machine::LOAD);
        let ops = format!("127.0.0.1:{}", self.ops);
        self.keepstep.ready(|| async { matches!(http_get(&ops, "/readyz").await, Ok((200, _))) }).await
    }

    /// Ends the edge and starts it again.
    pub async fn restart(&mut self) -> Result<(), String> {
        self.keepstep.terminate(Duration::from_secs(20)).await;
        self.run().await
    }

    /// Where clients connect.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.listen)
    }

    /// The processes that do the work.
    pub fn servers(&mut self) -> Vec<(&'static str, u32)> {
        vec![
            ("keepstep", self.keepstep.pid()),
            ("redis", self.redis.process().pid()),
            ("nsqd", self.nsqd.process().pid()),
        ]
    }

    /// Commands that Redis has executed, those of scripts included.
    pub async fn redis_commands(&self) -> Result<f64, String> {
        let stats = self.redis.command(&["INFO", "commandstats"]).await.map_err(|error| error.to_string())?;
        let calls = stats
            .lines()
            .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<f64>().ok());
        Ok(calls.sum())
    }

    /// Bytes of memory that Redis uses for its data.
    pub async fn redis_bytes(&self) -> Result<f64, String> {
        let memory = self.redis.command(&["INFO", "memory"]).await.map_err(|error| error.to_string())?;
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
        used.ok_or_else(|| "Redis doesn't say how much memory it uses".to_owned())
    }

    /// Memory of a server in KiB.
    pub fn memory_of(&mut self, server: &str) -> f64 {
        let found = self.servers().into_iter().find(|(name, _)| *name == server);
        found.and_then(|(_, pid)| machine::rss_kib(pid)).unwrap_or(f64::NAN)
    }

    /// Connections to nsqd's TCP port.
    pub fn nsq_connections(&self) -> usize {
        let port = self.nsqd.tcp().rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.map_or(0, machine::connections)
    }

    /// The share of deliveries that came through NSQ, of those since its start.
    pub async fn put_source(&self, figures: &mut Figures) {
        let Ok((200, text)) = http_get(&format!("127.0.0.1:{}", self.ops), "/metrics").await else { return };
        let sample = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            value.unwrap_or(0.0)
        };
        let nsq = sample("keepstep_deliveries_total{source=\"nsq\"}");
        let log = sample("keepstep_deliveries_total{source=\"log\"}");
        figures.insert("through_nsq".to_owned(), nsq / (nsq + log));
    }
}

/// The program under test: another one than ours, to compare the two.
pub fn binary() -> PathBuf {
    std::env::var_os("KEEPSTEP_BENCH_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_keepstep")), PathBuf::from)
}

/// A direct chat and the devices of its two users.
pub struct Room {
    chat: String,
    devices: Vec<Device>,
}

/// Registers the users, devices and chats of a scene.
pub async fn rooms(api: &Api, chats: usize, devices: usize) -> Result<Vec<Room>, String> {
    let room = |n: usize| async move {
        let mut registered = Vec::with_capacity(devices);
        for of in 0..devices {
            let user = format!("user-{n}-{}", of / PER_USER % 2);
            // The first of each four is the main; more than eight devices would need more users.
            registered.push(api.register(&user, of % PER_USER == 0).await?);
        }
        let other = if devices > PER_USER { format!("user-{n}-1") } else { format!("nobody-{n}") };
        let chat = api.direct_chat(&format!("user-{n}-0"), &other).await?;
        Ok::<_, String>(Room { chat, devices: registered })
    };
    stream::iter((0..chats).map(room)).buffered(AT_ONCE).try_collect().await
}

/// Connects every device of a scene: first the mains, without which no sub is let in.
pub async fn connect(addr: &str, rooms: &[Room], tally: &Arc<Tally>) -> Result<Vec<Vec<Member>>, String> {
    let mut members: Vec<Vec<Option<Member>>> =
        rooms.iter().map(|room| room.devices.iter().map(|_| None).collect()).collect();
    for main in [true, false] {
        let wanted = rooms.iter().enumerate().flat_map(|(n, room)| {
            room.devices
                .iter()
                .enumerate()
                .filter(|(_, device)| device.main == main)
                .map(move |(of, device)| (n, of, room, device))
        });
        let opening = wanted.map(|(n, of, room, device)| async move {
            let socket = client::open(addr, &device.token).await?;
            Ok::<_, String>((n, of, Member::start(socket, device, &room.chat, tally)))
        });
        let opened: Vec<_> = stream::iter(opening).buffer_unordered(CONNECTING).try_collect().await?;
        let count = opened.len() as u64;
        for (n, of, member) in opened {
            members[n][of] = Some(member);
        }
        let already = if main { 0 } else { tally.ready.load(Ordering::Relaxed) };
        work::all_ready(tally, already.max(count), Duration::from_secs(60)).await?;
    }
    let all = rooms.iter().map(|room| room.devices.len() as u64).sum();
    work::all_ready(tally, all, Duration::from_secs(60)).await?;
    Ok(members.into_iter().map(|room| room.into_iter().flatten().collect()).collect())
}

struct Fan {
    members: Vec<Vec<Member>>,
    tally: Arc<Tally>,
    servers: Vec<(&'static str, u32)>,
}

impl Rig for Fan {
    async fn send(&self, _sender: usize, chat: usize) -> Result<(), String> {
        self.members[chat][0].send(content()).await
    }
    fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
    fn servers(&self) -> Vec<(&'static str, u32)> {
        self.servers.clone()
    }
}

impl Fan {
    async fn start(world: &mut World, size: Size) -> Result<Self, String> {
        let rooms = rooms(&world.api, size.chats, size.devices).await?;
        let tally = Tally::new();
        let members = connect(&world.addr(), &rooms, &tally).await?;
        // The welcome is there before every queue is subscribed to.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Self { members, tally, servers: world.servers() })
    }

    async fn settle(&self) -> Result<(), String> {
        let all = self.members.iter().flatten();
        stream::iter(all).map(Member::ack_now).buffer_unordered(CONNECTING).try_collect::<()>().await
    }
}

/// See [`work::throughput`].
pub async fn throughput(aof: Aof, size: Size) -> Result<Figures, String> {
    let mut world = World::start(aof).await?;
    let fan = Fan::start(&mut world, size).await?;
    announce(&mut world);
    let mut figures = work::throughput(&fan, size).await?;
    fan.settle().await?;
    world.put_source(&mut figures).await;
    Ok(figures)
}

/// See [`work::latency`].
pub async fn latency(aof: Aof, size: Size, per_second: f64) -> Result<Figures, String> {
    let mut world = World::start(aof).await?;
    let fan = Fan::start(&mut world, size).await?;
    announce(&mut world);
    let mut figures = work::latency(&fan, size, per_second).await?;
    fan.settle().await?;
    world.put_source(&mut figures).await;
    Ok(figures)
}

/// For whoever wants to look at a process meanwhile (`perf record -p`).
fn announce(world: &mut World) {
    if std::env::var_os("KEEPSTEP_BENCH_PIDS").is_some() {
        for (name, pid) in world.servers() {
            eprintln!("pid {name} {pid}");
        }
    }
}

/// Memory per idle device: that of a fresh edge, with all devices connected minus with none.
pub async fn idle(size: Size, devices: usize) -> Result<Figures, String> {
    let mut world = World::start(Aof::Always).await?;
    let rooms = rooms(&world.api, devices / size.devices, size.devices).await?;
    world.restart().await?;
    announce(&mut world);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = work::memory(world.servers());
    let tally = Tally::new();
    let began = Instant::now();
    let members = connect(&world.addr(), &rooms, &tally).await?;
    let seconds = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = work::memory(world.servers());
    let mut figures = Figures::new();
    figures.insert("connect_s".to_owned(), seconds);
    work::put_growth(&mut figures, &before, &after, devices);
    work::put_idle_costs(&mut figures, world.servers(), size.seconds).await;
    tally.check()?;
    drop(members);
    Ok(figures)
}

/// A device comes back to a long queue.
pub async fn drain(count: usize) -> Result<Figures, String> {
    let mut world = World::start(Aof::Always).await?;
    let api = &world.api;
    let device = api.register("reader", true).await?;
    let chat = api.direct_chat("writer", "reader").await?;
    let chat = chat.as_str();
    let sends = (0..count).map(|_| async move { api.send("writer", chat, &content()).await });
    stream::iter(sends).buffer_unordered(32).try_collect::<()>().await?;
    let topic = format!("c.{}", chat.replace('-', ""));
    let nsqd = &world.nsqd;
    let queued = || async {
        let stats = nsqd.stats(Some(&topic)).await;
        (stats["topics"][0]["channels"][0]["depth"] == count).then_some(())
    };
    wait_until("all messages to be queued", Duration::from_secs(60), queued).await;
    announce(&mut world);
    let before = work::memory(world.servers());
    let cpu = |pid| machine::cpu_seconds(pid).unwrap_or(f64::NAN);
    let costs: Vec<f64> = before.iter().map(|(_, pid, _)| cpu(*pid)).collect();

    let tally = Tally::new();
    let began = Instant::now();
    let socket = client::open(&world.addr(), &device.token).await?;
    let member = Member::start(socket, &device, chat, &tally);
    while tally.acked() < count as u64 {
        tally.check()?;
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("only {} of {count} have come after a minute", tally.acked()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    member.ack_now().await?;
    let seconds = began.elapsed().as_secs_f64();
    let mut figures = Figures::new();
    figures.insert("seconds".to_owned(), seconds);
    for ((name, pid, _), before) in before.iter().zip(costs) {
        figures.insert(format!("cpu_{name}"), (cpu(*pid) - before) / seconds);
    }
    world.put_source(&mut figures).await;
    Ok(figures)
}
