//! The two clients behind one face: a consumer that gives bodies, and finishes what it is told to.

use keepstep_nsq::{Delivery, Event, Message, SubscribeOptions, Subscription};
use tokio::sync::mpsc;
use tokio_nsq::{NSQChannel, NSQConsumer, NSQConsumerConfig, NSQConsumerConfigSources, NSQMessage, NSQTopic};

/// The same for both: ours has it as its default.
const MAX_IN_FLIGHT: u32 = 256;

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
        if client == "tokio-nsq" {
            let topic = NSQTopic::new(topic).expect("a valid name");
            let channel = NSQChannel::new(channel).expect("a valid name");
            let sources = NSQConsumerConfigSources::Daemons(vec![tcp.to_owned()]);
            let config = NSQConsumerConfig::new(topic, channel).set_max_in_flight(MAX_IN_FLIGHT);
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
