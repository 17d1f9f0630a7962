//! Hearing what moved: the store's events are hints, so each leads to reading again. Watch first, then read.
//!
//! Three ways lead to every fact, each slower and surer than the one before: the event, the re-reading after any gap in
//! what was heard, and the sweep.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{Core, paced, presence, signal};
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
    },
    store::{ReadOffset, Result, StoreEvent, Tip},
};

/// Chats whose tail is to be checked once NSQ has had its time. Bounded by the hub: a few per chat.
#[derive(Debug)]
pub(super) struct Tails {
    due: mpsc::UnboundedSender<(ChatId, Instant)>,
}

impl Tails {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(ChatId, Instant)>) {
        let (due, taken) = mpsc::unbounded_channel();
        (Self { due }, taken)
    }
}

fn rung(core: &Core, chat: ChatId, seq: Seq) {
    let now = Instant::now();
    if core.hub.doorbell(chat, seq, now) {
        let _ = core.tails.due.send((chat, now + core.timing.tail_check));
    }
}

/// All entries have the same delay, so they come due in the order they were put in.
pub(super) async fn tails(core: Arc<Core>, mut due: mpsc::UnboundedReceiver<(ChatId, Instant)>) {
    while let Some((chat, at)) = due.recv().await {
        sleep_until(at).await;
        core.hub.tail_check(chat);
    }
}

/// Takes the events. Each user's offsets are read at most once at a time; hints that come meanwhile make it once more.
pub(super) async fn run(core: Arc<Core>) {
    let Some(mut events) = core.store.take_events() else {
        tracing::error!("the store's events are taken already: offsets will only move by the sweep");
        return;
    };
    let mut reading: HashMap<UserId, bool> = HashMap::new();
    let mut reads = FuturesUnordered::new();
    loop {
        let mut again = HashSet::new();
        tokio::select! {
            biased;
            Some((user, offsets)) = reads.next(), if !reads.is_empty() => {
                told(&core, &user, offsets);
                if reading.remove(&user) == Some(true) {
                    again.insert(user);
                }
            }
            event = events.recv() => match event {
                None => return,
                Some(StoreEvent::ReadsChanged(user)) => {
                    again.insert(user);
                }
                Some(StoreEvent::Doorbell(chat, seq)) => rung(&core, chat, seq),
                Some(StoreEvent::Typing(chat, user)) => core.hub.typing(chat, &user),
                Some(StoreEvent::Presence(user)) => presence::hint(&core, user),
                Some(StoreEvent::Signal(user, payload)) => signal::deliver(&core, &user, &payload),
                Some(StoreEvent::Resubscribed) if planted!(NoReread) => {}
                Some(StoreEvent::Resubscribed) => {
                    tracing::info!("notifications were interrupted: reading everything watched again");
                    // An older copy of the data may be back, without the notes.
                    core.notes.forget_all();
                    again.extend(core.hub.users());
                    presence::reread(&core);
                    ring_heads(&core).await;
                }
            },
        }
        for user in again {
            if let Some(more) = reading.get_mut(&user) {
                *more = true;
            } else {
                reading.insert(user.clone(), false);
                let core = core.clone();
                reads.push(async move {
                    let offsets = core.store.reads(&user).await;
                    (user, offsets)
                });
            }
        }
    }
}

fn told(core: &Core, user: &UserId, offsets: Result<HashMap<ChatId, ReadOffset>>) {
    match offsets {
        Ok(offsets) => core.hub.push_reads(user, &offsets),
        Err(error) => tracing::warn!(%user, %error, "read offsets can't be read; the sweep will"),
    }
}

/// The last resort: heads every few seconds (a lost doorbell; and which nsqd carries each chat); offsets and chats every few
/// seconds (lost notifications and signals: another edge may have switched them on again before this one noticed that they
/// were off).
pub(super) async fn sweep(core: Arc<Core>) {
    let ticks = |period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let heads = async {
        let mut ticks = ticks(core.timing.tail_sweep);
        loop {
            ticks.tick().await;
            ring_heads(&core).await;
        }
    };
    let offsets = async {
        let (core, mut ticks) = (&core, ticks(core.timing.reads_sweep));
        loop {
            ticks.tick().await;
            if planted!(NoReread) {
                continue;
            }
            let read = |user| async move {
                let (offsets, chats) = tokio::join!(core.store.reads(&user), core.store.chats_of(&user));
                told(core, &user, offsets);
                // Nothing else would ever tell a session of a chat whose signal was lost.
                if let Ok(chats) = chats
                    && !planted!(NoChatSweep)
                {
                    core.hub.compare_chats(&user, &chats);
                }
            };
            paced(core.hub.users(), core.timing.reads_sweep, read).await;
        }
    };
    tokio::join!(heads, offsets);
}

async fn ring_heads(core: &Core) {
    for chats in core.hub.chats().chunks(500) {
        match core.store.tips(chats).await {
            Ok(tips) => {
                for (chat, Tip { head, node }) in chats.iter().zip(tips) {
                    core.hub.placed(*chat, &node);
                    rung(core, *chat, head);
                }
            }
            Err(error) => return tracing::debug!(%error, "heads can't be read now"),
        }
    }
}
