//! What the broker's stories are told with: a session's inbox, and the calls every story begins with.

use std::time::Duration;

use bytes::Bytes;
use keepstep::{
    broker::{Broker, Delivery, Event, Flow, Notice, Prefetch, QueueState, Receipt, Sink, Subscription},
    domain::id::{ChatId, DeviceId},
};
use tokio::{sync::mpsc, time::timeout};

use crate::support::wait_for;

/// Long enough for a busy machine; a story that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A session's end of its sink.
pub struct Inbox {
    pub sink: Sink,
    pub prefetch: Prefetch,
    notices: mpsc::Receiver<Box<Notice>>,
}

impl Inbox {
    pub fn new(room: usize) -> Self {
        Self::with(room, Prefetch::for_window(256))
    }

    /// The same of a session that may hold no more than this.
    pub fn with(room: usize, prefetch: Prefetch) -> Self {
        let (sink, notices) = mpsc::channel(room);
        Self { sink: Sink::new(sink), prefetch, notices }
    }

    /// Subscribes and waits until it is attached.
    pub async fn attach(&mut self, broker: &Broker, chat: ChatId, device: DeviceId) -> Subscription {
        self.attach_at(broker, &broker.place(chat), chat, device).await
    }

    /// The same of a chat that this node carries.
    pub async fn attach_at(
        &mut self,
        broker: &Broker,
        node: &str,
        chat: ChatId,
        device: DeviceId,
    ) -> Subscription {
        let subscription = broker.subscribe(node, chat, device, &self.prefetch, self.sink.clone());
        match self.next().await {
            Notice { chat: of, event: Event::Attached, .. } => assert_eq!(of, chat),
            other => panic!("the first is Attached, not {other:?}"),
        }
        subscription
    }

    pub async fn next(&mut self) -> Notice {
        let next = timeout(PATIENCE, self.notices.recv()).await.expect("a notice comes in time");
        *next.expect("the inbox has a sink of its own, so it stays open")
    }

    pub async fn delivery(&mut self) -> (String, Receipt) {
        match self.next().await.event {
            Event::Delivery(Delivery { body, receipt }) => (text(&body), receipt),
            other => panic!("a delivery, not {other:?}"),
        }
    }

    /// The same where the subscription may meanwhile lose its connection and have a new one.
    pub async fn delivery_on_any_connection(&mut self) -> (String, Receipt) {
        loop {
            match self.next().await.event {
                Event::Delivery(Delivery { body, receipt }) => return (text(&body), receipt),
                Event::Detached | Event::Attached => {}
                other => panic!("a delivery, not {other:?}"),
            }
        }
    }

    /// Takes and finishes this many.
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let (body, receipt) = self.delivery().await;
            receipt.finish();
            all.push(body);
        }
        all
    }

    pub async fn gone(&mut self) {
        loop {
            match self.next().await.event {
                Event::Gone => return,
                // A server that drops its consumers is first seen as a lost connection.
                Event::Detached => {}
                other => panic!("the queue was removed, so Gone, not {other:?}"),
            }
        }
    }
}

pub fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Looks again and again until the device's queues are as wished.
pub async fn until(
    broker: &Broker,
    device: DeviceId,
    wish: impl Fn(&[QueueState]) -> bool,
) -> Vec<QueueState> {
    wait_for("the device's queues to be as wished", PATIENCE, async || {
        let (queues, unreachable) = broker.queues_of(device).await;
        assert!(unreachable.is_empty(), "{unreachable:?}");
        if wish(&queues) { Ok(queues) } else { Err(queues) }
    })
    .await
}

pub async fn provision(broker: &Broker, device: DeviceId, chats: &[ChatId]) {
    let placed: Vec<_> = chats.iter().map(|chat| (*chat, broker.place(*chat))).collect();
    broker.provision(&Flow::of("test", "all"), device, &placed).await.expect("provisioned");
}

pub async fn publish(broker: &Broker, chat: ChatId, frames: impl IntoIterator<Item = String>) {
    let node = broker.place(chat);
    for frame in frames {
        broker.publish(&node, chat, frame.into()).await.expect("published");
    }
}

pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
