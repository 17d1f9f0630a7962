//! Sessions that ended without a word, because their edge died or the store couldn't be reached: when their lease has run
//! out, the user's other devices are told that the device is offline. Once, because the lease is taken away in that step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Core, connect};
use crate::{
    protocol::DeviceEvent,
    store::{Lapsed, NotedSession, Result},
};

/// How often it is looked whether leases have run out by now.
const LOOK: Duration = Duration::from_secs(1);
/// An edge that hasn't said that it lives for as long as a lease is dead to the others; but not sooner than this.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Sessions that are looked at at a time.
const PARALLEL: usize = 32;

/// Whether this edge's own sessions have to be looked at. At its start they have: it may have the name of one that died.
#[derive(Debug)]
pub(super) struct Lapsing(AtomicBool);

impl Default for Lapsing {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Lapsing {
    /// A session of this edge has ended and its lease stays.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says that this edge lives, and gives the edges that have died and left something.
///
/// # Errors
/// When the store fails.
pub(super) async fn dead_edges(core: &Core) -> Result<Vec<String>> {
    let (asked, dead_after) = (Instant::now(), dead_after(core));
    let dead = core.store.edge_alive(&core.edge, dead_after).await?;
    said_alive(core, asked);
    Ok(dead)
}

/// The store has learnt, by a call that was begun at `asked`, that this edge lives.
pub(super) fn said_alive(core: &Core, asked: Instant) {
    // The others may have taken it for dead meanwhile, and forgotten its notes.
    if core.alive.expired() {
        core.notes.forget_all();
    }
    // Half: what begins just before, such as an append, ends before the others take this edge for dead.
    core.alive.renewed(asked, dead_after(core) / 2);
}

/// For how long an edge has to be silent to be dead to the others.
pub(super) fn dead_after(core: &Core) -> Duration {
    core.timing.lease.max(DEAD_AFTER)
}

/// Looks at the sessions of edges that have died, and at those of this one that it doesn't have any more, until none is left.
pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = turn(&core).await {
            tracing::debug!(%error, "sessions that ended without a word can't be looked for now");
        }
    }
}

async fn turn(core: &Core) -> Result<()> {
    if core.lapsing.0.swap(false, Ordering::Relaxed) {
        let left = sessions(core, &core.edge).await;
        if !matches!(left, Ok(true)) {
            core.lapsing.begin();
        }
        left?;
    }
    for edge in dead_edges(core).await? {
        // One of the others is enough.
        if core.store.take_work(&format!("lapse.{edge}"), &core.edge, LOOK * 10).await? {
            sessions(core, &edge).await?;
        }
    }
    Ok(())
}

/// True: each of them is over.
async fn sessions(core: &Core, edge: &str) -> Result<bool> {
    let noted = core.store.noted_sessions(edge).await?;
    let looks = noted.into_iter().filter(|noted| edge != core.edge || !is_here(core, noted));
    let looks: Vec<_> = looks.map(|noted| look(core, edge, noted)).collect();
    let over: Vec<bool> = stream::iter(looks).buffer_unordered(PARALLEL).collect().await;
    Ok(!over.contains(&false))
}

fn is_here(core: &Core, noted: &NotedSession) -> bool {
    let sessions = core.hub.sessions_of(&noted.user);
    sessions.iter().any(|session| session.device == noted.device && session.session == noted.session)
}

async fn look(core: &Core, edge: &str, noted: NotedSession) -> bool {
    match core.store.lapse_session(edge, &noted).await {
        Ok(Lapsed::Now(seen)) => {
            connect::told_at(core, &noted.user, noted.device, DeviceEvent::Offline, seen).await;
            true
        }
        Ok(Lapsed::Before) => true,
        Ok(Lapsed::Held) | Err(_) => false,
    }
}
