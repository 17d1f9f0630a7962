//! The use cases: what a device, a chat, a message and a termination *mean*. Everything above asks this floor;
//! everything below (store, broker, hub) knows nothing of each other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    broker::Broker,
    config::{Limits, Timing},
    drain::Drain,
    hub::{Hub, LeaseClock},
    metrics::Metrics,
    protocol::{ErrorCode, Problem},
    store::{Store, StoreError},
};

mod acquaintance;
pub mod admin;
pub mod bootstrap;
mod budget;
pub mod connect;
pub mod console;
pub mod cursors;
pub mod expiry;
mod heartbeat;
mod labels;
pub mod links;
pub mod listen;
pub mod membership;
pub mod name;
mod outbox;
pub mod people;
mod placement;
pub mod presence;
mod quota;
pub mod rates;
pub mod read;
pub mod reconcile;
pub mod registration;
pub mod relay;
mod rereads;
pub mod send;
mod sender_registry;
pub mod session_check;
pub mod session_expiry;
pub mod signal;
pub mod termination;
pub mod trim;
pub mod typing;
mod watches;
mod with_lease;

/// The dependencies of every use case; one per edge.
#[derive(Debug)]
pub struct Core {
    /// Truth and order.
    pub store: Store,
    /// The queues.
    pub broker: Broker,
    /// The sessions of this edge.
    pub hub: Hub,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Shuts down in order.
    pub drain: Drain,
    /// Sizes.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// Who this edge is.
    pub edge: Edge,
    sending: Sending,
    watching: Watching,
    /// What may be asked of it.
    pub admission: Admission,
    // What is shown to admins.
    console: console::Console,
}

/// Who this edge is, and whether it and the others are alive.
#[derive(Debug)]
pub struct Edge {
    /// Its name.
    pub name: String,
    /// Whose that is.
    pub claim: name::EdgeName,
    // Sessions of this edge that ended without releasing their lease, perhaps of an earlier run under its name.
    session_expiry: session_expiry::Running,
    // The lease under which it serves, and the sessions that may have lost their device.
    heartbeat: heartbeat::Heartbeat,
    doubts: session_check::Doubts,
    // Until when others leave alone what this edge has registered; and how the others are.
    alive: LeaseClock,
    others: session_expiry::Others,
}

/// The state of what is sent, published and acknowledged.
#[derive(Debug)]
struct Sending {
    relay: relay::Relay,
    cursors: cursors::CursorWriter,
    trims: trim::Trims,
    quotas: quota::Quotas,
    senders: sender_registry::SenderRegistry,
}

/// The state of what is watched: heads, read offsets, presence, typing.
#[derive(Debug)]
struct Watching {
    tails: listen::Tails,
    passes: listen::Passes,
    rereads: rereads::Rereads,
    watches: watches::Watches,
    presence_reads: presence::PresenceReads,
    typists: typing::Typists,
}

/// How much is let in.
#[derive(Debug)]
pub struct Admission {
    /// How often devices and users may ask.
    pub rates: rates::Rates,
    // Pages that wait here for their link to be decided.
    polls: links::Polls,
}

impl Core {
    /// Assembles the core and starts the background tasks, which end with `drain`.
    #[must_use]
    pub fn start(
        store: Store,
        broker: Broker,
        metrics: Metrics,
        drain: Drain,
        limits: Limits,
        timing: Timing,
        name: impl Into<name::EdgeName>,
    ) -> Arc<Self> {
        let name = name.into();
        let (relay, intakes) = relay::Relay::new(broker.nodes().into_iter().map(|(node, _)| node));
        let (tails, due) = listen::Tails::new();
        let console = console::Console::new(timing.console_refresh);
        let (presence_reads, watched) = presence::PresenceReads::new();
        let core = Arc::new(Self {
            store,
            broker,
            hub: Hub::default(),
            metrics,
            drain,
            limits,
            timing,
            edge: Edge {
                name: name.as_str().to_owned(),
                heartbeat: heartbeat::Heartbeat::new(&name),
                claim: name,
                doubts: session_check::Doubts::default(),
                session_expiry: session_expiry::Running::default(),
                alive: LeaseClock::new(Duration::ZERO),
                others: session_expiry::Others::default(),
            },
            sending: Sending {
                relay,
                cursors: cursors::CursorWriter::default(),
                trims: trim::Trims::default(),
                quotas: quota::Quotas::default(),
                senders: sender_registry::SenderRegistry::default(),
            },
            watching: Watching {
                tails,
                passes: listen::Passes::default(),
                rereads: rereads::Rereads::default(),
                watches: watches::Watches::default(),
                presence_reads,
                typists: typing::Typists::default(),
            },
            admission: Admission { rates: rates::Rates::default(), polls: links::Polls::default() },
            console,
        });
        core.drain.spawn_background(cursors::run(core.clone()));
        for intake in intakes {
            core.drain.spawn_background(relay::run(core.clone(), intake));
        }
        core.drain.spawn_background(relay::heal(core.clone()));
        core.drain.spawn_background(relay::adopt(core.clone()));
        core.drain.spawn_background(relay::prune(core.clone()));
        core.drain.spawn_background(listen::run(core.clone()));
        core.drain.spawn_background(listen::tails(core.clone(), due));
        core.drain.spawn_background(listen::sweep(core.clone()));
        core.drain.spawn_background(rereads::run(core.clone()));
        core.drain.spawn_background(watches::run(core.clone()));
        core.drain.spawn_background(heartbeat::run(core.clone()));
        core.drain.spawn_background(session_check::run(core.clone()));
        core.drain.spawn_background(session_check::doubts(core.clone()));
        core.drain.spawn_background(termination::resume(core.clone()));
        core.drain.spawn_background(reconcile::run(core.clone()));
        core.drain.spawn_background(expiry::run(core.clone()));
        core.drain.spawn_background(labels::run(core.clone()));
        core.drain.spawn_background(trim::run(core.clone()));
        core.drain.spawn_background(session_expiry::run(core.clone()));
        core.drain.spawn_background(presence::run(core.clone(), watched));
        core.drain.spawn_background(presence::sweep(core.clone()));
        core
    }

    /// Returns how many edges live, this one included.
    fn live_edges(&self) -> usize {
        1 + self.edge.others.alive(session_expiry::dead_after(&self.timing))
    }

    /// Counts one more `what` in this minute; refuses it above `most`.
    pub(crate) async fn limit(
        &self,
        what: &str,
        whose: impl std::fmt::Display,
        most: u32,
    ) -> Result<(), Problem> {
        let name = format!("{what}.{whose}");
        let (count, left) = self.store.counted(&name, Duration::from_secs(60)).await?;
        if count > u64::from(most) {
            let detail = format!("at most {most} of these per minute: wait a minute and try again");
            return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(seconds(left)));
        }
        Ok(())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::new(
            ErrorCode::Unavailable,
            "the server can't reach its store now: try again, with the same ids and keys",
        )
        .because_of(&error)
    }
}

/// Returns a wait in whole seconds, rounded up.
pub(crate) fn seconds(wait: Duration) -> u32 {
    wait.as_secs_f64().ceil() as u32
}

/// Works through a list, spread evenly over this time, with bounded concurrency.
async fn spread<T, F: Future<Output = ()>>(
    items: Vec<T>,
    over: Duration,
    at_a_time: usize,
    work: impl FnMut(T) -> F,
) {
    let (begun, count) = (Instant::now(), items.len().max(1) as f64);
    stream::iter(items.into_iter().enumerate())
        .then(|(n, item)| async move {
            tokio::time::sleep_until(begun + over.mul_f64(n as f64 / count)).await;
            item
        })
        .for_each_concurrent(at_a_time, work)
        .await;
}

// State under these locks changes in one step, so a poisoned lock is still valid.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
