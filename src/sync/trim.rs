//! Letting go of what the logs keep no longer: of a chat with every 64th message, beside the way of the messages, and of
//! all chats once in a while, because a chat in which nobody speaks has old messages too.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tracing::instrument::Instrument;

use super::{Core, lock, quota};
use crate::{
    domain::{Seq, id::ChatId},
    spans,
    store::Result,
};

/// Messages of a chat between two trims.
const EVERY: Seq = 64;
/// How long a chat may wait for its trim.
const TURN: Duration = Duration::from_secs(1);
/// Chats that are trimmed at a time.
const PARALLEL: usize = 8;
/// All chats are looked at once in a 24th of the time that a log is kept, and at least so often. One edge does it for all.
const ROUND: Duration = Duration::from_secs(3600);
/// The name of that work.
const WORK: &str = "trim";
/// The pages of one round (256 of them) are spread over three quarters of it.
const PAUSES: u32 = 340;

/// Chats to be trimmed. Bounded by the chats to which is sent in a second.
#[derive(Debug, Default)]
pub(super) struct Trims(Mutex<HashSet<ChatId>>);

impl Trims {
    /// A chat has a message with this number now.
    pub(super) fn sent(&self, chat: ChatId, seq: Seq) {
        if seq.is_multiple_of(EVERY) {
            lock(&self.0).insert(chat);
        }
    }

    /// These are to be trimmed soon.
    pub(super) fn due(&self, chats: impl IntoIterator<Item = ChatId>) {
        lock(&self.0).extend(chats);
    }
}

pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(TURN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.trims.due(core.quotas.prune());
        let chats: Vec<ChatId> = lock(&core.trims.0).drain().collect();
        if !chats.is_empty() {
            let round = stream::iter(chats).for_each_concurrent(PARALLEL, |chat| trim(&core, chat));
            round.instrument(spans::round(WORK)).await;
        }
    }
}

pub(super) async fn all(core: Arc<Core>) {
    let period = (core.limits.log_age / 24).clamp(TURN, ROUND);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let work = async {
            let done = match core.store.try_acquire_lease(WORK, &core.edge, period * 3).await {
                Ok(true) => round(&core, period / PAUSES).await,
                // Another edge is at it.
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "old messages can't be looked for now");
            }
        };
        work.instrument(spans::round(WORK)).await;
    }
}

async fn round(core: &Core, pause: Duration) -> Result<()> {
    let mut next = Some(0);
    while let Some(page) = next {
        let page = core.store.subscriptions(page).await?;
        next = page.next;
        stream::iter(page.chats)
            .for_each_concurrent(PARALLEL, |subscriptions| trim(core, subscriptions.chat))
            .await;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// One chat. What fails is done with its next messages, or with the next round of all.
async fn trim(core: &Core, chat: ChatId) {
    if let Err(error) = quota::settle(core, chat).await {
        tracing::debug!(%chat, %error, "a log isn't trimmed now");
    }
}
