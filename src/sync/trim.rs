//! Trims the logs: of a chat with every 64th message, in the background, and of all chats once in a while, because a silent chat
//! has old messages, too.

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
/// The longest wait of a chat for its trim.
const TURN: Duration = Duration::from_secs(1);
/// Chats that are trimmed at a time.
const PARALLEL: usize = 8;
/// All chats are checked once in a 24th of the time that a log is kept, and at least this often. One edge does it for all.
const ROUND: Duration = Duration::from_secs(3600);
/// The name of this leased work.
const WORK: &str = "trim";
/// The pages of one round (256 of them) are spread over three quarters of it.
const PAUSES: u32 = 340;

/// Chats to trim. Bounded by the chats with a send in the last second.
#[derive(Debug, Default)]
pub(super) struct Trims(Mutex<HashSet<ChatId>>);

impl Trims {
    /// A chat has a message with this number now.
    pub(super) fn sent(&self, chat: ChatId, seq: Seq) {
        if seq.is_multiple_of(EVERY) {
            lock(&self.0).insert(chat);
        }
    }

    /// Schedules a trim of these.
    pub(super) fn due(&self, chats: impl IntoIterator<Item = ChatId>) {
        lock(&self.0).extend(chats);
    }
}

pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(TURN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        core.sending.trims.due(core.sending.quotas.prune());
        let chats: Vec<ChatId> = lock(&core.sending.trims.0).drain().collect();
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
            let done = match core.store.try_acquire_lease(WORK, &core.edge.name, period * 3).await {
                Ok(true) => round(&core, period / PAUSES).await,
                // Another edge does it.
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "old messages not trimmed; will retry");
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

/// Trims one chat. A failed trim is repeated with its next messages, or in the next round.
async fn trim(core: &Core, chat: ChatId) {
    if let Err(error) = quota::settle(core, chat).await {
        tracing::debug!(%chat, %error, "a log isn't trimmed now");
    }
}
