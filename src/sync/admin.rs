//! What admins see and do: a user's devices, a device's queues with what the store knows of them, ending, kicking.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    Core,
    signal::{self, Signal},
};
use crate::{
    broker::QueueState,
    domain::{
        Seq,
        device::Device,
        id::{ChatId, DeviceId, UserId},
        message::accepted_at,
        names, now_millis,
    },
    protocol::{ErrorCode, Problem},
};

/// One queue of a device.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelView {
    /// Which chat.
    pub chat: ChatId,
    /// NSQ topic.
    pub topic: String,
    /// NSQ channel.
    pub channel: String,
    /// The server; none when no server shows the queue.
    pub node: Option<String>,
    /// Waiting messages.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Times a message was given back.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
    /// The edge of the first.
    pub consumer: Option<String>,
    /// The highest seq acknowledged.
    pub cursor: Option<Seq>,
    /// Where the device began.
    pub from: Option<Seq>,
    /// The chat's head.
    pub head: Option<Seq>,
    /// How long the oldest message that isn't acknowledged has waited, in milliseconds, as far as the log goes back.
    pub oldest_ms: Option<u64>,
}

/// All queues of a device.
#[derive(Debug, Clone, Serialize)]
pub struct Channels {
    /// One line per queue, by chat.
    pub items: Vec<ChannelView>,
    /// Servers that didn't answer.
    pub unreachable: Vec<String>,
}

/// The device, whosever it is.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn find(core: &Core, device: DeviceId) -> Result<Device, Problem> {
    let missing = || Problem::new(ErrorCode::NotFound, "there is no such device (any more)");
    let owner = core.store.owner(device).await?.ok_or_else(missing)?;
    core.store.device(&owner.user, device).await?.ok_or_else(missing)
}

/// What stands in the queues of a device, beside what it is owed.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn channels(core: &Core, device: DeviceId) -> Result<Channels, Problem> {
    let found = find(core, device).await?;
    let (queues, unreachable) = core.broker.queues_of(device).await;
    let mut by_chat: HashMap<ChatId, Vec<QueueState>> = HashMap::new();
    for queue in queues {
        by_chat.entry(queue.chat).or_default().push(queue);
    }
    let mut chats = core.store.chats_of(&found.user).await?;
    chats.extend(by_chat.keys().copied());
    chats.sort_unstable();
    chats.dedup();
    let mut items = Vec::with_capacity(chats.len());
    for chat in chats {
        // One, or none; two, when the chat has moved from an nsqd that still holds something.
        let queues = by_chat.remove(&chat).unwrap_or_default();
        let owed = core.store.owed(chat, device).await?;
        if queues.is_empty() && owed.is_none() {
            continue;
        }
        let head = core.store.tips(&[chat]).await?.first().map(|tip| tip.head);
        let oldest_ms = match owed {
            Some(owed) if head.is_some_and(|head| head > owed.cursor) => {
                oldest(core, chat, owed.cursor + 1).await?
            }
            _ => None,
        };
        let view = |queue: Option<&QueueState>| ChannelView {
            chat,
            topic: names::topic(chat),
            channel: names::channel(device),
            node: queue.map(|queue| queue.node.clone()),
            depth: queue.map_or(0, |queue| queue.depth),
            in_flight: queue.map_or(0, |queue| queue.in_flight),
            requeues: queue.map_or(0, |queue| queue.requeues),
            consumers: queue.map_or(0, |queue| queue.consumers),
            consumer: queue.and_then(|queue| queue.consumer.clone()),
            cursor: owed.map(|owed| owed.cursor),
            from: owed.map(|owed| owed.from),
            head,
            oldest_ms,
        };
        if queues.is_empty() {
            items.push(view(None));
        }
        items.extend(queues.iter().map(|queue| view(Some(queue))));
    }
    Ok(Channels { items, unreachable })
}

/// nsqd doesn't know how old its messages are; the log does.
async fn oldest(core: &Core, chat: ChatId, seq: Seq) -> Result<Option<u64>, Problem> {
    let page = core.store.log(chat, seq, 1, 1).await?;
    let at = page.messages.first().and_then(|(_, frame)| accepted_at(frame));
    Ok(at.map(|at| now_millis().saturating_sub(at)))
}

/// Closes all sockets of a user (4410); answers nothing, because they may be on any edge.
pub async fn kick(core: &Core, user: &UserId) {
    signal::tell(core, user, &Signal::Kicked).await;
}

/// The edge at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// This edge.
    pub edge: String,
    /// Connected mains here.
    pub mains: usize,
    /// Connected subs here.
    pub subs: usize,
    /// Chats followed here.
    pub chats: usize,
    /// Messages accepted here since the start.
    pub sends: u64,
    /// Messages sent to devices here since the start, from the queues and from the log.
    pub deliveries_nsq: u64,
    /// See `deliveries_nsq`.
    pub deliveries_log: u64,
    /// Whether the store answers.
    pub store: bool,
    /// Each server of the broker.
    pub broker: Vec<ServerView>,
    /// Terminations that aren't done.
    pub terminations_unfinished: usize,
}

/// One server of the broker.
#[derive(Debug, Clone, Serialize)]
pub struct ServerView {
    /// Its address.
    pub node: String,
    /// What it is.
    pub role: &'static str,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What this edge knows of itself and its servers.
pub async fn overview(core: &Core) -> Overview {
    let (mains, subs) = core.hub.count();
    let (store, broker) = tokio::join!(core.store.ping(), core.broker.health());
    let unfinished = core.store.unfinished_terminations().await.map_or(0, |unfinished| unfinished.len());
    Overview {
        edge: core.edge.clone(),
        mains,
        subs,
        chats: core.hub.chats().len(),
        sends: core.metrics.sends.get(),
        deliveries_nsq: core.metrics.deliveries_nsq.get(),
        deliveries_log: core.metrics.deliveries_log.get(),
        store: store.is_ok(),
        broker: broker
            .into_iter()
            .map(|server| ServerView { node: server.node, role: server.role, problem: server.problem })
            .collect(),
        terminations_unfinished: unfinished,
    }
}
