//! What a simulation asks of the embedded broker and no server does: time-outs, restarts, the loss of its disk.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{EmbeddedBroker, Queue};
use crate::{
    domain::id::{ChatId, DeviceId},
    simulation::queue::{At, Found},
};

impl EmbeddedBroker {
    /// Returns a broker that redelivers deliveries that aren't settled for this long, as NSQ does.
    #[must_use]
    pub fn with_msg_timeout(msg_timeout: Duration) -> Self {
        Self::made(Self::DEFAULT_LIMIT, Some(msg_timeout))
    }

    /// Restarts the broker: `found` returns, for each queue by its age, the state in which it is found then, and how
    /// many of the last accepted messages it has twice. `any` returns a random number below another. Returns how many
    /// messages are lost.
    pub fn restart(
        &self,
        mut found: impl FnMut(Duration) -> (Found, usize),
        mut any: impl FnMut(usize) -> usize,
    ) -> u64 {
        let mut lost = 0;
        for queue in self.in_order() {
            let (found, again) = found(queue.born().elapsed());
            lost += queue.restart(found, again, &mut any);
        }
        lost
    }

    /// Returns all queues, in an order that doesn't depend on the map's.
    fn in_order(&self) -> Vec<Arc<Queue>> {
        let all = self.chats();
        let mut queues: Vec<_> = all
            .iter()
            .flat_map(|(chat, of)| of.iter().map(move |(device, queue)| (*chat, *device, queue.clone())))
            .collect();
        queues.sort_unstable_by_key(|(chat, device, _)| (*chat, *device));
        queues.into_iter().map(|(_, _, queue)| queue).collect()
    }

    /// Returns the queue itself.
    pub(crate) fn queue(&self, chat: ChatId, device: DeviceId) -> Option<Arc<Queue>> {
        self.chats().get(&chat)?.get(&device).cloned()
    }

    /// Visits each message that a queue holds or held, and where it is.
    pub fn each(&self, chat: ChatId, device: DeviceId, look: impl FnMut(&Bytes, At)) {
        if let Some(queue) = self.queue(chat, device) {
            queue.each(look);
        }
    }

    /// Drops everything without a notice, as the loss of a disk does.
    pub fn vanish(&self) {
        self.chats().clear();
    }
}
