//! Repairs single items of drift, each after a last check.

use super::DIRECTORY;
use crate::{
    broker::{Flow, QueueAt, RemovalScope},
    domain::{
        device::DeviceState,
        id::{ChatId, UserId},
        termination::TerminationState,
    },
    protocol::Problem,
    store::Owner,
    sync::{
        Core, placement,
        registration::{membership_work, no_queue},
        with_lease::with_lease,
    },
};

/// True: it existed and is gone. False: it is wanted, was gone already, or is foreign.
pub(in crate::sync) async fn remove(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    match core.store.owner(queue.device).await? {
        Some(Owner { user, terminated: Some(id) }) => {
            let termination = core.store.termination(id).await?;
            // A termination in progress removes its queues itself, and records them in its receipt.
            if termination.is_some_and(|termination| termination.state != TerminationState::Done) {
                return Ok(false);
            }
            // Its user may be a member: its subscription goes all the same.
            core.store.forget_device(&user, queue.device, &[queue.chat]).await?;
            remove_everywhere(core, queue).await
        }
        Some(Owner { user, terminated: None }) => {
            let removed = async {
                match node_if_wanted(core, queue, &user).await? {
                    None => take_away(core, queue, Some(&user)).await,
                    Some(node) if *node == *queue.node || *queue.node == *DIRECTORY => Ok(false),
                    // The chat was relocated; or an nsqd that created a topic again created all channels that nsqlookupd knows.
                    Some(_) if is_needed(core, queue).await? => Ok(false),
                    Some(_) => {
                        let stray = core.broker.remove_stray(&queue.node, queue.chat, queue.device).await;
                        stray.map_err(no_queue)
                    }
                }
            };
            with_lease(core, &membership_work(queue.chat, &user), removed).await
        }
        // Of another deployment on the same nsqd, or made by hand: left alone.
        None => Ok(false),
    }
}

/// Returns whether a queue at a former node may hold messages that the device lacks and the log no longer has: then it stays until
/// the device has had them (see `session::placement`).
async fn is_needed(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    match core.broker.queue_at(queue).await {
        Ok(Some(here)) if here.depth + here.in_flight == 0 => return Ok(false),
        Ok(None) => return Ok(false),
        // It is unknown whether it holds something.
        Ok(Some(_)) | Err(_) => {}
    }
    let Some(position) = core.store.position(queue.chat, queue.device).await? else { return Ok(false) };
    Ok(core.store.log(queue.chat, position.cursor + 1, 1, 1).await?.floor > position.cursor + 1)
}

/// Unsubscribes the device, and removes the queue on every server, unless its user is a member again. (No user: the store doesn't
/// know the device.) True: something existed and is gone.
pub(in crate::sync) async fn take_away(
    core: &Core,
    queue: &QueueAt,
    user: Option<&UserId>,
) -> Result<bool, Problem> {
    if !core.store.unsubscribe_device(queue.chat, user, queue.device).await? {
        return Ok(false);
    }
    remove_everywhere(core, queue).await
}

/// Repairs take turns of their own.
fn flow() -> Flow {
    Flow::of("repair", "all")
}

async fn remove_everywhere(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    let removal =
        core.broker.remove_queues(&flow(), queue.device, &[queue.chat], RemovalScope::NamedChats).await;
    let forgotten = *queue.node == *DIRECTORY && removal.unreachable.is_empty();
    Ok(forgotten || !removal.removed.is_empty())
}

/// Deletes a chat whose deleting edge died, or couldn't reach the store. True: it is gone; its topic, too, or the next comparisons
/// remove that. False: it has members again.
pub(super) async fn remove_chat(core: &Core, chat: ChatId) -> Result<bool, Problem> {
    let deleted = core.store.delete_chat(chat).await?;
    if deleted {
        core.broker.remove_chat(chat).await;
    }
    Ok(deleted)
}

/// Removes a topic without channels, of a deleted or relocated chat. True: it is gone.
pub(super) async fn remove_topic(core: &Core, node: &str, chat: ChatId) -> Result<bool, Problem> {
    let removed = async {
        match core.store.chat(chat).await? {
            Some(found) if found.node == node => Ok(false),
            Some(_) => core.broker.remove_empty(node, chat).await.map_err(no_queue),
            None if core.store.was_deleted(chat).await? => {
                Ok(!core.broker.remove_chat(chat).await.iter().any(|silent| silent == node))
            }
            // Of another deployment, or being created.
            None => Ok(false),
        }
    };
    with_lease(core, &placement::work(chat), removed).await
}

/// True: it was missing and exists again.
pub(in crate::sync) async fn restore(core: &Core, queue: &QueueAt) -> Result<bool, Problem> {
    let user = match core.store.owner(queue.device).await? {
        Some(Owner { user, terminated: None }) => user,
        // It was terminated in the middle of a leave, and its user came back: then it looks subscribed.
        Some(Owner { terminated: Some(_), .. }) => return remove(core, queue).await.map(|_| false),
        None => return Ok(false),
    };
    let restored = async {
        if node_if_wanted(core, queue, &user).await?.is_none() {
            return Ok(false);
        }
        let made =
            core.broker.provision(&flow(), queue.device, &[(queue.chat, queue.node.to_string())]).await;
        made.map_err(no_queue)?;
        // A termination takes no turn: if one began and ended meanwhile, this would have restored a queue.
        if node_if_wanted(core, queue, &user).await?.is_some() {
            return Ok(true);
        }
        core.broker.remove_queues(&flow(), queue.device, &[queue.chat], RemovalScope::NamedChats).await;
        Ok(false)
    };
    with_lease(core, &membership_work(queue.chat, &user), restored).await
}

/// The last check before a change: returns where the queue belongs, because its device lives and its user is a member; none:
/// nowhere. (The device may not be subscribed yet: the adding edge died, and it will be.)
async fn node_if_wanted(core: &Core, queue: &QueueAt, user: &UserId) -> Result<Option<String>, Problem> {
    let device = core.store.device(user, queue.device).await?;
    if device.is_none_or(|device| device.state == DeviceState::Terminating) {
        return Ok(None);
    }
    let chat = core.store.chat_of_member(queue.chat, user).await?;
    Ok(chat.map(|(chat, _)| chat.node))
}
