//! Trims the logs: of a chat with every 64th message, in the background; and of a silent chat, which has old messages, too, when
//! the reconciler's round comes by.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};
use tracing::instrument::Instrument;

use super::{Core, lock, quota, reconcile::Speed};
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
/// All chats are checked once in a 24th of the time that a log is kept, and at least this often; unless a round takes longer.
const ROUND: Duration = Duration::from_secs(3600);
/// Commands that the check of a chat costs ([`crate::store::Store::untrimmed`]), and a trim.
const OF_A_LOOK: usize = 5;
const OF_A_TRIM: usize = 30;
/// The name of this work.
const WORK: &str = "trim";

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

/// Returns the least time between two checks of a chat.
pub(super) fn period(core: &Core) -> Duration {
    (core.limits.log_age / 24).clamp(TURN, ROUND)
}

/// Schedules a trim of those of these chats that need one.
///
/// # Errors
/// When the store fails.
pub(super) async fn look(core: &Core, chats: &[ChatId], speed: Speed<'_>) -> Result<()> {
    speed.spend(chats.len() * OF_A_LOOK).await;
    for chat in core.store.untrimmed(chats).await? {
        speed.spend(OF_A_TRIM).await;
        core.sending.trims.due([chat]);
    }
    Ok(())
}

/// Trims one chat. A failed trim is repeated with its next messages, or in the next round.
async fn trim(core: &Core, chat: ChatId) {
    if let Err(error) = quota::settle(core, chat).await {
        tracing::debug!(%chat, %error, "a log isn't trimmed now");
    }
}
