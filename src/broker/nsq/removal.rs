//! Removal and inspection of queues: what requires a request to every server.
//!
//! One pass over a device's queues: each nsqd reports what it has of the device; the pass deletes that and the named
//! chats' queues there, and the barrier makes it durable. Only then come the nsqlookupd: an nsqd that recreates a topic
//! creates all channels that nsqlookupd remembers, so a remaining registration is a queue to come. (In the other order
//! an nsqd might register in between.) The result names each server that doesn't answer; repeat the pass until there is
//! none.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt, future::join_all, stream};
use keepstep_nsq::{AdminError, StatsFilter};

use super::{NsqBroker, PARALLEL, lookup::Lookup, node::Node};
use crate::{
    broker::{Flow, NodeHealth, Present, QueueAt, QueueState, Removal, RemovalScope, Result as BrokerResult},
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};

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
    pub async fn remove_queues(
        &self,
        flow: &Flow,
        device: DeviceId,
        chats: &[ChatId],
        scope: RemovalScope,
    ) -> Removal {
        let mut all = Removal::default();
        let mut of_interest: BTreeSet<ChatId> = chats.iter().copied().collect();
        let nodes = &self.shared.nodes;
        let at_nodes =
            join_all(nodes.iter().map(|node| remove_at_node(node, flow, device, chats, scope))).await;
        for (node, at_node) in nodes.iter().zip(at_nodes) {
            all.removed.extend(at_node.removed);
            of_interest.extend(at_node.chats);
            if let Some(error) = at_node.error {
                tracing::warn!(node = node.id(), %error, "queue removal failed: queues may be left");
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
            let flow = Flow::of("stray", device);
            let removed = delete_queue(node, &flow, chat, device).await.1?;
            node.admin.barrier().await?;
            Ok(removed)
        };
        removed.await.map_err(|error: AdminError| node.fault(&error))
    }

    /// See [`crate::broker::Broker::empty_queue`].
    pub async fn empty_queue(&self, node: &str, chat: ChatId, device: DeviceId) -> BrokerResult<bool> {
        let node = self.node(node)?;
        let emptied = node.admin.empty_channel(&names::topic(chat), &names::channel(device)).await;
        emptied.map_err(|error| node.fault(&error))
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
                tracing::warn!(node = node.id(), %error, topic, "topic removal failed: it may be left");
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
            // Foreign channels are ignored.
            for channel in channels {
                let Some(device) = names::device_of(&channel.channel) else { continue };
                let queue = QueueAt { node: node.clone(), chat, device };
                if channel.depth > 0 && channel.clients == 0 {
                    present.unread.push(queue.clone());
                }
                present.queues.push(queue);
            }
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

    /// Collects the nodes' answers, in their order.
    fn gather<T>(&self, answers: Vec<Result<Vec<T>, AdminError>>) -> (Vec<T>, Vec<String>) {
        let (mut queues, mut unreachable) = (Vec::new(), Vec::new());
        for (node, answer) in self.shared.nodes.iter().zip(answers) {
            match answer {
                Ok(found) => queues.extend(found),
                Err(error) => {
                    tracing::debug!(node = node.id(), %error, "no statistics");
                    unreachable.push(node.id().to_owned());
                }
            }
        }
        (queues, unreachable)
    }

    /// See [`crate::broker::Broker::health`].
    pub async fn health(&self) -> Vec<NodeHealth> {
        let nodes = join_all(self.shared.nodes.iter().map(|node| node.health()));
        let lookups = join_all(self.shared.lookups.iter().map(|lookup| lookup.health()));
        let (mut all, lookups) = tokio::join!(nodes, lookups);
        all.extend(lookups);
        all
    }

    /// See [`crate::broker::Broker::last_health`].
    #[must_use]
    pub fn last_health(&self) -> Vec<NodeHealth> {
        let nodes = self.shared.nodes.iter().map(|node| node.last_health());
        nodes.chain(self.shared.lookups.iter().map(|lookup| lookup.last_health())).collect()
    }
}

async fn remove_at_node(
    node: &Node,
    flow: &Flow,
    device: DeviceId,
    chats: &[ChatId],
    scope: RemovalScope,
) -> AtNode {
    let mut at_node = AtNode::default();
    let before = match look_before(node, device, chats, scope).await {
        Ok(before) => before,
        Err(error) => return AtNode { error: Some(error), ..at_node },
    };
    // The named chats' queues are deleted even where none was seen: one may have been created since.
    at_node.chats = before.iter().map(|queue| queue.chat).chain(chats.iter().copied()).collect();
    // Collected first: the compiler can't see that a lazily mapped stream of these may move between threads.
    let deletions: Vec<_> =
        at_node.chats.iter().map(|chat| delete_queue(node, flow, *chat, device)).collect();
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
    // Also if nothing was deleted: an earlier pass may have failed between its deletions and its barrier.
    if let Err(error) = node.admin.barrier().await {
        at_node.error = Some(error);
    }
    at_node
}

/// Returns the queues as they are. For a single chat it requests only that topic: the whole statistics of an nsqd with
/// thousands of topics aren't free, and users leave chats often.
async fn look_before(
    node: &Node,
    device: DeviceId,
    chats: &[ChatId],
    scope: RemovalScope,
) -> Result<Vec<QueueState>, AdminError> {
    match chats {
        [chat] if scope == RemovalScope::NamedChats => node.queues(device, Some(*chat)).await,
        _ => {
            let mut all = node.queues(device, None).await?;
            all.retain(|queue| scope == RemovalScope::WholeDevice || chats.contains(&queue.chat));
            Ok(all)
        }
    }
}

/// Returns the state of a queue that was created between the read and the deletion.
fn unseen(node: &Node, chat: ChatId, device: DeviceId) -> QueueState {
    let node = node.id().to_owned();
    QueueState { node, chat, device, depth: 0, in_flight: 0, requeues: 0, consumers: 0, consumer: None }
}

/// Deletes the device's registrations where there are any. (For an unknown registration nsqlookupd would answer 404;
/// the check spares its log, and its lock.)
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

async fn delete_queue(
    node: &Node,
    flow: &Flow,
    chat: ChatId,
    device: DeviceId,
) -> (ChatId, Result<bool, AdminError>) {
    let _turn = node.changes.acquire(flow).await;
    (chat, node.admin.delete_channel(&names::topic(chat), &names::channel(device)).await)
}

fn failed(lookups: &[Arc<Lookup>], results: Vec<Result<(), AdminError>>) -> impl Iterator<Item = String> {
    lookups.iter().zip(results).filter_map(|(lookup, result)| {
        let error = result.err()?;
        tracing::warn!(nsqlookupd = lookup.id, %error, "registration removal failed: registrations may be left");
        Some(lookup.id.clone())
    })
}
