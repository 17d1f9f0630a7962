//! Relocates chats whose nsqd has been away for `KEEPSTEP_NSQD_GIVE_UP`.
//!
//! 1. Choose a new node, by rendezvous hash over the healthy ones.
//! 2. Create the queue of every subscribed device there, durably: before the first message.
//! 3. Change the chat's record, if it is still as found. From here on sends, and the messages in the outbox, go to the new
//!    node.
//! 4. Repeat step 2: a device that was registered meanwhile may have read the old node.
//!
//! Sessions learn it with the sweep of heads (`listen`). When the old node comes back, its queues keep what devices haven't had
//! from the log (`reconcile`, `session::placement`).

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Core, reconcile::restore, with_lease::with_lease};
use crate::{
    broker::QueueAt,
    domain::{
        device::DeviceState,
        id::{ChatId, DeviceId},
    },
    protocol::Problem,
};

/// Chats that are relocated at a time by the reconciler, which has other work, too.
pub(super) const MOST: usize = 500;
/// Chats at once, and queues of one chat: an nsqd creates them one by one anyway.
const PARALLEL: usize = 4;

/// Relocates chats from these nodes.
pub(super) async fn relocate_all(core: &Core, unplaced: &HashMap<ChatId, String>) {
    stream::iter(unplaced.iter().take(MOST))
        .for_each_concurrent(PARALLEL, |(chat, from)| async move {
            match relocate(core, *chat, from).await {
                Ok(Some(to)) => {
                    core.metrics.reconciler_actions.with_label_values(&["chat_moved"]).inc();
                    tracing::warn!(%chat, from, to, "chat relocated: its nsqd is down");
                }
                Ok(None) => {
                    tracing::debug!(%chat, from, "chat not relocated: no other nsqd is up, or it was relocated already")
                }
                Err(problem) => tracing::warn!(%chat, from, error = %problem, "chat relocation failed; will retry"),
            }
        })
        .await;
}

/// The name of the leased work on a chat's placement.
pub(super) fn work(chat: ChatId) -> String {
    format!("move.{}", chat.hex())
}

/// Returns the new node; none: it stays, or another edge was faster.
async fn relocate(core: &Core, chat: ChatId, from: &str) -> Result<Option<String>, Problem> {
    let Some(to) = core.broker.place_elsewhere(chat, from) else { return Ok(None) };
    let moved = async {
        provision(core, chat, &to).await?;
        if !core.store.move_chat(chat, from, &to).await? {
            return Ok(None);
        }
        provision(core, chat, &to).await?;
        Ok(Some(to))
    };
    with_lease(core, &work(chat), moved).await
}

/// Creates the queues of all subscribed devices. If the chat doesn't move after all, they are orphans, and removed.
async fn provision(core: &Core, chat: ChatId, to: &str) -> Result<(), Problem> {
    let node = Arc::<str>::from(to);
    let queues = subscribed_devices(core, chat).await?.into_iter().map(|device| QueueAt {
        node: node.clone(),
        chat,
        device,
    });
    let made = queues.map(|queue| async move { restore(core, &queue).await.map(drop) });
    stream::iter(made.collect::<Vec<_>>()).buffer_unordered(PARALLEL).try_collect().await
}

async fn subscribed_devices(core: &Core, chat: ChatId) -> Result<Vec<DeviceId>, Problem> {
    let mut devices = Vec::new();
    for member in core.store.members(chat).await? {
        for device in core.store.devices(&member.user).await? {
            if device.state != DeviceState::Terminating
                && core.store.position(chat, device.id).await?.is_some()
            {
                devices.push(device.id);
            }
        }
    }
    Ok(devices)
}
