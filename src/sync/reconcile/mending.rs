//! Repairs what was found twice. What can't be repaired now, or not yet, is returned: it is looked at again.

use super::{
    diff::{Drift, Speed},
    repair::{remove, remove_chat, remove_topic, restore},
};
use crate::{
    broker::QueueAt,
    domain::id::ChatId,
    store::UNBORN,
    sync::{Core, registration::complete_member},
};

/// The leave of the last member mostly deletes the chat within this time. (If both do it, nothing is lost.)
const LEAVING: std::time::Duration = std::time::Duration::from_secs(5);

/// Removes these queues. Returns those that couldn't be removed.
pub(super) async fn remove_orphans(core: &Core, speed: Speed<'_>, orphans: Vec<QueueAt>) -> Vec<QueueAt> {
    let mut left = Vec::new();
    for queue in orphans {
        // Of most that stay, the owner is read: they are foreign.
        speed.spend(1).await;
        let QueueAt { node, chat, device } = &queue;
        match remove(core, &queue).await {
            Ok(true) => {
                count(core, "orphan_removed");
                tracing::info!(%chat, %device, %node, "orphan queue removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %device, %node, error = %problem, "orphan queue removal failed; will retry");
                left.push(queue);
            }
        }
    }
    left
}

/// Repairs all of it, each item after a last check.
pub(super) async fn repair(core: &Core, speed: Speed<'_>, found: Drift) -> Drift {
    let mut left = Drift::default();
    left.orphans.extend(remove_orphans(core, speed, found.orphans.into_iter().collect()).await);
    for queue in found.missing {
        if !make_again(core, &queue).await {
            left.missing.insert(queue);
        }
    }
    for (chat, user) in found.unsubscribed {
        // It logs what it has done.
        if let Err(problem) = complete_member(core, chat, &user).await {
            tracing::warn!(%chat, %user, error = %problem, "subscribing a member's devices failed; will retry");
            left.unsubscribed.insert((chat, user));
        }
    }
    // Their edge died after the others had already dropped it, because it had been silent before.
    for (chat, _) in found.unconfirmed {
        count(core, "outbox_found");
        core.sending.relay.behind(chat);
    }
    for (chat, since) in found.empty_chats {
        if since.elapsed() < LEAVING || !delete(core, chat).await {
            left.empty_chats.insert(chat, since);
        }
    }
    for (chat, since) in found.absent {
        if since.elapsed() < UNBORN || !forget(core, chat).await {
            left.absent.insert(chat, since);
        }
    }
    for (node, chat) in found.topics {
        match remove_topic(core, &node, chat).await {
            Ok(true) => {
                count(core, "topic_removed");
                tracing::info!(%chat, %node, "stale placement of a chat removed");
            }
            Ok(false) => {}
            Err(problem) => {
                tracing::warn!(%chat, %node, error = %problem, "stale placement of a chat not removed; will retry");
                left.topics.insert((node, chat));
            }
        }
    }
    left
}

fn count(core: &Core, action: &str) {
    core.metrics.reconciler_actions.with_label_values(&[action]).inc();
}

/// Returns false if it must be tried again.
async fn make_again(core: &Core, queue: &QueueAt) -> bool {
    let QueueAt { node, chat, device } = queue;
    match restore(core, queue).await {
        Ok(true) => {
            count(core, "queue_restored");
            tracing::warn!(%chat, %device, %node, "missing queue created again: the log fills its gap");
        }
        Ok(false) => {}
        Err(problem) => {
            tracing::warn!(%chat, %device, %node, error = %problem, "creating a missing queue failed; will retry");
            return false;
        }
    }
    true
}

/// Returns false if it must be tried again.
async fn delete(core: &Core, chat: ChatId) -> bool {
    match remove_chat(core, chat).await {
        Ok(true) => {
            count(core, "chat_removed");
            tracing::info!(%chat, "empty chat removed");
        }
        Ok(false) => {}
        Err(problem) => {
            tracing::warn!(%chat, error = %problem, "empty chat removal failed; will retry");
            return false;
        }
    }
    true
}

/// Returns false if it must be tried again.
async fn forget(core: &Core, chat: ChatId) -> bool {
    match core.store.unlist_unborn(chat).await {
        Ok(true) => tracing::debug!(%chat, "the id of a chat that never came to be is forgotten"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(%chat, %error, "id of a chat that was never created not removed; will retry");
            return false;
        }
    }
    true
}
