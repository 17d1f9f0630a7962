//! From which node of the broker a session takes a chat: the one that carries it; another, when the chat has moved; and
//! for a while also one that carried it before, when only that holds what the device is still owed.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Boxed, Session, work::Done};
use crate::{
    broker::Subscription,
    domain::id::ChatId,
    hub::SessionHandle,
    store::Result as Stored,
    sync::{Core, leases, registration},
};

impl Session {
    /// Takes what this node's queue of a chat holds. (The one place at which a session subscribes.)
    pub(super) fn subscribe(&self, node: &str, chat: ChatId) -> Subscription {
        self.core.broker.subscribe(node, chat, self.handle.device, &self.prefetch, self.sink.clone())
    }

    /// The chat is carried by this node.
    pub(super) fn on_placed(&mut self, chat: ChatId, node: Arc<str>) {
        if self.chats.get(&chat).is_some_and(|state| state.node != node) {
            tracing::debug!(%chat, device = %self.handle.device, %node, "the chat has moved");
            self.subscribe_at(chat, node);
        }
    }

    fn subscribe_at(&mut self, chat: ChatId, node: Arc<str>) {
        let subscription = self.subscribe(&node, chat);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        // What was held came from the old one, and goes back there.
        state.loses_its_queue();
        state.node = node;
        state.subscription = Some(subscription);
        self.look_at(chat, Instant::now() + self.core.timing.tail_check);
    }

    /// A node that carried the chat before holds something that is owed: it is taken from there, too.
    pub(super) fn subscribe_former(&mut self, chat: ChatId, node: &Arc<str>) {
        let Some(state) = self.chats.get(&chat) else { return };
        if state.node == *node || state.former.iter().any(|former| former.0 == *node) {
            return;
        }
        tracing::info!(%chat, device = %self.handle.device, %node, "what is owed comes from where the chat was");
        let subscription = self.subscribe(node, chat);
        if let Some(state) = self.chats.get_mut(&chat) {
            state.former.push((node.clone(), subscription));
        }
    }

    /// The queue of a chat has gone: made again, if the device still is owed it.
    pub(super) fn rejoin(&mut self, chat: ChatId) {
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.push(Boxed::new(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                match provision_again(&core, &handle, chat).await {
                    Ok(node) => return Done::Resubscribe(chat, node.map(Into::into)),
                    Err(error) => tracing::debug!(%chat, %error, "whether a queue is owed isn't known yet"),
                }
            }
        }));
    }

    /// Goes on with a chat whose queue was made again.
    pub(super) fn resubscribe(&mut self, chat: ChatId, node: Arc<str>) {
        if self.chats.get(&chat).is_some_and(|state| state.subscription.is_none()) {
            self.subscribe_at(chat, node);
        }
    }
}

/// Where the queue is again; none: it isn't owed to this session.
async fn provision_again(core: &Core, handle: &SessionHandle, chat: ChatId) -> Stored<Option<String>> {
    // The device's right first, what it is owed second: a queue that was just removed for good must not come back.
    let device = handle.device;
    if !leases::holds(core, handle).await? || core.store.owed(chat, device).await?.is_none() {
        return Ok(None);
    }
    let Some(found) = core.store.chat(chat).await? else { return Ok(None) };
    if let Err(error) =
        registration::provision_living(core, &handle.user, device, &[(chat, found.node.clone())]).await
    {
        tracing::warn!(%chat, %device, %error, "a queue that was removed can't be made again yet");
    }
    Ok(Some(found.node))
}
