//! A subscription's owner, as tests need one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keepstep_nsq::{ConnectOptions, Event, Message, NsqdAdmin, Publisher, SubscribeOptions, Subscription};
use tokio::sync::mpsc;

use crate::daemons::Nsqd;

/// Far longer than anything here takes, so that a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Inbox {
    events: mpsc::Receiver<(u8, Event)>,
}

/// Options for a channel, with heartbeats as frequent as nsqd allows.
pub fn options(nsqd: &Nsqd, topic: &str, channel: &str) -> SubscribeOptions {
    let connect = ConnectOptions { heartbeat: Duration::from_secs(1), ..ConnectOptions::default() };
    SubscribeOptions {
        nsqd: Some(NsqdAdmin::new(&nsqd.http)),
        connect: Arc::new(connect),
        ..SubscribeOptions::new(&nsqd.tcp, topic, channel)
    }
}

/// Subscribes, and waits until that is done.
pub async fn subscribe(options: SubscribeOptions) -> (Subscription, Inbox) {
    let (subscription, mut inbox) = subscribe_with_room(options, 16);
    inbox.attached().await;
    (subscription, inbox)
}

pub fn subscribe_with_room(options: SubscribeOptions, room: usize) -> (Subscription, Inbox) {
    let (sender, events) = mpsc::channel(room);
    (Subscription::open(options, 7, sender), Inbox { events })
}

pub fn publisher(nsqd: &Nsqd) -> Publisher {
    Publisher::new(&nsqd.tcp, ConnectOptions::default())
}

pub fn body(number: usize) -> Bytes {
    Bytes::from(number.to_string())
}

impl Inbox {
    /// The next event. `None`: the subscription's task has ended.
    pub async fn event(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event within 30 s");
        next.map(|(tag, event)| {
            assert_eq!(tag, 7);
            event
        })
    }

    pub async fn attached(&mut self) {
        loop {
            match self.event().await.expect("the subscription lives") {
                Event::Attached => return,
                Event::Detached { .. } => {}
                other => panic!("expected Attached, got {other:?}"),
            }
        }
    }

    /// The next message, on this connection.
    pub async fn message(&mut self) -> Message {
        match self.event().await.expect("the subscription lives") {
            Event::Message(message) => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The next message, whatever happens in between.
    pub async fn message_at_last(&mut self) -> Message {
        loop {
            if let Event::Message(message) = self.event().await.expect("the subscription lives") {
                return message;
            }
        }
    }

    /// Skips messages; returns the error.
    pub async fn detached(&mut self) -> String {
        loop {
            if let Event::Detached { error, .. } = self.event().await.expect("the subscription lives") {
                return error;
            }
        }
    }

    /// No message now, as far as can be seen without waiting for one.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Skips everything up to `ChannelGone`, after which nothing comes.
    pub async fn gone(&mut self) {
        loop {
            if let Event::ChannelGone = self.event().await.expect("ChannelGone comes before the end") {
                assert!(self.event().await.is_none(), "ChannelGone is the last event");
                return;
            }
        }
    }
}
