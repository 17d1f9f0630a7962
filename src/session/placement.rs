//! The broker nodes from which a session consumes a chat: its own node; another one, after a relocation; and for a while a
//! former one, if only that holds messages that the device lacks.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Boxed, Session, attaching::Stage, chats::ChatState, pending::Done};
use crate::{
    broker::{Event, Flow, Notice, Subscription},
    domain::id::ChatId,
    hub::SessionHandle,
    store::Result as Stored,
    sync::{Core, registration, session_check},
};

/// A subscription of a chat, with the number in its notices.
#[derive(Debug)]
pub(super) struct Consumer {
    number: u64,
    subscription: Subscription,
}

/// A subscription to a former node of the chat.
#[derive(Debug)]
pub(super) struct Former {
    pub node: Arc<str>,
    consumer: Consumer,
    // Whether it may have brought something on its present connection.
    attached: bool,
}

/// The subscription that a notice belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The one to the chat's own node.
    Own,
    /// One to a former node, at this index.
    Former(usize),
    /// A dropped one: its receipts are void already.
    Dropped,
}

impl Consumer {
    pub(super) fn into_subscription(self) -> Subscription {
        self.subscription
    }
}

impl Former {
    pub(super) fn into_subscription(self) -> Subscription {
        self.consumer.subscription
    }
}

impl ChatState {
    fn came_from(&self, number: u64) -> Origin {
        if let Stage::Consumed(own) = &self.place.stage
            && own.number == number
        {
            return Origin::Own;
        }
        let former = self.place.former.iter().position(|former| former.consumer.number == number);
        former.map_or(Origin::Dropped, Origin::Former)
    }

    /// Receipts so far can't be finished any more.
    fn voids(&mut self) {
        self.feed.void();
        if let Some(missing) = &mut self.fill.missing {
            missing.start_over();
        }
    }

    /// Receipts of its own queue can't be finished any more.
    pub(super) fn loses_its_queue(&mut self) {
        self.voids();
        self.place.attached.set(0);
        self.place.awaited.set(usize::from(!matches!(self.place.stage, Stage::Idle)));
    }
}

impl Session {
    /// Consumes the chat's queue at this node. (The only place where a session subscribes.)
    pub(super) fn subscribe(&mut self, node: &str, chat: ChatId) -> Consumer {
        self.delivery.subscriptions += 1;
        let number = self.delivery.subscriptions;
        let (broker, sink) = (&self.core.broker, self.delivery.sink.numbered(number));
        Consumer {
            number,
            subscription: broker.subscribe(node, chat, self.handle.device, &self.delivery.prefetch, sink),
        }
    }

    /// Handles an event of a subscription.
    pub(super) fn on_notice(&mut self, notice: Notice) {
        let Notice { chat, subscription, event } = notice;
        let Some(state) = self.chats.get_mut(&chat) else { return };
        let now = Instant::now();
        match (event, state.came_from(subscription)) {
            (_, Origin::Dropped) => {}
            (Event::Delivery(delivery), _) => self.on_delivery(chat, delivery),
            (Event::Torn(receipt), _) => self.on_torn(chat, receipt),
            (Event::Attached, Origin::Own) => {
                // The head shows what was missed meanwhile.
                state.seen.arrived = now;
                state.place.attached.set(1);
                state.place.awaited.set(0);
                if let Some(missing) = &mut state.fill.missing {
                    missing.hurry(now);
                }
                self.schedule_check(chat, now + self.core.timing.tail_check);
                self.watch_quiet(chat);
            }
            // All unfinished messages came on the lost connection, and are delivered again.
            (Event::Detached, Origin::Own) => state.loses_its_queue(),
            (Event::Gone, Origin::Own) => {
                // Removed while this session was away, or by mistake. Only the store knows whether the device is still subscribed.
                self.detaches(chat, Stage::Gone);
                self.rejoin(chat);
            }
            (Event::Attached, Origin::Former(at)) => state.place.former[at].attached = true,
            // Its server may stay away and be retried: receipts of the own queue stay valid.
            (Event::Detached, Origin::Former(at)) => {
                if std::mem::take(&mut state.place.former[at].attached) {
                    state.voids();
                }
            }
            (Event::Gone, Origin::Former(at)) => {
                if state.place.former.swap_remove(at).attached {
                    state.voids();
                }
            }
        }
    }

    /// The chat is on this node now.
    pub(super) fn on_chat_relocated(&mut self, chat: ChatId, node: Arc<str>) {
        if self.chats.get(&chat).is_some_and(|state| state.place.node != node) {
            tracing::debug!(%chat, device = %self.handle.device, %node, "the chat has moved");
            self.relocate(chat, node);
        }
    }

    /// Consumes the chat's queue at this node from now on, if it is consumed at all. Held messages came from the old node, and
    /// are requeued there.
    fn relocate(&mut self, chat: ChatId, node: Arc<str>) {
        self.detaches(chat, Stage::Idle);
        if let Some(state) = self.chats.get_mut(&chat) {
            state.place.node = node;
        }
        // Attached in any case: what the old node held is looked for.
        self.attach(chat);
    }

    /// A former node holds messages that the device lacks: consumes them, too.
    pub(super) fn subscribe_former(&mut self, chat: ChatId, node: &Arc<str>) {
        let Some(state) = self.chats.get(&chat) else { return };
        if state.place.node == *node || state.place.former.iter().any(|former| former.node == *node) {
            return;
        }
        tracing::info!(%chat, device = %self.handle.device, %node, "reading the rest of the queue from the chat's previous nsqd");
        let consumer = self.subscribe(node, chat);
        if let Some(state) = self.chats.get_mut(&chat) {
            state.place.former.push(Former { node: node.clone(), consumer, attached: false });
        }
    }

    /// A chat's queue is gone: creates it again, if the device is still subscribed.
    pub(super) fn rejoin(&mut self, chat: ChatId) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if std::mem::replace(&mut state.place.rejoining, true) {
            return;
        }
        let (core, handle) = (self.core.clone(), self.handle.clone());
        self.work.pending.push(Boxed::new(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                match provision_again(&core, &handle, chat).await {
                    Ok(node) => return Done::Rejoined(chat, node.map(Into::into)),
                    Err(error) => {
                        tracing::debug!(%chat, %error, "whether a device is subscribed isn't known yet")
                    }
                }
            }
        }));
    }

    /// Continues with a chat whose queue was created again; none: the device isn't subscribed.
    pub(super) fn on_rejoined(&mut self, chat: ChatId, node: Option<Arc<str>>) {
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.place.rejoining = false;
        // Otherwise its removal was intended.
        let Some(node) = node else { return self.check_membership(chat) };
        if matches!(state.place.stage, Stage::Gone) {
            self.relocate(chat, node);
        }
    }
}

/// Returns the node of the new queue; none: this session's device isn't subscribed.
async fn provision_again(core: &Core, handle: &SessionHandle, chat: ChatId) -> Stored<Option<String>> {
    // Device first, subscription second: a queue that was just removed for good must not come back.
    let device = handle.device;
    if !session_check::holds(core, handle).await? || core.store.position(chat, device).await?.is_none() {
        return Ok(None);
    }
    let Some(found) = core.store.chat(chat).await? else { return Ok(None) };
    let flow = Flow::of("again", &handle.user);
    if let Err(error) =
        registration::provision_living(core, &flow, &handle.user, device, &[(chat, found.node.clone())]).await
    {
        tracing::warn!(%chat, %device, %error, "creating a removed queue again failed; will retry");
    }
    Ok(Some(found.node))
}
