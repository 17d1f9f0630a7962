//! What merely exists, and what happens only now and then: idle pairs of a device and a chat, connecting to many chats,
//! a storm of connections, the first message of a chat that was quiet, registering a device of a user in many chats.

use std::{
    cell::Cell,
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    client::{self, Api, Device, chat_and_seq, next_of, say},
    keepstep::World,
    support::Aof,
    tally::{Figures, content, put_times, quantile},
    work,
};

/// HTTP calls, and connections, at once while a scene is set.
const AT_ONCE: usize = 16;
/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// When queues that were used are idle again (`KEEPSTEP_NSQ_IDLE`, 10 s), with a margin.
const IDLE_AGAIN: Duration = Duration::from_secs(25);

/// How many users, each with a phone, and in how many direct chats each is (an even number).
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Users.
    pub users: usize,
    /// Chats of each.
    pub chats: usize,
}

/// The phones of a crowd, and its chats with the numbers of their two members.
struct Scene {
    phones: Vec<Device>,
    chats: Vec<(String, usize, usize)>,
}

impl Scene {
    async fn set(api: &Api, crowd: Crowd) -> Result<Self, String> {
        let user = |n: usize| format!("user-{}", n % crowd.users);
        let phones = (0..crowd.users).map(|n| async move { api.register(&user(n), true).await });
        let phones = stream::iter(phones).buffered(AT_ONCE).try_collect().await?;
        let pairs =
            (0..crowd.users).flat_map(|n| (1..=crowd.chats / 2).map(move |k| (n, (n + k) % crowd.users)));
        let chats = pairs.map(|(one, other)| async move {
            let chat = api.direct_chat(&user(one), &user(other)).await?;
            Ok::<_, String>((chat, one, other))
        });
        Ok(Self { phones, chats: stream::iter(chats).buffered(AT_ONCE).try_collect().await? })
    }

    /// Connects all phones.
    async fn connects(&self, world: &World) -> Result<Vec<Phone>, String> {
        let addr = &world.addr();
        let opening = self.phones.iter().map(|phone| async move { Phone::connect(addr, phone).await });
        stream::iter(opening).buffered(64).try_collect().await
    }
}

/// A connected phone, which acknowledges what comes and counts it.
struct Phone {
    // The chat and the time of each message, since the last look.
    came: mpsc::UnboundedReceiver<(String, Instant)>,
    task: JoinHandle<Result<(), String>>,
}

impl Phone {
    async fn connect(addr: &str, device: &Device) -> Result<Self, String> {
        let mut socket = client::open(addr, &device.token).await?;
        next_of(&mut socket, "welcome").await?;
        let (coming, came) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut last = HashMap::<String, u64>::new();
            loop {
                let text = next_of(&mut socket, "message").await?;
                let (chat, seq) =
                    chat_and_seq(text.as_bytes()).ok_or_else(|| format!("no message: {text}"))?;
                let before = last.insert(chat.clone(), seq);
                if before.is_some_and(|before| before + 1 != seq) {
                    return Err(format!("{seq} came after {before:?} of {chat}"));
                }
                say(&mut socket, format!("{{\"type\":\"ack\",\"chat\":\"{chat}\",\"seq\":{seq}}}")).await?;
                let _ = coming.send((chat, Instant::now()));
            }
        });
        Ok(Self { came, task })
    }

    /// When a message of this chat came.
    async fn hears(&mut self, chat: &str) -> Result<Instant, String> {
        let heard = async {
            while let Some((of, at)) = self.came.recv().await {
                if of == chat {
                    return Ok(at);
                }
            }
            Err("a phone's socket has ended".to_owned())
        };
        tokio::time::timeout(PATIENCE, heard)
            .await
            .unwrap_or_else(|_| Err("no message within a minute".to_owned()))
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What pairs of a device and a chat cost while nobody speaks, and while one in a hundred does.
pub async fn pairs(crowd: Crowd, seconds: f64) -> Result<Figures, String> {
    let mut world = World::start(Aof::Always).await?;
    let (redis_before, nsqd_before) = (world.redis_bytes().await?, world.memory_of("nsqd"));
    let scene = Scene::set(&world.api, crowd).await?;
    let mut figures = Figures::new();
    let pairs = (crowd.users * crowd.chats) as f64;
    figures.insert("redis_bytes_per_pair".to_owned(), (world.redis_bytes().await? - redis_before) / pairs);
    figures.insert("nsqd_kib_per_pair".to_owned(), (world.memory_of("nsqd") - nsqd_before) / pairs);
    world.restart().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = work::memory(world.servers());
    let began = Instant::now();
    let mut phones = scene.connects(&world).await?;
    figures.insert("connect_s".to_owned(), began.elapsed().as_secs_f64());
    tokio::time::sleep(IDLE_AGAIN).await;
    work::put_growth(&mut figures, &before, &work::memory(world.servers()), crowd.users);
    figures.insert("nsq_connections".to_owned(), world.nsq_connections() as f64);
    let commands = world.redis_commands().await?;
    work::put_idle_costs(&mut figures, world.servers(), seconds).await;
    figures.insert("redis_commands_per_s".to_owned(), (world.redis_commands().await? - commands) / seconds);

    // One pair in a hundred becomes active: half as many chats, as each has two members.
    let active = (scene.chats.len() / 100).max(1);
    for (chat, one, other) in scene.chats.iter().step_by(scene.chats.len() / active).take(active) {
        world.api.send(&format!("user-{one}"), chat, &content()).await?;
        for member in [one, other] {
            phones[*member].hears(chat).await?;
        }
    }
    figures.insert("active_pairs".to_owned(), 2.0 * active as f64);
    figures.insert("nsq_connections_active".to_owned(), world.nsq_connections() as f64);
    world.put_source(&mut figures).await;
    Ok(figures)
}

/// A phone connects to so many chats, again and again, and nothing is new.
pub async fn connect(chats: usize, rounds: usize) -> Result<Figures, String> {
    let world = World::start(Aof::Always).await?;
    let phone = in_chats(&world, chats).await?;
    let addr = world.addr();
    let (mut times, mut bytes) = (Vec::new(), 0);
    let commands = world.redis_commands().await?;
    for _ in 0..rounds {
        let began = Instant::now();
        let mut socket = client::open(&addr, &phone.token).await?;
        bytes = next_of(&mut socket, "welcome").await?.len();
        times.push(began.elapsed().as_secs_f64() * 1e3);
        socket.close().await;
    }
    let mut figures = Figures::new();
    figures.insert("commands".to_owned(), (world.redis_commands().await? - commands) / rounds as f64);
    figures.insert("welcome_bytes".to_owned(), bytes as f64);
    put_times(&mut figures, "welcome", times);
    Ok(figures)
}

/// A user with a phone, in so many chats.
async fn in_chats(world: &World, chats: usize) -> Result<Device, String> {
    let phone = world.api.register("alice", true).await?;
    let made =
        (0..chats).map(|n| async move { world.api.direct_chat("alice", &format!("friend-{n}")).await });
    stream::iter(made).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(phone)
}

/// All phones of a crowd come back at the same moment, while two others talk.
pub async fn storm(crowd: Crowd) -> Result<Figures, String> {
    let mut world = World::start(Aof::Always).await?;
    let scene = Scene::set(&world.api, crowd).await?;
    let (one, other) = (world.api.register("one", true).await?, world.api.register("other", true).await?);
    let talk = world.api.direct_chat("one", "other").await?;
    world.restart().await?;
    let mut listening = Phone::connect(&world.addr(), &other).await?;
    drop(one);
    let mut figures = Figures::new();
    let mut quiet = Vec::new();
    for _ in 0..100 {
        quiet.push(says(&world, &talk, &mut listening).await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    put_times(&mut figures, "quiet", quiet);
    let (addr, ended) = (&world.addr(), Cell::new(false));
    let began = Instant::now();
    let all = scene.phones.iter().map(|phone| async move {
        let phone = Phone::connect(addr, phone).await?;
        Ok::<_, String>((phone, began.elapsed().as_secs_f64()))
    });
    let storming = async {
        let phones = try_join_all(all).await;
        ended.set(true);
        phones
    };
    let talking = async {
        let mut times = Vec::new();
        while !ended.get() {
            times.push(says(&world, &talk, &mut listening).await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(times)
    };
    let (phones, during) = tokio::try_join!(storming, talking)?;
    let times: Vec<f64> = phones.iter().map(|(_, at)| *at).collect();
    figures.insert("all_welcome_s".to_owned(), times.iter().copied().fold(0.0, f64::max));
    put_times(&mut figures, "during", during);
    Ok(figures)
}

/// The time in milliseconds from a send by HTTP to its arrival.
async fn says(world: &World, chat: &str, listening: &mut Phone) -> Result<f64, String> {
    let began = Instant::now();
    world.api.send("one", chat, &content()).await?;
    Ok(listening.hears(chat).await?.duration_since(began).as_secs_f64() * 1e3)
}

/// The first message of chats that were quiet, and the second one, which finds the queue attached.
pub async fn first(chats: usize) -> Result<Figures, String> {
    let world = World::start(Aof::EverySecond).await?;
    let phone = in_chats_of_one(&world, chats).await?;
    let mut listening = Phone::connect(&world.addr(), &phone.0).await?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for chat in &phone.1 {
        for times in [&mut first, &mut second] {
            times.push(says(&world, chat, &mut listening).await?);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let mut figures = Figures::new();
    first.sort_unstable_by(f64::total_cmp);
    second.sort_unstable_by(f64::total_cmp);
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        figures.insert(format!("more_{name}_ms"), quantile(&first, q) - quantile(&second, q));
    }
    put_times(&mut figures, "first", first);
    put_times(&mut figures, "second", second);
    world.put_source(&mut figures).await;
    Ok(figures)
}

/// `one`'s direct chats with users who never come; the phone is `one`'s.
async fn in_chats_of_one(world: &World, chats: usize) -> Result<(Device, Vec<String>), String> {
    let phone = world.api.register("one", true).await?;
    let made = (0..chats).map(|n| async move { world.api.direct_chat("one", &format!("friend-{n}")).await });
    Ok((phone, stream::iter(made).buffered(AT_ONCE).try_collect().await?))
}

/// A user in so many chats registers a web session.
pub async fn register(chats: usize, rounds: usize) -> Result<Figures, String> {
    let world = World::start(Aof::Always).await?;
    in_chats(&world, chats).await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        world.api.register("alice", false).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let mut figures = Figures::new();
    put_times(&mut figures, "register", times);
    Ok(figures)
}
