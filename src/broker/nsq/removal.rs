//! Taking queues away, and looking at what is there: what has to be asked of every server.
//!
//! One pass over a device's queues: every nsqd is asked what it has of the device; that and the chats named are deleted
//! there, and the barrier makes it durable. Only then come the nsqlookupd: an nsqd that makes a topic anew makes all
//! channels that nsqlookupd remembers, so a registration left behind is a queue to come. (The other way round an nsqd
//! might register in between.) Whatever doesn't answer is named; passes may be repeated until nobody is.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use keepstep_nsq::{AdminError, LookupdAdmin, StatsFilter};

use super::{
    NsqBroker, PARALLEL,
    node::{Node, in_words},
};
use crate::{
    broker::{NodeHealth, Present, QueueAt, QueueState, Removal, Result as BrokerResult},
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};

/// One configured nsqlookupd.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Its HTTP address, as configured.
    pub(super) id: String,
    pub(super) admin: LookupdAdmin,
    /// Behind which topic [`Lookup::next_registrations`] goes on.
    seen: Mutex<String>,
}

impl Lookup {
    pub(super) fn new(id: String) -> Self {
        Self { admin: LookupdAdmin::new(&id), id, seen: Mutex::default() }
    }

    /// The queues of the next topics that it knows, by name. It tells channels topic by topic only, and it may know
    /// thousands; so it is a few at a time.
    async fn next_registrations(&self) -> Result<Vec<(ChatId, DeviceId)>, AdminError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (found, next) = self.registrations_after(&seen, REGISTRATIONS).await?;
        // Behind the end it begins again.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = next.unwrap_or_default();
        Ok(found)
    }

    /// The queues of so many topics behind this one, and the last topic, if there may be more behind it.
    pub(super) async fn registrations_after(
        &self,
        seen: &str,
        most: usize,
    ) -> Result<(Vec<(ChatId, DeviceId)>, Option<String>), AdminError> {
        let mut topics = self.admin.topics().await?;
        topics.sort_unstable();
        let chats = topics.iter().filter_map(|topic| Some((topic, names::chat_of(topic)?)));
        let next: Vec<_> = chats.filter(|(topic, _)| topic.as_str() > seen).take(most).collect();
        let last = next.last().filter(|_| next.len() == most).map(|(topic, _)| (*topic).clone());
        let asked: Vec<_> =
            next.into_iter().map(|(topic, chat)| self.registrations_of(topic, chat)).collect();
        let found: Vec<_> = stream::iter(asked).buffer_unordered(PARALLEL).try_collect().await?;
        Ok((found.into_iter().flatten().collect(), last))
    }

    async fn registrations_of(
        &self,
        topic: &str,
        chat: ChatId,
    ) -> Result<Vec<(ChatId, DeviceId)>, AdminError> {
        let channels = self.admin.channels(topic).await?;
        Ok(channels.iter().filter_map(|channel| Some((chat, names::device_of(channel)?))).collect())
    }

    /// Forgets the marks of a claim that are older than this.
    pub(super) async fn forget_marks(&self, claim: &str, clock: u64) -> Result<(), AdminError> {
        for mark in self.admin.channels(claim).await? {
            if names::marked(&mark).is_some_and(|other| other < clock) {
                self.admin.delete_channel(claim, &mark).await?;
            }
        }
        Ok(())
    }
}

/// Topics of an nsqlookupd that are looked at in one call.
const REGISTRATIONS: usize = 200;

/// What a pass did at one nsqd.
#[derive(Default)]
struct AtNode {
    removed: Vec<QueueState>,
    /// Chats of which it had a queue, or may have had.
    chats: BTreeSet<ChatId>,
    error: Option<AdminError>,
}

impl NsqBroker {
    /// See [`crate::broker::Broker::remove_queues`].
    pub async fn remove_queues(&self, device: DeviceId, chats: &[ChatId], only: bool) -> Removal {
        let mut all = Removal::default();
        let mut of_interest: BTreeSet<ChatId> = chats.iter().copied().collect();
        let nodes = &self.shared.nodes;
        let at_nodes = join_all(nodes.iter().map(|node| remove_at_node(node, device, chats, only))).await;
        for (node, at_node) in nodes.iter().zip(at_nodes) {
            all.removed.extend(at_node.removed);
            of_interest.extend(at_node.chats);
            if let Some(error) = at_node.error {
                tracing::warn!(nsqd = node.id(), %error, "queues may be left");
                all.unreachable.push(node.id().to_owned());
            }
        }
        let lookups = &self.shared.lookups;
        let forgotten =
            join_all(lookups.iter().map(|lookup| forget_queues(lookup, device, &of_interest))).await;
        all.unreachable.extend(failed(lookups, forgotten));
        all
    }

    /// See [`crate::broker::Broker::remove_stray`].
    pub async fn remove_stray(&self, node: &str, chat: ChatId, device: DeviceId) -> BrokerResult<bool> {
        let node = self.node(node)?;
        let removed = async {
            let removed = delete_queue(node, chat, device).await.1?;
            node.admin.barrier().await?;
            Ok(removed)
        };
        removed.await.map_err(|error: AdminError| node.fault(&error))
    }

    /// See [`crate::broker::Broker::remove_chat`].
    pub async fn remove_chat(&self, chat: ChatId) -> Vec<String> {
        let topic = &names::topic(chat);
        let (nodes, lookups) = (&self.shared.nodes, &self.shared.lookups);
        let deleted = nodes.iter().map(|node| async move {
            node.admin.delete_topic(topic).await?;
            node.admin.barrier().await
        });
        let mut unreachable = Vec::new();
        for (node, deleted) in nodes.iter().zip(join_all(deleted).await) {
            if let Err(error) = deleted {
                tracing::warn!(nsqd = node.id(), %error, topic, "a topic may be left");
                unreachable.push(node.id().to_owned());
            }
        }
        let forgotten = join_all(lookups.iter().map(|lookup| lookup.admin.delete_topic(topic))).await;
        unreachable.extend(failed(lookups, forgotten));
        unreachable
    }

    /// See [`crate::broker::Broker::queues_of`].
    pub async fn queues_of(&self, device: DeviceId) -> (Vec<QueueState>, Vec<String>) {
        self.gather(join_all(self.shared.nodes.iter().map(|node| node.queues(device, None))).await)
    }

    /// See [`crate::broker::Broker::queues`].
    pub async fn queues(&self) -> Present {
        let (topics, silent) =
            self.gather(join_all(self.shared.nodes.iter().map(|node| node.topics())).await);
        let mut present = Present { silent, ..Present::default() };
        for (node, chat, channels) in topics {
            if channels.is_empty() {
                present.empty.push((node.clone(), chat));
            }
            // Channels that aren't ours are none of our business.
            let devices = channels.iter().filter_map(|channel| names::device_of(channel));
            present.queues.extend(devices.map(|device| QueueAt { node: node.clone(), chat, device }));
        }
        present
    }

    /// See [`crate::broker::Broker::remove_empty`].
    pub async fn remove_empty(&self, node: &str, chat: ChatId) -> BrokerResult<bool> {
        let (node, topic) = (self.node(node)?, &names::topic(chat));
        let removed = async {
            let filter = StatsFilter { topic: Some(topic), channel: None, clients: false };
            if node.admin.stats(filter).await?.iter().any(|found| !found.channels.is_empty()) {
                return Ok(false);
            }
            let removed = node.admin.delete_topic(topic).await?;
            node.admin.barrier().await?;
            Ok(removed)
        };
        removed.await.map_err(|error: AdminError| node.fault(&error))
    }

    /// See [`crate::broker::Broker::remembered`].
    pub async fn remembered(&self) -> Vec<(ChatId, DeviceId)> {
        let mut all = Vec::new();
        for lookup in &self.shared.lookups {
            match lookup.next_registrations().await {
                Ok(found) => all.extend(found),
                Err(error) => tracing::debug!(nsqlookupd = lookup.id, %error, "no registrations"),
            }
        }
        all
    }

    /// What each node answered, in their order.
    fn gather<T>(&self, answers: Vec<Result<Vec<T>, AdminError>>) -> (Vec<T>, Vec<String>) {
        let (mut queues, mut unreachable) = (Vec::new(), Vec::new());
        for (node, answer) in self.shared.nodes.iter().zip(answers) {
            match answer {
                Ok(found) => queues.extend(found),
                Err(error) => {
                    tracing::debug!(nsqd = node.id(), %error, "no statistics");
                    unreachable.push(node.id().to_owned());
                }
            }
        }
        (queues, unreachable)
    }

    /// See [`crate::broker::Broker::health`].
    pub async fn health(&self) -> Vec<NodeHealth> {
        let nodes = join_all(self.shared.nodes.iter().map(|node| node.health()));
        let lookups = join_all(self.shared.lookups.iter().map(|lookup| async {
            let problem = lookup.admin.ping().await.err().map(|error| in_words(&error));
            NodeHealth { node: lookup.id.clone(), role: "nsqlookupd", problem }
        }));
        let (mut all, lookups) = tokio::join!(nodes, lookups);
        all.extend(lookups);
        all
    }
}

async fn remove_at_node(node: &Node, device: DeviceId, chats: &[ChatId], only: bool) -> AtNode {
    let mut at_node = AtNode::default();
    let before = match look_before(node, device, chats, only).await {
        Ok(before) => before,
        Err(error) => return AtNode { error: Some(error), ..at_node },
    };
    // The chats named are deleted even where nothing was seen: a queue may have been made since.
    at_node.chats = before.iter().map(|queue| queue.chat).chain(chats.iter().copied()).collect();
    // Collected first: the compiler can't see that a lazily mapped stream of these may move between threads.
    let deletions: Vec<_> = at_node.chats.iter().map(|chat| delete_queue(node, *chat, device)).collect();
    let deleted: Vec<_> = stream::iter(deletions).buffer_unordered(PARALLEL).collect().await;
    for (chat, deleted) in deleted {
        match deleted {
            Ok(true) => {
                let seen = before.iter().find(|queue| queue.chat == chat).cloned();
                at_node.removed.push(seen.unwrap_or_else(|| unseen(node, chat, device)));
            }
            Ok(false) => {}
            Err(error) => at_node.error = Some(error),
        }
    }
    // Also when nothing was deleted: an earlier pass may have failed between its deletions and its barrier.
    if let Err(error) = node.admin.barrier().await {
        at_node.error = Some(error);
    }
    at_node
}

/// The queues as they are. Of a single chat only that topic is asked for: the whole statistics of an nsqd with
/// thousands of topics aren't free, and people leave chats often.
async fn look_before(
    node: &Node,
    device: DeviceId,
    chats: &[ChatId],
    only: bool,
) -> Result<Vec<QueueState>, AdminError> {
    match chats {
        [chat] if only => node.queues(device, Some(*chat)).await,
        _ => {
            let mut all = node.queues(device, None).await?;
            all.retain(|queue| !only || chats.contains(&queue.chat));
            Ok(all)
        }
    }
}

/// A queue that came between the look and the deletion.
fn unseen(node: &Node, chat: ChatId, device: DeviceId) -> QueueState {
    let node = node.id().to_owned();
    QueueState { node, chat, device, depth: 0, in_flight: 0, requeues: 0, consumers: 0, consumer: None }
}

/// Deletes the device's registrations where there are any. (Asked to delete what it doesn't know, nsqlookupd would
/// answer 404; the look spares its log, and its lock.)
async fn forget_queues(
    lookup: &Lookup,
    device: DeviceId,
    chats: &BTreeSet<ChatId>,
) -> Result<(), AdminError> {
    let channel = &names::channel(device);
    let forgotten: Vec<_> = chats.iter().map(|chat| forget_queue(lookup, *chat, channel)).collect();
    let results: Vec<Result<(), AdminError>> =
        stream::iter(forgotten).buffer_unordered(PARALLEL).collect().await;
    results.into_iter().collect()
}

async fn forget_queue(lookup: &Lookup, chat: ChatId, channel: &str) -> Result<(), AdminError> {
    let topic = names::topic(chat);
    if lookup.admin.channels(&topic).await?.iter().any(|known| known == channel) {
        lookup.admin.delete_channel(&topic, channel).await?;
    }
    Ok(())
}

async fn delete_queue(node: &Node, chat: ChatId, device: DeviceId) -> (ChatId, Result<bool, AdminError>) {
    (chat, node.admin.delete_channel(&names::topic(chat), &names::channel(device)).await)
}

fn failed(lookups: &[Lookup], results: Vec<Result<(), AdminError>>) -> impl Iterator<Item = String> {
    lookups.iter().zip(results).filter_map(|(lookup, result)| {
        let error = result.err()?;
        tracing::warn!(nsqlookupd = lookup.id, %error, "registrations may be left");
        Some(lookup.id.clone())
    })
}
