//! One lane for each node of the broker: its own queue and its own places, so that a node that hangs holds up what goes to
//! it and nothing else.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{super::outbox::Slots, Core, Job};
use crate::{
    broker::BrokerError,
    domain::{Seq, id::ChatId},
};

/// Messages waiting to be published to one node. Beyond it they wait in their outbox instead.
const WAITING: usize = 8192;
/// The same in bytes, with those under way.
const WAITING_BYTES: usize = 32 << 20;
/// Publishes under way to one node at once: enough to keep its connection full.
const UNDER_WAY: usize = 1024;
/// Chats whose confirmations are written at a time.
const NOTING: usize = 32;

/// Where senders leave their messages for one node.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) node: String,
    jobs: mpsc::Sender<Job>,
    bytes: AtomicUsize,
    pub(super) slots: Slots,
}

/// The other end of a lane: what its task takes from.
#[derive(Debug)]
pub(in crate::sync) struct Intake {
    lane: Arc<Lane>,
    jobs: mpsc::Receiver<Job>,
}

impl Lane {
    pub(super) fn new(node: String) -> (Arc<Self>, Intake) {
        let (sender, jobs) = mpsc::channel(WAITING);
        let lane =
            Arc::new(Self { node, jobs: sender, bytes: AtomicUsize::new(0), slots: Slots::new(UNDER_WAY) });
        (lane.clone(), Intake { lane, jobs })
    }

    /// Never waits. What there is no room for comes back.
    pub(super) fn take(&self, job: Job) -> Result<(), Job> {
        let bytes = job.frame.len();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > WAITING_BYTES {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(job);
        }
        self.jobs.try_send(job).map_err(|error| {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            match error {
                TrySendError::Full(job) | TrySendError::Closed(job) => job,
            }
        })
    }
}

/// Publishes what senders hand over, in their order, and notes what NSQ has confirmed, as many as there are at a time.
pub(in crate::sync) async fn run(core: Arc<Core>, intake: Intake) {
    let Intake { lane, mut jobs } = intake;
    // Unordered, because a message is confirmed when it is. Each is first polled, and with it given to the node's connection,
    // in the order it was put in.
    let mut under_way = FuturesUnordered::new();
    let mut confirmed: HashMap<ChatId, Vec<Seq>> = HashMap::new();
    let mut noting = false;
    // As many as may be under way: where each can be seen to wait.
    let mut slots: Vec<usize> = (0..UNDER_WAY).rev().collect();
    let (noted, mut done) = mpsc::channel::<()>(1);
    loop {
        if !noting && !confirmed.is_empty() {
            // One write under way at a time: what gathers meanwhile goes out as one.
            noting = true;
            let (core, batch, noted) = (core.clone(), std::mem::take(&mut confirmed), noted.clone());
            let tasks = core.drain.clone();
            tasks.spawn_background(async move {
                note_confirmed(&core, batch).await;
                let _ = noted.send(()).await;
            });
        }
        tokio::select! {
            biased;
            Some(()) = done.recv() => noting = false,
            Some((chat, seq, since, bytes, place, result)) = under_way.next(), if !under_way.is_empty() => {
                lane.bytes.fetch_sub(bytes, Ordering::Relaxed);
                lane.slots.set(place, None);
                slots.push(place);
                match result {
                    Ok(()) => confirmed.entry(chat).or_default().push(seq),
                    Err(error) if core.relay.gives_up(&core, chat, seq, &error) => {
                        confirmed.entry(chat).or_default().push(seq);
                    }
                    Err(error) => {
                        tracing::debug!(%chat, seq, %error, "not confirmed: stays in the outbox");
                        core.relay.outbox.leave(chat, lane.node.clone(), 1, since);
                        core.relay.outbox.closed(1);
                    }
                }
            }
            job = jobs.recv(), if under_way.len() < UNDER_WAY => {
                let Some(Job { chat, seq, frame, since, .. }) = job else { return };
                // There is one, because fewer are under way.
                let place = slots.pop().unwrap_or(UNDER_WAY);
                lane.slots.set(place, Some(since));
                let (core, lane, bytes) = (core.clone(), lane.clone(), frame.len());
                under_way.push(async move {
                    let published: Result<(), BrokerError> = core.broker.publish(&lane.node, chat, frame).await;
                    (chat, seq, since, bytes, place, published)
                });
            }
        }
    }
}

async fn note_confirmed(core: &Core, batch: HashMap<ChatId, Vec<Seq>>) {
    futures_util::stream::iter(batch)
        .for_each_concurrent(NOTING, |(chat, seqs)| async move {
            let noted = core.store.published(chat, &seqs).await;
            core.relay.outbox.closed(seqs.len());
            if let Err(error) = noted {
                // They'd be published a second time; seq removes that.
                tracing::debug!(%chat, %error, "confirmed messages stay in the outbox for now");
                core.relay.outbox.leave(chat, String::new(), seqs.len(), Instant::now());
            }
        })
        .await;
}
