//! The two clients behind one face: a consumer that gives bodies, and finishes what it is told to.

use std::time::Duration;

use keepstep_nsq::{Delivery, Event, Message, SubscribeOptions, Subscription};
use tokio::sync::mpsc;
use tokio_nsq::{
    NSQChannel, NSQConfigShared, NSQConsumer, NSQConsumerConfig, NSQConsumerConfigSources, NSQMessage,
    NSQTopic,
};

/// The same for both: ours has it as its default.
const MAX_IN_FLIGHT: u32 = 256;

/// tokio-nsq writes at intervals, so its throughput is bounded by what is in flight per interval. Where throughput is
/// measured it gets settings that suit it, at which thousands of idle consumers would use more than a core.
const THEIR_IN_FLIGHT: u32 = 2500;
const THEIR_INTERVAL: Duration = Duration::from_millis(1);

/// tokio-nsq's settings where throughput is measured.
pub fn their_fast_settings() -> NSQConfigShared {
    NSQConfigShared::new().set_flush_interval(THEIR_INTERVAL)
}

pub enum Consumer {
    Ours(Subscription, mpsc::Receiver<((), Event)>),
    Theirs(Box<NSQConsumer>),
}

pub enum Received {
    Ours(Message),
    Theirs(NSQMessage),
}

impl Received {
    pub fn body(&self) -> &[u8] {
        match self {
            Self::Ours(message) => &message.body,
            Self::Theirs(message) => &message.body,
        }
    }

    pub async fn finish(self) {
        match self {
            Self::Ours(message) => message.finish(),
            Self::Theirs(message) => message.finish().await,
        }
    }
}

impl Consumer {
    /// `client`: `ours`, `unbuffered` (ours, without nsqd's output buffer) or `tokio-nsq`.
    pub fn open(client: &str, tcp: &str, topic: &str, channel: &str) -> Self {
        Self::open_for(client, tcp, topic, channel, false)
    }

    /// `fast`: with settings for throughput.
    pub fn open_for(client: &str, tcp: &str, topic: &str, channel: &str, fast: bool) -> Self {
        if client == "tokio-nsq" {
            let topic = NSQTopic::new(topic).expect("a valid name");
            let channel = NSQChannel::new(channel).expect("a valid name");
            let sources = NSQConsumerConfigSources::Daemons(vec![tcp.to_owned()]);
            let mut config = NSQConsumerConfig::new(topic, channel).set_max_in_flight(MAX_IN_FLIGHT);
            if fast {
                config = config.set_max_in_flight(THEIR_IN_FLIGHT).set_shared(their_fast_settings());
            }
            return Self::Theirs(Box::new(config.set_sources(sources).build()));
        }
        let delivery = if client == "unbuffered" { Delivery::Unbuffered } else { Delivery::Window };
        let options = SubscribeOptions {
            delivery,
            max_in_flight: MAX_IN_FLIGHT,
            ..SubscribeOptions::new(tcp, topic, channel)
        };
        let (events, inbox) = mpsc::channel(64);
        Self::Ours(Subscription::open(options, (), events), inbox)
    }

    pub async fn next(&mut self) -> Received {
        match self {
            Self::Ours(_, inbox) => loop {
                match inbox.recv().await.expect("the subscription lives").1 {
                    Event::Message(message) => return Received::Ours(message),
                    Event::Attached => {}
                    other => panic!("{other:?}"),
                }
            },
            Self::Theirs(consumer) => {
                Received::Theirs(consumer.consume_filtered().await.expect("the consumer lives"))
            }
        }
    }

    pub async fn close(self) {
        match self {
            Self::Ours(subscription, _) => subscription.close().await,
            Self::Theirs(consumer) => drop(consumer),
        }
    }
}
