//! One nsqd: where it is, how it is, and the ways to talk to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keepstep_nsq::{Address, AdminError, ConnectOptions, NsqdAdmin, PublishError, Publisher, StatsFilter};
use tokio::{sync::watch, time::sleep};

use super::address::NodeAddress;
use crate::{
    broker::{BrokerError, NodeHealth, QueueAt, QueueState},
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};

/// How often a node is looked at while it is well, and while it isn't.
const WHILE_WELL: Duration = Duration::from_secs(5);
const WHILE_NOT: Duration = Duration::from_secs(2);

/// One configured nsqd.
#[derive(Debug)]
pub(super) struct Node {
    address: NodeAddress,
    pub(super) admin: NsqdAdmin,
    pub(super) publisher: Publisher,
    /// Its TCP address, as soon as it is known. Subscriptions and the publisher wait for it, and follow it.
    tcp: watch::Sender<Option<String>>,
    /// As of the last look. False until then.
    well: AtomicBool,
}

impl Node {
    pub(super) fn new(address: NodeAddress, connect: ConnectOptions) -> Self {
        let tcp = watch::Sender::new(address.tcp.clone());
        Self {
            admin: NsqdAdmin::new(&address.http),
            publisher: Publisher::new(Address::Told(tcp.subscribe()), connect),
            tcp,
            well: AtomicBool::new(false),
            address,
        }
    }

    /// Its name: the configured HTTP address.
    pub(super) fn id(&self) -> &str {
        &self.address.http
    }

    pub(super) fn tcp(&self) -> Address {
        Address::Told(self.tcp.subscribe())
    }

    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Looks at it for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            sleep(if self.is_well() { WHILE_WELL } else { WHILE_NOT }).await;
            self.look().await;
        }
    }

    /// Asks how it is, and where its TCP port is unless that is pinned: after a restart it may be another.
    pub(super) async fn look(&self) -> NodeHealth {
        let (ping, info) = tokio::join!(self.admin.ping(), async {
            match self.address.tcp {
                Some(_) => Ok(()),
                None => self.learn_tcp().await,
            }
        });
        let problem = match (ping, info) {
            // A node that can't be reached fails both ways; one of them tells it all.
            (Err(error), _) => Some(in_words(&error)),
            (Ok(()), info) => info.err(),
        };
        let well = problem.is_none();
        if self.well.swap(well, Ordering::Relaxed) != well {
            match &problem {
                None => tracing::info!(nsqd = self.id(), "nsqd is well"),
                Some(problem) => tracing::warn!(nsqd = self.id(), problem, "nsqd isn't well"),
            }
        }
        NodeHealth { node: self.id().to_owned(), role: "nsqd", problem }
    }

    async fn learn_tcp(&self) -> Result<(), String> {
        let port = self.admin.info().await.map_err(|error| in_words(&error))?.tcp_port;
        if port <= 0 {
            return Err("it listens on no TCP port; give one with ?tcp=host:port".to_owned());
        }
        let found = format!("{}:{port}", self.address.host());
        self.tcp.send_if_modified(|known| {
            let is_news = known.as_ref() != Some(&found);
            if is_news {
                *known = Some(found);
            }
            is_news
        });
        Ok(())
    }

    /// The device's queues that it has: all, or the one of a chat.
    pub(super) async fn queues(
        &self,
        device: DeviceId,
        chat: Option<ChatId>,
    ) -> Result<Vec<QueueState>, AdminError> {
        let (topic, channel) = (chat.map(names::topic), names::channel(device));
        let filter = StatsFilter { topic: topic.as_deref(), channel: Some(&channel), clients: true };
        let mut found = Vec::new();
        for topic in self.admin.stats(filter).await? {
            // Topics that aren't ours are none of our business, whatever channels they have.
            let Some(chat) = names::chat_of(&topic.topic) else { continue };
            for queue in topic.channels.into_iter().filter(|queue| queue.channel == channel) {
                found.push(QueueState {
                    node: self.id().to_owned(),
                    chat,
                    device,
                    depth: u64::try_from(queue.depth).unwrap_or(0) + queue.deferred,
                    in_flight: queue.in_flight,
                    requeues: queue.requeue_count,
                    consumers: queue.client_count,
                    consumer: queue.clients.into_iter().next().map(|client| client.client_id),
                });
            }
        }
        Ok(found)
    }

    /// All queues that it has.
    pub(super) async fn all_queues(&self) -> Result<Vec<QueueAt>, AdminError> {
        let (node, mut found) = (Arc::<str>::from(self.id()), Vec::new());
        for (topic, channels) in self.admin.channels().await? {
            // Topics and channels that aren't ours are none of our business.
            let Some(chat) = names::chat_of(&topic) else { continue };
            let devices = channels.iter().filter_map(|channel| names::device_of(channel));
            found.extend(devices.map(|device| QueueAt { node: node.clone(), chat, device }));
        }
        Ok(found)
    }

    /// How far a clock was, by each mark on a claim; none: there is no such claim.
    pub(super) async fn marks(&self, claim: &str) -> Result<Option<Vec<u64>>, AdminError> {
        let filter = StatsFilter { topic: Some(claim), channel: None, clients: false };
        let topic = self.admin.stats(filter).await?.into_iter().next();
        Ok(topic.map(|topic| topic.channels.iter().filter_map(|c| names::marked(&c.channel)).collect()))
    }

    /// What an administrative call's failure means to whoever asked for a change.
    pub(super) fn fault(&self, error: &AdminError) -> BrokerError {
        let (node, reason) = (self.id().to_owned(), in_words(error));
        match error {
            AdminError::Unreachable { sent: false, .. } => BrokerError::Unavailable { node, reason },
            AdminError::Unreachable { .. } => BrokerError::Unknown { node, reason },
            _ => BrokerError::Refused { node, reason },
        }
    }

    pub(super) fn publish_fault(&self, error: PublishError) -> BrokerError {
        let node = self.id().to_owned();
        match error {
            PublishError::NotSent(reason) => BrokerError::Unavailable { node, reason },
            PublishError::Unknown(reason) => BrokerError::Unknown { node, reason },
            PublishError::Refused { message: reason, .. } | PublishError::Invalid(reason) => {
                BrokerError::Refused { node, reason }
            }
        }
    }
}

/// Without the address, which stands beside it wherever it is shown.
pub(super) fn in_words(error: &AdminError) -> String {
    match error {
        AdminError::Unreachable { error, .. } => error.clone(),
        // nsqd remembers its last failed write, and says so until one succeeds.
        AdminError::Refused { status: 500, message } => format!("it says that it isn't well: {message}"),
        error => error.to_string(),
    }
}
