//! A running deployment, and a view of its internals.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::client::{Api, PATIENCE, admin_token};
use super::device::Device;
use super::user::User;
use crate::support::{
    Edge, EdgeConfig, RedisOptions, SmallDisk, Stack, http_ask, http_get, stays, wait_until,
};

/// How Keepstep is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// One process, nothing installed.
    Embedded,
    /// Two edges on one Redis, two nsqd and an nsqlookupd.
    Stack,
}

/// A deployment with settings of a story's own.
#[derive(Clone, Debug)]
pub struct Setup {
    deployment: Deployment,
    settings: Vec<(String, String)>,
    disks: Option<u32>,
    nsqd: Vec<String>,
    redis: RedisOptions,
}

impl Deployment {
    /// As it comes.
    pub async fn start(self) -> World {
        self.setup().start().await
    }

    /// With a setting, which all edges get.
    pub fn with(self, name: &str, value: &str) -> Setup {
        self.setup().with(name, value)
    }

    /// To be changed before it starts.
    pub fn setup(self) -> Setup {
        let (settings, nsqd, redis) = (Vec::new(), Vec::new(), RedisOptions::default());
        Setup { deployment: self, settings, disks: None, nsqd, redis }
    }
}

impl Setup {
    /// With one more.
    pub fn with(mut self, name: &str, value: &str) -> Setup {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Each nsqd on a file system of its own, of so many MiB.
    pub fn on_small_disks(mut self, mebibytes: u32) -> Setup {
        self.disks = Some(mebibytes);
        self
    }

    /// Each nsqd with one more argument, which wins over its configuration.
    pub fn with_nsqd(mut self, arg: &str) -> Setup {
        self.nsqd.push(arg.to_owned());
        self
    }

    /// Redis has a clock of its own, which the story sets.
    pub fn on_a_clock_of_its_own(mut self) -> Setup {
        self.redis.own_clock = true;
        self
    }

    /// The settings of one more edge of it, on a stack that runs.
    pub fn edge(&self, stack: &Stack) -> EdgeConfig {
        self.settings.iter().fold(stack.edge(), |config, (name, value)| config.set(name, value))
    }

    /// Starts it, and waits until every edge is ready.
    pub async fn start(self) -> World {
        static WORLDS: Semaphore = Semaphore::const_new(4);
        let turn = WORLDS.acquire().await.expect("never closed");
        let (count, stack) = match self.deployment {
            Deployment::Embedded => (1, None),
            Deployment::Stack => {
                let disks = self.disks.map(|size| (0..2).map(|_| SmallDisk::mount(size)).collect());
                let disks = disks.unwrap_or_default();
                (2, Some(Stack::start_with(disks, self.redis.clone(), &self.nsqd).await))
            }
        };
        let mut edges = Vec::new();
        for _ in 0..count {
            let config = stack.as_ref().map_or_else(EdgeConfig::embedded, Stack::edge);
            let config = self.settings.iter().fold(config, |config, (name, value)| config.set(name, value));
            let edge = Edge::start(config).await;
            edge.ready().await;
            edges.push(edge);
        }
        World { edges, stack, run: uuid::Uuid::new_v4().simple().to_string(), _turn: turn }
    }
}

/// A deployment that runs. Dropped, all of it is gone.
#[derive(Debug)]
pub struct World {
    /// The edges: one, or two.
    pub edges: Vec<Edge>,
    /// What they stand on; none for the embedded server.
    pub stack: Option<Stack>,
    run: String,
    _turn: SemaphorePermit<'static>,
}

/// Two who talk to each other.
#[derive(Debug)]
pub struct Pair {
    /// One of them.
    pub alice: User,
    /// The other.
    pub bob: User,
    /// Alice's main.
    pub phone: Device,
    /// Bob's main.
    pub bobs: Device,
    /// Their direct chat.
    pub chat: String,
}

/// A queue as nsqd shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// NSQ topic.
    pub topic: String,
    /// NSQ channel.
    pub channel: String,
    /// Waiting messages.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Attached consumers.
    pub consumers: usize,
}

impl World {
    /// Somebody whom no other story knows.
    pub fn user(&self, name: &str) -> User {
        User::new(&format!("{name}.{}", &self.run[..12]), self.addresses())
    }

    /// Alice and Bob with their phones, on two edges if there are two, and their chat.
    pub async fn pair(&self) -> Pair {
        let (alice, bob) = (self.user("alice"), self.user("bob"));
        let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
        let chat = alice.direct(&bob).await;
        Pair { alice, bob, phone, bobs, chat }
    }

    /// The same, and Bob's phone has gone before anybody spoke.
    pub async fn pair_of_which_bob_is_away(&self) -> Pair {
        let mut pair = self.pair().await;
        pair.bobs.gets(json!({ "type": "chat", "event": "joined", "chat": pair.chat })).await;
        pair.bobs.leaves().await;
        pair
    }

    /// Where clients connect, edge by edge. A story may name more edges than there are: they are counted around.
    pub fn addresses(&self) -> Arc<[String]> {
        self.edges.iter().map(Edge::listen).collect()
    }

    /// The API of an edge, with a token.
    pub fn api(&self, edge: usize, token: &str) -> Api {
        Api::new(&self.edges[edge % self.edges.len()].listen(), token)
    }

    /// The API of the first edge without a token.
    pub fn stranger(&self) -> Api {
        Api { token: None, ..self.api(0, "") }
    }

    /// The API of the first edge with an admin's token.
    pub fn admin(&self) -> Api {
        self.api(0, &admin_token())
    }

    /// The status of `/readyz` of an edge, and what it says; nothing when nobody answers.
    pub async fn readiness(&self, edge: usize) -> Option<(u16, String)> {
        http_get(&self.edges[edge].ops(), "/readyz").await.ok()
    }

    /// A metric, over all edges.
    pub async fn metric(&self, sample: &str) -> f64 {
        let mut sum = 0.0;
        for edge in &self.edges {
            sum += edge.metric(sample).await;
        }
        sum
    }

    /// Waits until a termination is done; returns how it is then.
    pub async fn terminated(&self, api: &Api, id: &str) -> Value {
        let path = format!("/v1/terminations/{id}");
        wait_until("a termination to be done", PATIENCE, || async {
            let termination = api.get(&path).await.ok();
            (termination["state"] == "done").then_some(termination)
        })
        .await
    }

    /// All queues of every nsqd whose topic and channel begin like this; none for the embedded server.
    pub async fn queues(&self, topic: &str, channel: &str) -> Vec<Queue> {
        let mut found = Vec::new();
        for nsqd in self.stack.iter().flat_map(|stack| &stack.nsqd) {
            let stats = nsqd.stats(None).await;
            for one in stats["topics"].as_array().into_iter().flatten() {
                let name = one["topic_name"].as_str().unwrap_or_default();
                if name.starts_with(topic) {
                    let channels = one["channels"].as_array().into_iter().flatten();
                    found.extend(
                        channels.map(|each| queue(name, each)).filter(|q| q.channel.starts_with(channel)),
                    );
                }
            }
        }
        found
    }

    /// The queue of a device in a chat, which must be there, and once.
    pub async fn queue(&self, chat: &str, device: &str) -> Queue {
        let queues = self.queues(&topic(chat), &channel(device)).await;
        assert_eq!(queues.len(), 1, "{queues:?}");
        queues[0].clone()
    }

    /// Waits until nothing is left in the queue of a device.
    pub async fn is_drained(&self, chat: &str, device: &Device) {
        wait_until("a drained queue", PATIENCE, || async {
            let queue = self.queue(chat, &device.id).await;
            (queue.depth + queue.in_flight == 0).then_some(())
        })
        .await;
    }

    /// Waits, at most for `limit`, until NSQ has confirmed all messages of a chat.
    pub async fn is_confirmed(&self, chat: &str, limit: Duration) {
        wait_until("an empty outbox", limit, || async { (self.unconfirmed(chat).await == 0).then_some(()) })
            .await;
    }

    /// How many messages of a chat NSQ hasn't confirmed, as Redis knows it.
    pub async fn unconfirmed(&self, chat: &str) -> u64 {
        let stack = self.stack.as_ref().expect("only the real stack has an outbox to look into");
        let key = format!("ks:{{c.{}}}:outbox", chat.replace('-', ""));
        stack.redis.command(&["ZCARD", &key]).await.expect("Redis is there").parse().expect("a number")
    }

    /// Channels of a device that any nsqd or nsqlookupd still knows.
    pub async fn traces(&self, device: &str) -> Vec<String> {
        let channel = channel(device);
        let queues = self.queues("", &channel).await;
        let mut traces: Vec<String> =
            queues.into_iter().map(|q| format!("nsqd {}/{}", q.topic, q.channel)).collect();
        let Some(stack) = &self.stack else { return traces };
        let lookupd = stack.lookupd.http();
        for topic in names(&lookupd, "/topics", "topics").await {
            if names(&lookupd, &format!("/channels?topic={topic}"), "channels").await.contains(&channel) {
                traces.push(format!("nsqlookupd {topic}/{channel}"));
            }
        }
        traces
    }

    /// Looks again and again for so long: the traces of a device stay away. A consumer that comes back, a ping of nsqd's or the
    /// reconciler might bring one, and no event says that none of them will.
    pub async fn stays_without_traces(&self, device: &str, long: Duration) {
        stays(long, async || assert_eq!(self.traces(device).await, Vec::<String>::new())).await;
    }
}

/// The NSQ topic of a chat.
pub fn topic(chat: &str) -> String {
    format!("c.{}", chat.replace('-', ""))
}

/// The NSQ channel of a device.
pub fn channel(device: &str) -> String {
    format!("d.{}", device.replace('-', ""))
}

fn queue(topic: &str, channel: &Value) -> Queue {
    let number = |name: &str| channel[name].as_u64().unwrap_or_default();
    Queue {
        topic: topic.to_owned(),
        channel: channel["channel_name"].as_str().unwrap_or_default().to_owned(),
        depth: number("depth"),
        in_flight: number("in_flight_count"),
        consumers: channel["clients"].as_array().map_or(0, Vec::len),
    }
}

async fn names(lookupd: &str, path: &str, list: &str) -> Vec<String> {
    let (status, body) = http_ask(lookupd, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    let body: Value = serde_json::from_str(&body).expect("nsqlookupd answers JSON");
    let names = body[list].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
