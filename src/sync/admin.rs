//! The admin's views and actions: a user's devices, a device's queues with its positions, termination, kick.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    Core,
    console::order::{self, Key, Listing, Page},
    signal::{self, Signal},
};
use crate::{
    broker::QueueState,
    domain::{
        Millis, Seq,
        device::Device,
        id::{ChatId, DeviceId, UserId},
        message::accepted_at,
        names, now_millis,
    },
    protocol::{ErrorCode, Problem},
    store::Owner,
};

/// Chats that are read at a time.
const PARALLEL: usize = 32;

/// One queue of a device.
///
/// More than 12 fields: those of the answer.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelView {
    /// Which chat.
    pub chat: ChatId,
    /// NSQ topic.
    pub topic: String,
    /// NSQ channel.
    pub channel: String,
    /// The server; none if no server shows the queue.
    pub node: Option<String>,
    /// Waiting messages.
    pub depth: u64,
    /// Delivered, not finished.
    pub in_flight: u64,
    /// Times a message was requeued.
    pub requeues: u64,
    /// Attached consumers.
    pub consumers: u64,
    /// The edge of the first one.
    pub consumer: Option<String>,
    /// The highest seq acknowledged.
    pub cursor: Option<Seq>,
    /// The device's `from`.
    pub from: Option<Seq>,
    /// The chat's head.
    pub head: Option<Seq>,
    /// Age of the oldest unacknowledged message, in milliseconds, as far as the log goes back.
    pub oldest_ms: Option<u64>,
    /// When it was accepted. A sort key must not change with the time between two pages.
    #[serde(skip)]
    pub oldest_at: Option<Millis>,
}

impl ChannelView {
    /// The number of messages.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        self.depth + self.in_flight
    }
}

/// All queues of a device.
#[derive(Debug, Clone, Serialize)]
pub struct Channels {
    /// One line per queue, by chat.
    pub items: Vec<ChannelView>,
    /// Servers that didn't answer.
    pub unreachable: Vec<String>,
}

/// Returns the device, whoever owns it.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn find(core: &Core, device: DeviceId) -> Result<Device, Problem> {
    let owner = owner(core, device).await?;
    core.store.device(&owner.user, device).await?.ok_or_else(|| {
        let detail = match owner.terminated {
            Some(id) => format!("this device has been ended: see termination {id}"),
            None => NEVER.to_owned(),
        };
        Problem::new(ErrorCode::NotFound, detail)
    })
}

const NEVER: &str = "no device was ever registered under this id: `keepstep admin devices` lists them";

/// Returns the owner, present or past.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn owner(core: &Core, device: DeviceId) -> Result<Owner, Problem> {
    core.store.owner(device).await?.ok_or_else(|| Problem::new(ErrorCode::NotFound, NEVER))
}

/// Returns the queues of a device, with its positions.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn channels(core: &Core, device: DeviceId) -> Result<Channels, Problem> {
    channels_of(core, &find(core, device).await?).await
}

async fn channels_of(core: &Core, device: &Device) -> Result<Channels, Problem> {
    let (queues, unreachable) = core.broker.queues_of(device.id).await;
    let mut by_chat: HashMap<ChatId, Vec<QueueState>> = HashMap::new();
    for queue in queues {
        by_chat.entry(queue.chat).or_default().push(queue);
    }
    let mut chats = core.store.chats_of(&device.user).await?;
    chats.extend(by_chat.keys().copied());
    chats.sort_unstable();
    chats.dedup();
    let heads = core.store.heads(&chats).await?;
    let heads: HashMap<ChatId, Seq> = chats.iter().copied().zip(heads.iter().map(|head| head.head)).collect();
    // One queue, or none; two after a relocation, while the former nsqd still holds something.
    let views: Vec<_> = chats
        .into_iter()
        .map(|chat| {
            let head = heads.get(&chat).copied();
            chat_views(core, device.id, chat, head, by_chat.remove(&chat).unwrap_or_default())
        })
        .collect();
    let views: Vec<Vec<ChannelView>> = stream::iter(views).buffered(PARALLEL).try_collect().await?;
    Ok(Channels { items: views.into_iter().flatten().collect(), unreachable })
}

async fn chat_views(
    core: &Core,
    device: DeviceId,
    chat: ChatId,
    head: Option<Seq>,
    queues: Vec<QueueState>,
) -> Result<Vec<ChannelView>, Problem> {
    let position = core.store.position(chat, device).await?;
    if queues.is_empty() && position.is_none() {
        return Ok(Vec::new());
    }
    let at = match position {
        Some(position) if head.is_some_and(|head| head > position.cursor) => {
            at(core, chat, position.cursor + 1).await?
        }
        _ => None,
    };
    let oldest_ms = at.map(|at| now_millis().saturating_sub(at));
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
        cursor: position.map(|position| position.cursor),
        from: position.map(|position| position.from),
        head,
        oldest_ms,
        oldest_at: at,
    };
    if queues.is_empty() {
        return Ok(vec![view(None)]);
    }
    Ok(queues.iter().map(|queue| view(Some(queue))).collect())
}

/// Returns when the oldest message that the device hasn't acknowledged was sent; none: there is none, or the log doesn't go
/// back so far. nsqd doesn't know the age of its messages; the log does.
///
/// # Errors
/// `unavailable`.
pub(super) async fn oldest_at(
    core: &Core,
    chat: ChatId,
    device: DeviceId,
) -> Result<Option<Millis>, Problem> {
    let Some(position) = core.store.position(chat, device).await? else { return Ok(None) };
    at(core, chat, position.cursor + 1).await
}

async fn at(core: &Core, chat: ChatId, seq: Seq) -> Result<Option<Millis>, Problem> {
    let page = core.store.log(chat, seq, 1, 1).await?;
    Ok(page.messages.first().and_then(|(_, frame)| accepted_at(frame)))
}

/// Sort keys for the queues of a device; the first is the default.
pub const CHANNEL_SORTS: &[&str] = &["chat", "undelivered", "oldest", "requeues"];

impl Channels {
    /// Returns one page of them.
    ///
    /// # Errors
    /// `bad_field`.
    pub fn page(&self, listing: &Listing) -> Result<Page<'_, ChannelView>, Problem> {
        let search = listing.search.as_deref();
        let wanted = self
            .items
            .iter()
            .filter(|item| search.is_none_or(|search| order::id_has(item.chat.as_bytes(), search)));
        order::page(listing, wanted, |item| Key {
            number: match listing.sort {
                "undelivered" => item.undelivered(),
                "oldest" => item.oldest_at.map_or(0, |at| Millis::MAX - at),
                "requeues" => item.requeues,
                _ => order::by_id(item.chat.as_bytes()),
            },
            text: item.node.as_deref().unwrap_or(""),
            id: *item.chat.as_bytes(),
        })
    }
}

/// What a termination would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The device.
    pub device: Device,
    /// Its queues.
    pub channels: Channels,
    /// Queues and their messages, by server.
    pub nodes: Vec<NodeShare>,
}

/// A server's part of a device's queues.
#[derive(Debug, Clone, Serialize)]
pub struct NodeShare {
    /// The server.
    pub node: String,
    /// The device's queues there.
    pub queues: u64,
    /// The messages in them.
    pub undelivered: u64,
}

/// Previews a termination.
///
/// # Errors
/// `not_found`, `unavailable`.
pub async fn preview(core: &Core, device: DeviceId) -> Result<Preview, Problem> {
    let device = find(core, device).await?;
    let channels = channels_of(core, &device).await?;
    let mut nodes: BTreeMap<&str, NodeShare> = BTreeMap::new();
    for item in &channels.items {
        let Some(node) = item.node.as_deref() else { continue };
        let empty = || NodeShare { node: node.to_owned(), queues: 0, undelivered: 0 };
        let share = nodes.entry(node).or_insert_with(empty);
        share.queues += 1;
        share.undelivered += item.undelivered();
    }
    let nodes = nodes.into_values().collect();
    Ok(Preview { device, channels, nodes })
}

/// Closes all sockets of a user (4410), on any edge. Returns how many devices were connected.
///
/// # Errors
/// `unavailable`: the edges may not have been notified, and nothing else would notify them.
pub async fn kick(core: &Core, user: &UserId) -> Result<usize, Problem> {
    let devices = core.store.devices(user).await?;
    let connected = devices.iter().filter(|device| device.online()).count();
    // Sent in any case: a device may be connecting.
    signal::send(core, user, &Signal::Kicked).await.map_err(|error| {
        let detail = "the edges can't be told now, so the sockets may still be open: try again";
        Problem::new(ErrorCode::Unavailable, detail).because_of(&error)
    })?;
    Ok(connected)
}

#[cfg(test)]
#[path = "../../tests/unit/sync/admin.rs"]
mod tests;
