//! One lane for each node of the broker: its own queue and its own slots, so that a hanging node delays only its own
//! messages.

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

/// Messages waiting for one node. Further ones wait in their outbox instead.
const WAITING: usize = 8192;
/// The same in bytes, including those in progress.
const WAITING_BYTES: usize = 32 << 20;
/// Concurrent publishes to one node: enough to keep its connection full.
const UNDER_WAY: usize = 1024;
/// Chats whose confirmations are written at a time.
const NOTING: usize = 32;

/// A lane's entrance for senders.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) node: String,
    jobs: mpsc::Sender<Job>,
    bytes: AtomicUsize,
    pub(super) slots: Slots,
}

/// The other end of a lane, for its task.
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

    /// Never waits. Returns a message without room.
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

/// Publishes messages in the order of hand-over, and records NSQ's confirmations in batches.
pub(in crate::sync) async fn run(core: Arc<Core>, intake: Intake) {
    let Intake { lane, mut jobs } = intake;
    // Unordered, because confirmations come in any order. Each is polled first, and thereby given to the node's connection, in the
    // order of insertion.
    let mut under_way = FuturesUnordered::new();
    let mut confirmed: HashMap<ChatId, Vec<Seq>> = HashMap::new();
    let mut noting = false;
    // One slot for each publish in progress, for its waiting time.
    let mut slots: Vec<usize> = (0..UNDER_WAY).rev().collect();
    let (noted, mut done) = mpsc::channel::<()>(1);
    loop {
        if !noting && !confirmed.is_empty() {
            // One write at a time: confirmations that gather meanwhile go out as the next.
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
                    Err(error) if core.sending.relay.gives_up(&core, chat, seq, &error) => {
                        confirmed.entry(chat).or_default().push(seq);
                    }
                    Err(error) => {
                        tracing::debug!(%chat, seq, %error, "not confirmed: stays in the outbox");
                        core.sending.relay.outbox.leave(chat, lane.node.clone(), 1, since);
                        core.sending.relay.outbox.closed(1);
                    }
                }
            }
            job = jobs.recv(), if under_way.len() < UNDER_WAY => {
                let Some(Job { chat, seq, frame, since, .. }) = job else { return };
                // One is free, because fewer are in progress.
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
            core.sending.relay.outbox.closed(seqs.len());
            if let Err(error) = noted {
                // They would be published again; the seq removes duplicates.
                tracing::debug!(%chat, %error, "confirmed messages stay in the outbox for now");
                core.sending.relay.outbox.leave(chat, String::new(), seqs.len(), Instant::now());
            }
        })
        .await;
}
