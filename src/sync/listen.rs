//! Handles the store's events. They are hints, so each leads to a read. Watch first, then read.
//!
//! Every fact arrives in three ways, each slower and surer than the one before: the event, the read after any gap in the
//! subscription, and the sweep.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Core,
    budget::{Kind, Sweep},
    presence,
    rereads::{self, PARALLEL},
    signal, spread,
    watches::Watch,
};
use crate::{
    domain::{
        Seq,
        id::{ChatId, UserId},
    },
    hub::DoorbellOutcome,
    store::{ChatHead, StoreEvent},
};

/// Commands that a chat's head costs; and a user's offsets and list of chats.
const OF_A_HEAD: usize = 1;
const OF_A_USER: usize = 2;
/// After events were missed: heads per call, and calls at a time.
const HEADS: usize = 500;
const HEADS_PARALLEL: usize = 4;
/// After events were missed, everything is read again, one read in this time at most, so that it delays no send.
pub(super) const APART: Duration = Duration::from_millis(1);

/// Requests for one more pass of reads, because events may have been missed; repeated requests coalesce.
#[derive(Debug, Default)]
pub(super) struct Passes {
    heads: Notify,
    offsets: Notify,
    /// For presence.
    pub(super) presence: Notify,
}

/// Chats whose tail is checked once NSQ has had its time. Bounded by the hub: a few per chat.
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

fn on_doorbell(core: &Core, chat: ChatId, seq: Seq) {
    let now = Instant::now();
    match core.hub.doorbell(chat, seq, now) {
        DoorbellOutcome::Check => drop(core.watching.tails.due.send((chat, now + core.timing.tail_check))),
        DoorbellOutcome::Known => {}
        DoorbellOutcome::NobodyHere => core.watching.watches.idle([Watch::Chat(chat)]),
    }
}

/// All entries have the same delay, so they are due in the order of insertion.
pub(super) async fn tails(core: Arc<Core>, mut due: mpsc::UnboundedReceiver<(ChatId, Instant)>) {
    while let Some((chat, at)) = due.recv().await {
        sleep_until(at).await;
        core.hub.tail_check(chat);
    }
}

/// Dispatches events. Waits for none of their consequences.
pub(super) async fn run(core: Arc<Core>) {
    let Some(mut events) = core.store.take_events() else {
        tracing::error!("the store's events are taken already: offsets will only move by the sweep");
        return;
    };
    let mut offset = core.store.sequence_offset();
    while let Some(event) = events.recv().await {
        match event {
            StoreEvent::ReadsChanged(user) if core.hub.has_user(&user) => core.watching.rereads.ask(&user),
            StoreEvent::ReadsChanged(user) => core.watching.watches.idle([Watch::User(user)]),
            StoreEvent::Doorbell(chat, seq) => on_doorbell(&core, chat, seq),
            StoreEvent::Queued(chat, devices) => core.hub.queued(chat, &devices),
            StoreEvent::Typing(chat, user) => core.hub.typing(chat, &user),
            StoreEvent::Presence(user) => presence::hint(&core, user),
            StoreEvent::Signal(user, payload) => signal::deliver(&core, &user, &payload),
            StoreEvent::Resubscribed => {
                tracing::info!("keyspace events were interrupted: reading everything again");
                // Redis may be an older copy, without the sender registry.
                core.sending.senders.forget_all();
                // Then queues may hold messages whose doorbell nobody rings again.
                let before = std::mem::replace(&mut offset, core.store.sequence_offset());
                if offset > before {
                    core.hub.wake_all();
                }
                let Passes { heads, offsets, presence } = &core.watching.passes;
                [heads, offsets, presence].into_iter().for_each(Notify::notify_one);
            }
        }
    }
}

/// The last resort, at the rate of the sweeps: heads (lost doorbells; relocated chats), offsets and chats (lost notifications and
/// signals: another edge may have switched the events on again before this one noticed). At once when events were missed.
pub(super) async fn sweep(core: Arc<Core>) {
    tokio::join!(heads(&core), offsets(&core));
}

async fn heads(core: &Core) {
    let sweep = Sweep::new(core, Kind::Heads);
    let mut ticks = interval(core.timing.tail_sweep);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let missed = &core.watching.passes.heads;
    loop {
        let mut is_missed = tokio::select! {
            biased;
            () = missed.notified() => true,
            _ = ticks.tick() => false,
        };
        if !is_missed {
            let chats = core.hub.chats();
            let pages = chats.chunks(sweep.call()).collect();
            is_missed = tokio::select! {
                biased;
                () = missed.notified() => true,
                () = sweep.visit(pages, |chats| chats.len() * OF_A_HEAD, |chats| ring(core, chats)) => false,
            };
        }
        // To its end: otherwise repeated interruptions would starve the last ones.
        if is_missed {
            ring_all(core, &core.hub.chats()).await;
        }
    }
}

async fn offsets(core: &Core) {
    let sweep = Sweep::new(core, Kind::Offsets);
    let period = core.timing.reads_sweep;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (missed, read) = (&core.watching.passes.offsets, |user| read(core, user));
    loop {
        let mut at_once = tokio::select! {
            biased;
            () = missed.notified() => true,
            _ = ticks.tick() => false,
        };
        if !at_once {
            at_once = tokio::select! {
                biased;
                () = missed.notified() => true,
                () = sweep.visit(core.hub.users(), |_| OF_A_USER, read) => false,
            };
        }
        // To its end: otherwise repeated interruptions would starve the last ones.
        if at_once {
            let users = core.hub.users();
            let over = period.min(APART * u32::try_from(users.len()).unwrap_or(u32::MAX));
            spread(users, over, PARALLEL, read).await;
        }
    }
}

/// Reads a user's offsets and chats: nothing else reports a chat whose signal was lost.
async fn read(core: &Core, user: UserId) {
    let ((), chats) = tokio::join!(rereads::read(core, &user), core.store.chats_of(&user));
    if let Ok(chats) = chats {
        core.hub.compare_chats(&user, &chats);
    }
}

/// Reads the heads of these chats, however many, and takes them for doorbells.
pub(super) async fn ring_all(core: &Core, chats: &[ChatId]) {
    let pages: Vec<_> = chats.chunks(HEADS).map(|chats| ring(core, chats)).collect();
    stream::iter(pages).buffer_unordered(HEADS_PARALLEL).collect::<()>().await;
}

/// Reads the heads of these chats, and takes them for doorbells.
async fn ring(core: &Core, chats: &[ChatId]) {
    match core.store.heads(chats).await {
        Ok(heads) => {
            for (chat, ChatHead { head, node }) in chats.iter().zip(heads) {
                core.hub.placed(*chat, &node);
                on_doorbell(core, *chat, head);
            }
        }
        Err(error) => tracing::debug!(%error, "heads can't be read now"),
    }
}
