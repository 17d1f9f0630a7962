//! Plain nsqd: the same fan-out with the project's NSQ client alone. A chat is a topic, a device a channel, a message is
//! accepted when nsqd says OK and acknowledged by FIN. No order, no log, no store: what Keepstep adds is the difference.

#![allow(clippy::disallowed_types, reason = "this measures the NSQ client itself")]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use keepstep_nsq::{ConnectOptions, Event, NsqdAdmin, Publisher, Reattach, SubscribeOptions, Subscription};
use tokio::sync::mpsc;

use crate::{
    machine,
    support::{Nsqd, wait_until},
    tally::{Figures, Tally, body, stamp},
    work::{self, Rig, Size},
};

struct Notice(Event);

impl From<(usize, Event)> for Notice {
    fn from((_, event): (usize, Event)) -> Self {
        Self(event)
    }
}

async fn start() -> Nsqd {
    machine::pin(machine::SERVERS);
    let nsqd = Nsqd::start(None).await;
    machine::pin(machine::LOAD);
    nsqd
}

fn topic(chat: usize) -> String {
    format!("c.{chat:032x}")
}

fn channel(device: usize) -> String {
    format!("d.{device:032x}")
}

async fn create(nsqd: &Nsqd, chats: usize, devices: usize) -> Result<(), String> {
    let admin = &NsqdAdmin::new(&nsqd.http());
    let create = |chat: usize| async move {
        admin.create_topic(&topic(chat)).await?;
        for device in 0..devices {
            admin.create_channel(&topic(chat), &channel(device)).await?;
        }
        Ok::<_, keepstep_nsq::AdminError>(())
    };
    let all = stream::iter((0..chats).map(create)).buffer_unordered(8).try_collect::<()>();
    all.await.map_err(|error| error.to_string())
}

fn subscribe(nsqd: &Nsqd, chat: usize, device: usize, events: &mpsc::Sender<Notice>, connect: &Arc<ConnectOptions>) -> Subscription {
    let options = SubscribeOptions {
        reattach: Reattach::Always,
        connect: connect.clone(),
        ..SubscribeOptions::new(nsqd.tcp(), topic(chat), channel(device))
    };
    Subscription::open(options, 0usize, events.clone())
}

/// Counts and finishes everything that comes.
async fn consume(mut events: mpsc::Receiver<Notice>, tally: Arc<Tally>) {
    while let Some(Notice(event)) = events.recv().await {
        match event {
            Event::Attached => {
                tally.ready.fetch_add(1, Ordering::Relaxed);
            }
            Event::Message(message) => {
                if tally.timed.load(Ordering::Relaxed) {
                    tally.time(stamp(&message.body));
                }
                tally.received.fetch_add(1, Ordering::Relaxed);
                message.finish();
                tally.acked.fetch_add(1, Ordering::Relaxed);
            }
            Event::Detached { error, .. } => tally.fail(format!("a consumer was detached: {error}")),
            Event::ChannelGone => tally.fail("a channel is gone".to_owned()),
        }
    }
}

struct Fan {
    publisher: Publisher,
    _consumers: Vec<Subscription>,
    tally: Arc<Tally>,
    servers: Vec<(&'static str, u32)>,
}

impl Rig for Fan {
    async fn send(&self, _sender: usize, chat: usize) -> Result<(), String> {
        self.publisher.publish(&topic(chat), Bytes::from(body())).await.map_err(|error| error.to_string())
    }
    fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
    fn servers(&self) -> Vec<(&'static str, u32)> {
        self.servers.clone()
    }
}

async fn consumers(nsqd: &Nsqd, chats: usize, devices: usize) -> Result<(Vec<Subscription>, Arc<Tally>), String> {
    let tally = Tally::new();
    let connect = Arc::new(ConnectOptions::default());
    let (events, taken) = mpsc::channel(4096);
    tokio::spawn(consume(taken, tally.clone()));
    let mut all = Vec::with_capacity(chats * devices);
    for chat in 0..chats {
        all.extend((0..devices).map(|device| subscribe(nsqd, chat, device, &events, &connect)));
        // Not all in the same instant: nsqd's backlog of connections isn't what is measured.
        work::all_ready(&tally, (all.len() as u64).saturating_sub(64), Duration::from_secs(60)).await?;
    }
    work::all_ready(&tally, all.len() as u64, Duration::from_secs(60)).await?;
    Ok((all, tally))
}

impl Fan {
    async fn start(nsqd: &mut Nsqd, size: Size) -> Result<Self, String> {
        create(nsqd, size.chats, size.devices).await?;
        let (consumers, tally) = consumers(nsqd, size.chats, size.devices).await?;
        let publisher = Publisher::new(nsqd.tcp(), ConnectOptions::default());
        Ok(Self { publisher, _consumers: consumers, tally, servers: vec![("nsqd", nsqd.process().pid())] })
    }
}

/// See [`work::throughput`].
pub async fn throughput(size: Size) -> Result<Figures, String> {
    let mut nsqd = start().await;
    let fan = Fan::start(&mut nsqd, size).await?;
    work::throughput(&fan, size).await
}

/// See [`work::latency`].
pub async fn latency(size: Size, per_second: f64) -> Result<Figures, String> {
    let mut nsqd = start().await;
    let fan = Fan::start(&mut nsqd, size).await?;
    work::latency(&fan, size, per_second).await
}

/// Memory that an idle consumer costs nsqd.
pub async fn idle(size: Size, devices: usize) -> Result<Figures, String> {
    let mut nsqd = start().await;
    create(&nsqd, devices / size.devices, size.devices).await?;
    let servers = vec![("nsqd", nsqd.process().pid())];
    let before = work::memory(servers.clone());
    let (consumers, tally) = consumers(&nsqd, devices / size.devices, size.devices).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut figures = Figures::new();
    work::put_growth(&mut figures, &before, &work::memory(servers.clone()), devices);
    work::put_idle_costs(&mut figures, servers, size.seconds).await;
    tally.check()?;
    drop(consumers);
    Ok(figures)
}

/// A consumer comes back to a long queue.
pub async fn drain(count: usize) -> Result<Figures, String> {
    let nsqd = start().await;
    create(&nsqd, 1, 1).await?;
    let publisher = Publisher::new(nsqd.tcp(), ConnectOptions::default());
    let publish = |_| {
        let publisher = &publisher;
        async move { publisher.publish(&topic(0), Bytes::from(body())).await.map_err(|error| error.to_string()) }
    };
    stream::iter((0..count).map(publish)).buffer_unordered(64).try_collect::<()>().await?;
    let depth = |wanted: usize, flying: usize| {
        let nsqd = &nsqd;
        move || async move {
            let stats = nsqd.stats(Some(&topic(0))).await;
            let channel = &stats["topics"][0]["channels"][0];
            (channel["depth"] == wanted && channel["in_flight_count"] == flying).then_some(())
        }
    };
    wait_until("all messages to be queued", Duration::from_secs(60), depth(count, 0)).await;
    let tally = Tally::new();
    let (events, taken) = mpsc::channel(256);
    tokio::spawn(consume(taken, tally.clone()));
    let began = Instant::now();
    let consumer = subscribe(&nsqd, 0, 0, &events, &Arc::default());
    while tally.acked() < count as u64 {
        tally.check()?;
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("only {} of {count} have come after a minute", tally.acked()));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    wait_until("the queue to be empty", Duration::from_secs(10), depth(0, 0)).await;
    consumer.close().await;
    Ok(Figures::from([("seconds".to_owned(), seconds)]))
}
