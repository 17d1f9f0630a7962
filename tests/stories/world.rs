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

/// The kinds of deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// One process in memory.
    Embedded,
    /// Two edges on one Redis, two nsqd and an nsqlookupd.
    Stack,
}

/// A deployment with a story's own settings.
#[derive(Clone, Debug)]
pub struct Setup {
    deployment: Deployment,
    settings: Vec<(String, String)>,
    disks: Option<u32>,
    nsqd: Vec<String>,
    redis: RedisOptions,
}

impl Deployment {
    /// Starts it with default settings.
    pub async fn start(self) -> World {
        self.setup().start().await
    }

    /// Returns it with one setting, which all edges get.
    pub fn with(self, name: &str, value: &str) -> Setup {
        self.setup().with(name, value)
    }

    /// Returns its settings, to be changed before it starts.
    pub fn setup(self) -> Setup {
        let (settings, nsqd, redis) = (Vec::new(), Vec::new(), RedisOptions::default());
        Setup { deployment: self, settings, disks: None, nsqd, redis }
    }
}

impl Setup {
    /// Adds a setting.
    pub fn with(mut self, name: &str, value: &str) -> Setup {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives each nsqd a file system of its own, of this many MiB.
    pub fn on_small_disks(mut self, mebibytes: u32) -> Setup {
        self.disks = Some(mebibytes);
        self
    }

    /// Gives each nsqd one more argument, which wins over its configuration.
    pub fn with_nsqd(mut self, arg: &str) -> Setup {
        self.nsqd.push(arg.to_owned());
        self
    }

    /// Gives Redis its own clock, which the story sets.
    pub fn on_a_clock_of_its_own(mut self) -> Setup {
        self.redis.own_clock = true;
        self
    }

    /// Returns the settings of one more edge, on a stack that runs.
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

/// A running deployment. Dropping it removes all of it.
#[derive(Debug)]
pub struct World {
    /// The edges: one or two.
    pub edges: Vec<Edge>,
    /// The servers below; none in embedded mode.
    pub stack: Option<Stack>,
    run: String,
    _turn: SemaphorePermit<'static>,
}

/// Two users with a direct chat.
#[derive(Debug)]
pub struct Pair {
    /// The first.
    pub alice: User,
    /// The second.
    pub bob: User,
    /// Alice's main.
    pub phone: Device,
    /// Bob's main.
    pub bobs: Device,
    /// Their direct chat.
    pub chat: String,
}

/// A queue as nsqd reports it.
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
    /// Returns a user whom no other story uses.
    pub fn user(&self, name: &str) -> User {
        User::new(&format!("{name}.{}", &self.run[..12]), self.addresses())
    }

    /// Returns Alice and Bob with their phones, on two edges if there are two, and their chat.
    pub async fn pair(&self) -> Pair {
        let (alice, bob) = (self.user("alice"), self.user("bob"));
        let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
        let chat = alice.direct(&bob).await;
        Pair { alice, bob, phone, bobs, chat }
    }

    /// The same, with Bob's phone disconnected before the first message.
    pub async fn pair_of_which_bob_is_away(&self) -> Pair {
        let mut pair = self.pair().await;
        pair.bobs.gets(json!({ "type": "chat", "event": "joined", "chat": pair.chat })).await;
        pair.bobs.leaves().await;
        pair
    }

    /// Returns the clients' address of an edge. Numbers beyond the last edge wrap around.
    pub fn addresses(&self) -> Arc<[String]> {
        self.edges.iter().map(Edge::listen).collect()
    }

    /// Returns the API of an edge, with a token.
    pub fn api(&self, edge: usize, token: &str) -> Api {
        Api::new(&self.edges[edge % self.edges.len()].listen(), token)
    }

    /// Returns the API of the first edge without a token.
    pub fn stranger(&self) -> Api {
        Api { token: None, ..self.api(0, "") }
    }

    /// Returns the API of the first edge with an admin's token.
    pub fn admin(&self) -> Api {
        self.api(0, &admin_token())
    }

    /// Returns status and body of an edge's `/readyz`; nothing if nobody answers.
    pub async fn readiness(&self, edge: usize) -> Option<(u16, String)> {
        http_get(&self.edges[edge].ops(), "/readyz").await.ok()
    }

    /// Returns a metric, summed over all edges.
    pub async fn metric(&self, sample: &str) -> f64 {
        let mut sum = 0.0;
        for edge in &self.edges {
            sum += edge.metric(sample).await;
        }
        sum
    }

    /// Waits until a termination is done, and returns it.
    pub async fn terminated(&self, api: &Api, id: &str) -> Value {
        let path = format!("/v1/terminations/{id}");
        wait_until("a termination to be done", PATIENCE, || async {
            let termination = api.get(&path).await.ok();
            (termination["state"] == "done").then_some(termination)
        })
        .await
    }

    /// Returns the queues of every nsqd whose topic and channel begin like this; none in embedded mode.
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

    /// Returns the queue of a device in a chat, which must exist exactly once.
    pub async fn queue(&self, chat: &str, device: &str) -> Queue {
        let queues = self.queues(&topic(chat), &channel(device)).await;
        assert_eq!(queues.len(), 1, "{queues:?}");
        queues[0].clone()
    }

    /// Waits until a device's queue is empty.
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

    /// Returns how many messages of a chat NSQ hasn't confirmed, according to Redis.
    pub async fn unconfirmed(&self, chat: &str) -> u64 {
        let stack = self.stack.as_ref().expect("only the real stack has an outbox to look into");
        let key = format!("ks:{{c.{}}}:outbox", chat.replace('-', ""));
        stack.redis.command(&["ZCARD", &key]).await.expect("Redis is there").parse().expect("a number")
    }

    /// Returns the channels of a device that any nsqd or nsqlookupd still knows.
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

    /// Checks for this time that no trace of a device reappears. A reconnecting consumer, a ping of nsqd's or the
    /// reconciler might bring one, and no event excludes that.
    pub async fn stays_without_traces(&self, device: &str, long: Duration) {
        stays(long, async || assert_eq!(self.traces(device).await, Vec::<String>::new())).await;
    }
}

/// Returns the NSQ topic of a chat.
pub fn topic(chat: &str) -> String {
    format!("c.{}", chat.replace('-', ""))
}

/// Returns the NSQ channel of a device.
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
