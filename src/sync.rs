//! The use cases: what a device, a chat, a message and a termination *mean*. Everything above asks this floor;
//! everything below (store, broker, hub) knows nothing of each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    broker::Broker,
    config::{Limits, Timing},
    domain::{
        id::UserId,
        rate::{Rate, Verdict},
    },
    drain::Drain,
    hub::{Hub, LeaseClock},
    metrics::Metrics,
    protocol::{ErrorCode, Problem},
    store::{Store, StoreError},
};

pub mod admin;
pub mod bootstrap;
pub mod connect;
pub mod console;
pub mod cursors;
pub mod expiry;
pub mod lapse;
pub mod leases;
pub mod links;
pub mod listen;
pub mod membership;
pub mod name;
mod notes;
mod outbox;
mod placement;
pub mod presence;
pub mod read;
pub mod reconcile;
pub mod registration;
pub mod relay;
pub mod send;
pub mod signal;
pub mod termination;
pub mod trim;
mod turn;
pub mod typing;

/// What every use case works with; one per edge.
#[derive(Debug)]
pub struct Core {
    /// Truth and order.
    pub store: Store,
    /// The queues.
    pub broker: Broker,
    /// Who is connected here.
    pub hub: Hub,
    /// What is counted.
    pub metrics: Metrics,
    /// The end.
    pub drain: Drain,
    /// Sizes.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// This edge's name.
    pub edge: String,
    /// Whose that is.
    pub name: name::EdgeName,
    relay: relay::Relay,
    cursors: cursors::CursorWriter,
    tails: listen::Tails,
    looks: presence::Looks,
    typists: typing::Typists,
    trims: trim::Trims,
    // Sessions of this edge that ended without giving their lease back, perhaps of an earlier run under its name.
    lapsing: lapse::Lapsing,
    // Until when the others take this edge for alive; and how the others are.
    alive: LeaseClock,
    others: lapse::Others,
    // How often users without a socket send here; those who pause are forgotten.
    rates: Mutex<HashMap<UserId, Rate>>,
    notes: notes::Notes,
    // What is shown to admins.
    console: console::Console,
    // Pages that wait here for their link to be decided.
    polls: links::Polls,
}

impl Core {
    /// Puts the parts together and starts the edge's background work, which ends with `drain`.
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
        let (looks, watched) = presence::Looks::new();
        let core = Arc::new(Self {
            store,
            broker,
            hub: Hub::default(),
            metrics,
            drain,
            limits,
            timing,
            edge: name.as_str().to_owned(),
            name,
            relay,
            cursors: cursors::CursorWriter::default(),
            tails,
            looks,
            typists: typing::Typists::default(),
            trims: trim::Trims::default(),
            lapsing: lapse::Lapsing::default(),
            alive: LeaseClock::new(Duration::ZERO),
            others: lapse::Others::default(),
            rates: Mutex::default(),
            notes: notes::Notes::default(),
            console,
            polls: links::Polls::default(),
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
        core.drain.spawn_background(leases::run(core.clone()));
        core.drain.spawn_background(termination::resume(core.clone()));
        core.drain.spawn_background(reconcile::run(core.clone()));
        core.drain.spawn_background(expiry::run(core.clone()));
        core.drain.spawn_background(trim::run(core.clone()));
        core.drain.spawn_background(trim::all(core.clone()));
        core.drain.spawn_background(lapse::run(core.clone()));
        core.drain.spawn_background(presence::run(core.clone(), watched));
        core.drain.spawn_background(presence::sweep(core.clone()));
        core
    }

    /// Counts one more of somebody's `what` in this minute; over `most` it is refused.
    pub(crate) async fn limit(
        &self,
        what: &str,
        whose: impl std::fmt::Display,
        most: u32,
    ) -> Result<(), Problem> {
        let count = self.store.count(&format!("{what}.{whose}"), Duration::from_secs(60)).await?;
        if count > u64::from(most) {
            return Err(Problem::new(
                ErrorCode::TooManyRequests,
                format!("at most {most} of these per minute: wait a minute and try again"),
            ));
        }
        Ok(())
    }
}

impl Core {
    /// One message sent over HTTP: the limit of a socket, but refused at once, because there is no reading to slow down.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub fn may_send(&self, user: &UserId) -> Result<(), Problem> {
        const USERS: usize = 10_000;
        let now = Instant::now();
        let mut rates = lock(&self.rates);
        if rates.len() >= USERS {
            rates.retain(|_, rate| !rate.is_full(now));
        }
        let (per_second, burst) = (self.limits.frames_per_second, self.limits.frames_burst);
        let rate = rates.entry(user.clone()).or_insert_with(|| Rate::new(per_second, burst, now));
        match rate.frame(now, Duration::ZERO) {
            Verdict::Take => Ok(()),
            Verdict::Delay(_) | Verdict::Refuse => Err(Problem::new(
                ErrorCode::TooManyRequests,
                format!("at most {per_second} messages per second"),
            )),
        }
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

/// Works through a list that comes up once a `period`, evenly over three quarters of it: all at once would hold up for
/// milliseconds whoever sends meanwhile. At most 256 at a time; none waits for another.
async fn paced<T, F: Future<Output = ()>>(items: Vec<T>, period: Duration, work: impl FnMut(T) -> F) {
    let (begun, count) = (Instant::now(), items.len().max(1) as f64);
    stream::iter(items.into_iter().enumerate())
        .then(|(n, item)| async move {
            tokio::time::sleep_until(begun + period.mul_f64(0.75 * n as f64 / count)).await;
            item
        })
        .for_each_concurrent(256, work)
        .await;
}

// What is kept under these locks is changed in one step each, so a poisoned lock is still good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
