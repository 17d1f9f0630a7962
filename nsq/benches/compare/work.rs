//! What is measured: each scenario for one client, in this process.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keepstep_nsq::{ConnectOptions, NsqdAdmin, PublishError, Publisher, StatsFilter};
use tokio::sync::mpsc;
use tokio_nsq::{NSQEvent, NSQProducerConfig, NSQTopic};

use crate::clients::{Consumer, their_fast_settings};
use crate::procfs::{cpu_time, resident};
use crate::report::{Metrics, Scenario};

const BODY_BYTES: usize = 100;

/// Publishes that wait for their answer at once.
const PIPELINE: usize = 1000;

/// Messages on their way, or in the owner's hands, in the latency scenarios.
const IN_FLIGHT: usize = 50;

/// A publish on its way.
type Call = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>;

struct Worker {
    client: String,
    tcp: String,
    admin: NsqdAdmin,
    nsqd: u32,
    subscriptions: usize,
    messages: usize,
    idle: Duration,
    latency: Duration,
}

pub async fn run(args: &[String]) -> Metrics {
    let number = |at: usize| args[at].parse::<u64>().expect("a number");
    let scenario = Scenario::ALL.into_iter().find(|s| s.name() == args[0]).expect("a scenario");
    let worker = Worker {
        client: args[1].clone(),
        tcp: args[2].clone(),
        admin: NsqdAdmin::new(&args[3]),
        nsqd: number(4) as u32,
        subscriptions: number(5) as usize,
        messages: number(6) as usize,
        idle: Duration::from_secs(number(7)),
        latency: Duration::from_secs(number(8)),
    };
    match scenario {
        Scenario::Idle => worker.idle().await,
        Scenario::Attach => worker.attach().await,
        Scenario::Publish => worker.publish().await,
        Scenario::ConsumeOne => worker.consume(1).await,
        Scenario::ConsumeMany => worker.consume(100).await,
        Scenario::Closed => worker.closed_loop().await,
        Scenario::Held => worker.held().await,
        Scenario::Fanout => worker.fanout().await,
    }
}

impl Worker {
    fn publisher(&self) -> Publisher {
        Publisher::new(&self.tcp, ConnectOptions::default())
    }

    async fn create(&self, topic: &str, channels: usize) {
        self.admin.create_topic(topic).await.expect("nsqd answers");
        for n in 0..channels {
            self.admin.create_channel(topic, &format!("c{n}")).await.expect("nsqd answers");
        }
    }

    /// Processor time of the client and of nsqd so far.
    fn cpu(&self) -> [Duration; 2] {
        [cpu_time(std::process::id()), cpu_time(self.nsqd)]
    }

    /// Processor time per message since `before`: what a busy machine doesn't change much.
    fn cpu_each(&self, name: &str, before: [Duration; 2], messages: usize) -> Metrics {
        let now = self.cpu();
        let each = |at: usize| (now[at] - before[at]).as_secs_f64() * 1e6 / messages as f64;
        Metrics::from([
            (format!("{name}, client (us each)"), each(0)),
            (format!("{name}, nsqd (us each)"), each(1)),
        ])
    }

    async fn sum(&self, of: impl Fn(&keepstep_nsq::ChannelStats) -> u64) -> u64 {
        let topics = self.admin.stats(StatsFilter::default()).await.expect("nsqd answers");
        topics.iter().flat_map(|t| &t.channels).map(of).sum()
    }

    /// Nothing happens on many connections: what do they cost?
    async fn idle(&self) -> Metrics {
        let me = std::process::id();
        // The first one pays for what all share.
        let mut consumers = vec![Consumer::open(&self.client, &self.tcp, "t0#ephemeral", "first#ephemeral")];
        let clients = async || self.sum(|c| c.client_count).await as usize;
        while clients().await < 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (memory, nsqd_memory) = (resident(me), resident(self.nsqd));
        for n in 0..self.subscriptions {
            let (topic, channel) = (format!("t{}#ephemeral", n % 50), format!("c{n}#ephemeral"));
            consumers.push(Consumer::open(&self.client, &self.tcp, &topic, &channel));
            if n % 200 == 199 {
                while clients().await < n + 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        while clients().await < self.subscriptions + 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (mine, theirs, began) = (cpu_time(me), cpu_time(self.nsqd), Instant::now());
        tokio::time::sleep(self.idle).await;
        let seconds = began.elapsed().as_secs_f64();
        let share = |before: Duration, pid: u32| (cpu_time(pid) - before).as_secs_f64() / seconds * 100.0;
        let each = |before: u64, pid: u32| {
            resident(pid).saturating_sub(before) as f64 / self.subscriptions as f64 / 1024.0
        };
        Metrics::from([
            ("idle cpu, client (% of a core)".into(), share(mine, me)),
            ("idle cpu, nsqd (% of a core)".into(), share(theirs, self.nsqd)),
            ("memory per subscription, client (KiB)".into(), each(memory, me)),
            ("memory per subscription, nsqd (KiB)".into(), each(nsqd_memory, self.nsqd)),
        ])
    }

    /// From opening to the message that waits.
    async fn attach(&self) -> Metrics {
        const TIMES: usize = 21;
        self.create("t", TIMES).await;
        self.publisher().publish("t", Bytes::from_static(b"x")).await.expect("published");
        while self.sum(|c| c.message_count).await < TIMES as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut times = Vec::new();
        for n in 0..TIMES {
            let began = Instant::now();
            let mut consumer = Consumer::open(&self.client, &self.tcp, "t", &format!("c{n}"));
            let message = consumer.next().await;
            times.push(began.elapsed());
            message.finish().await;
            consumer.close().await;
        }
        Metrics::from([("attach to first message, p50 (ms)".into(), percentile(&mut times, 50.0))])
    }

    async fn publish(&self) -> Metrics {
        let body = vec![b'x'; BODY_BYTES];
        let (began, cpu);
        if self.client == "tokio-nsq" {
            let topic = NSQTopic::new("t").expect("a valid name");
            let mut producer = NSQProducerConfig::new(&*self.tcp).set_shared(their_fast_settings()).build();
            assert!(matches!(producer.consume().await, Some(NSQEvent::Healthy())));
            (began, cpu) = (Instant::now(), self.cpu());
            for n in 0..self.messages + PIPELINE {
                if n >= PIPELINE {
                    assert!(matches!(producer.consume().await, Some(NSQEvent::Ok())));
                }
                if n < self.messages {
                    producer.publish(&topic, body.clone()).await.expect("it is connected");
                }
            }
        } else {
            let publisher = self.publisher();
            publisher.publish("t", Bytes::from_static(b"first")).await.expect("published");
            (began, cpu) = (Instant::now(), self.cpu());
            let mut waiting: VecDeque<Call> = VecDeque::new();
            for n in 0..self.messages + PIPELINE {
                if (n >= self.messages || waiting.len() >= PIPELINE)
                    && let Some(oldest) = waiting.pop_front()
                {
                    oldest.await.expect("published");
                }
                if n < self.messages {
                    let (publisher, body) = (publisher.clone(), Bytes::from(body.clone()));
                    let mut call: Call = Box::pin(async move { publisher.publish("t", body).await });
                    // The first poll puts it into the pipeline. On a busy machine it may find the answer, too.
                    match std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                        Poll::Pending => waiting.push_back(call),
                        Poll::Ready(result) => result.expect("published"),
                    }
                }
            }
        }
        let rate = self.messages as f64 / began.elapsed().as_secs_f64();
        let name = "publish, 1,000 at once";
        let mut metrics = Metrics::from([(format!("{name} (messages/s)"), rate)]);
        metrics.extend(self.cpu_each(name, cpu, self.messages));
        metrics
    }

    /// A backlog in nsqd's memory, on each of so many channels.
    async fn consume(&self, connections: usize) -> Metrics {
        self.create("t", connections).await;
        let each = (self.messages * if connections > 1 { 2 } else { 1 }) / connections;
        let publisher = self.publisher();
        let batch = vec![Bytes::from(vec![b'x'; BODY_BYTES]); 1000.min(each)];
        for _ in 0..each / batch.len() {
            publisher.publish_many("t", &batch).await.expect("published");
        }
        let each = each / batch.len() * batch.len();
        let total = each * connections;
        while (self.sum(|c| c.message_count).await as usize) < total {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cpu = self.cpu();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..connections {
            let (client, tcp) = (self.client.clone(), self.tcp.clone());
            tasks.spawn(async move {
                let mut consumer = Consumer::open_for(&client, &tcp, "t", &format!("c{n}"), true);
                let mut began = None;
                for _ in 0..each {
                    let message = consumer.next().await;
                    began.get_or_insert_with(Instant::now);
                    message.finish().await;
                }
                (began.expect("a message"), Instant::now())
            });
        }
        let times = tasks.join_all().await;
        let began = times.iter().map(|t| t.0).min().expect("a connection");
        let ended = times.iter().map(|t| t.1).max().expect("a connection");
        let rate = total as f64 / (ended - began).as_secs_f64();
        let name = format!("consume on {connections}");
        let mut metrics = Metrics::from([(format!("{name} (messages/s)"), rate)]);
        metrics.extend(self.cpu_each(&name, cpu, total));
        metrics
    }

    /// So many messages on their way: each one that comes lets the next one go. All clients get them from the same
    /// publisher, so that only the delivery differs.
    async fn closed_loop(&self) -> Metrics {
        self.create("t", 1).await;
        let mut consumer = Consumer::open(&self.client, &self.tcp, "t", "c0");
        let publisher = self.publisher();
        let zero = Instant::now();
        let (go, mut gone) = mpsc::channel::<()>(IN_FLIGHT);
        for _ in 0..IN_FLIGHT {
            go.send(()).await.expect("open");
        }
        tokio::spawn(async move {
            while gone.recv().await.is_some() {
                let publisher = publisher.clone();
                let body = stamped(zero);
                tokio::spawn(async move { publisher.publish("t", body).await.expect("published") });
            }
        });
        let mut times = Vec::new();
        while zero.elapsed() < self.latency {
            let message = consumer.next().await;
            times.push(age(zero, message.body()));
            message.finish().await;
            let _ = go.try_send(());
        }
        let rate = times.len() as f64 / self.latency.as_secs_f64();
        let name = "latency, 50 on their way";
        Metrics::from([
            (format!("{name}, p50 (ms)"), percentile(&mut times, 50.0)),
            (format!("{name}, p99 (ms)"), percentile(&mut times, 99.0)),
            (format!("{name} (messages/s)"), rate),
        ])
    }

    /// 1,000 messages a second to an owner that finishes each when 50 more have come.
    async fn held(&self) -> Metrics {
        self.create("t", 1).await;
        let mut consumer = Consumer::open(&self.client, &self.tcp, "t", "c0");
        let publisher = self.publisher();
        let zero = Instant::now();
        let duration = self.latency;
        let publishing = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            let mut count = 0;
            while zero.elapsed() < duration {
                ticks.tick().await;
                count += 1;
                let publisher = publisher.clone();
                let body = stamped(zero);
                tokio::spawn(async move { publisher.publish("t", body).await.expect("published") });
            }
            count
        });
        let mut times = Vec::new();
        let mut held = VecDeque::new();
        while zero.elapsed() < duration {
            let Ok(message) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await else {
                break;
            };
            times.push(age(zero, message.body()));
            held.push_back(message);
            if held.len() > IN_FLIGHT
                && let Some(oldest) = held.pop_front()
            {
                oldest.finish().await;
            }
        }
        let _count: usize = publishing.await.expect("it ends");
        let name = "latency, 50 unfinished, 1,000/s";
        Metrics::from([
            (format!("{name}, p50 (ms)"), percentile(&mut times, 50.0)),
            (format!("{name}, p99 (ms)"), percentile(&mut times, 99.0)),
        ])
    }
}

impl Worker {
    /// Each message goes to 100 connections, each with a channel of its own: the shape of a chat. Ten at a time.
    async fn fanout(&self) -> Metrics {
        const CONNECTIONS: usize = 100;
        self.create("t", CONNECTIONS).await;
        let (arrived, mut arrivals) = mpsc::channel::<Duration>(10_000);
        let zero = Instant::now();
        for n in 0..CONNECTIONS {
            let mut consumer = Consumer::open(&self.client, &self.tcp, "t", &format!("c{n}"));
            let arrived = arrived.clone();
            tokio::spawn(async move {
                loop {
                    let message = consumer.next().await;
                    let age = age(zero, message.body());
                    message.finish().await;
                    if arrived.send(age).await.is_err() {
                        return;
                    }
                }
            });
        }
        while self.sum(|c| c.client_count).await < CONNECTIONS as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let publisher = self.publisher();
        let publish = || {
            let (publisher, body) = (publisher.clone(), stamped(zero));
            tokio::spawn(async move { publisher.publish("t", body).await.expect("published") });
        };
        let (began, cpu) = (Instant::now(), self.cpu());
        (0..10).for_each(|_| publish());
        let mut times = Vec::new();
        while began.elapsed() < self.latency {
            times.push(arrivals.recv().await.expect("consumers live"));
            if times.len() % CONNECTIONS == 0 {
                publish();
            }
        }
        let rate = times.len() as f64 / began.elapsed().as_secs_f64();
        let mut metrics = Metrics::from([
            ("fan-out to 100 (deliveries/s)".into(), rate),
            ("fan-out to 100, p50 (ms)".into(), percentile(&mut times, 50.0)),
            ("fan-out to 100, p99 (ms)".into(), percentile(&mut times, 99.0)),
        ]);
        metrics.extend(self.cpu_each("fan-out to 100", cpu, times.len()));
        metrics
    }
}

/// A body that says when it was made.
fn stamped(zero: Instant) -> Bytes {
    let mut body = vec![b'x'; BODY_BYTES];
    body[..8].copy_from_slice(&(zero.elapsed().as_nanos() as u64).to_be_bytes());
    body.into()
}

fn age(zero: Instant, body: &[u8]) -> Duration {
    let made = body.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    zero.elapsed().saturating_sub(Duration::from_nanos(made))
}

/// In milliseconds.
fn percentile(times: &mut [Duration], percent: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 * percent / 100.0) as usize).min(times.len() - 1);
    times[at].as_secs_f64() * 1000.0
}
