//! A chat gets another node of the broker, when its own has been away for `KEEPSTEP_NSQD_GIVE_UP`.
//!
//! 1. A new one is chosen, by rendezvous hash over those that are well.
//! 2. Every subscribed device gets its queue there, durably: before the first message.
//! 3. The chat's record is changed, if it is still as it was found. From here what is sent goes to the new node, and what
//!    waits in the outbox, too.
//! 4. Once more: a device that was registered meanwhile may have read the old node.
//!
//! Sessions learn it with the sweep of heads (`listen`). What the old node still holds when it comes back, devices have
//! had from the log; what not, its queues keep (`reconcile`, `session::placement`).

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

/// Chats that are moved in one pass of the reconciler, which has other work, too.
const MOST: usize = 500;
/// Chats under way at once, and queues of one chat: an nsqd makes them one by one anyway.
const PARALLEL: usize = 4;

/// Moves chats away from these nodes.
pub(super) async fn move_all(core: &Core, unplaced: &HashMap<ChatId, String>) {
    stream::iter(unplaced.iter().take(MOST))
        .for_each_concurrent(PARALLEL, |(chat, from)| async move {
            match move_chat(core, *chat, from).await {
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

/// The name of the work of changing where a chat is.
pub(super) fn work(chat: ChatId) -> String {
    format!("move.{}", chat.hex())
}

/// Where it is now; none: it stays, or somebody else was faster.
async fn move_chat(core: &Core, chat: ChatId, from: &str) -> Result<Option<String>, Problem> {
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

/// Makes the queues of all subscribed devices. Should it not move after all, they are strays, and removed.
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
