//! Sessions that ended without a word, because their edge died or the store couldn't be reached: when their lease has run
//! out, the user's other devices are told that the device is offline. Once, because the lease is taken away in that step.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Core, connect, lock};
use crate::{
    config::Timing,
    domain::Millis,
    protocol::DeviceEvent,
    store::{Beat, Lapsed, NotedSession, OtherEdge, Result},
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

/// The other edges, as this one has heard of them: when each last said that it lives, and since when that stands by this
/// machine's monotonic clock. Bounded by the edges there are.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<HashMap<String, (Millis, Instant)>>);

impl Others {
    /// Those that are dead. One is if it is silent by the store's clock, which may jump; and by this machine's, too: then
    /// what it said last has stood for as long here. (Of one that was silent already when it was first heard of, only the
    /// store can tell.)
    fn dead(&self, heard: Vec<OtherEdge>, dead_after: Duration) -> Vec<OtherEdge> {
        let (mut others, now) = (lock(&self.0), Instant::now());
        others.retain(|name, _| heard.iter().any(|edge| edge.name == *name));
        let is_dead = |edge: &OtherEdge| {
            let Some((alive, since)) = others.get_mut(&edge.name) else {
                others.insert(edge.name.clone(), (edge.alive, now));
                return edge.silent;
            };
            if *alive != edge.alive {
                (*alive, *since) = (edge.alive, now);
            }
            // It was heard of up to one look after it spoke.
            edge.silent && now.duration_since(*since) + LOOK >= dead_after
        };
        heard.into_iter().filter(is_dead).collect()
    }
}

/// Says that this edge lives, and gives the edges that have died and left something.
///
/// # Errors
/// When the store fails.
pub(super) async fn dead_edges(core: &Core) -> Result<Vec<String>> {
    let dead = dead(core).await?.into_iter();
    Ok(dead.filter(|edge| edge.noted).map(|edge| edge.name).collect())
}

async fn dead(core: &Core) -> Result<Vec<OtherEdge>> {
    let (asked, dead_after) = (Instant::now(), dead_after(&core.timing));
    if core.name.waits() {
        return Ok(Vec::new());
    }
    match core.store.edge_alive(&core.edge, core.name.incarnation(), dead_after).await? {
        Beat::Heard(others) => {
            said_alive(core, asked);
            Ok(core.others.dead(others, dead_after))
        }
        Beat::NameTaken => {
            core.name.lose();
            Ok(Vec::new())
        }
    }
}

/// The store has learnt, by a call that was begun at `asked`, that this edge lives.
pub(super) fn said_alive(core: &Core, asked: Instant) {
    // The others may have taken it for dead meanwhile, forgotten its notes, and kept those of sessions that they gave up.
    if core.alive.expired() {
        core.notes.forget_all();
        core.lapsing.begin();
    }
    // Half: what begins just before, such as an append, ends before the others take this edge for dead.
    core.alive.renewed(asked, dead_after(&core.timing) / 2);
}

/// For how long an edge has to be silent to be dead to the others.
#[must_use]
pub fn dead_after(timing: &Timing) -> Duration {
    timing.lease.max(DEAD_AFTER)
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
    for edge in dead(core).await? {
        if !edge.noted {
            core.store.forget_edge(&edge).await?;
        } else if core.store.take_work(&format!("lapse.{}", edge.name), &core.edge, LOOK * 10).await? {
            // One of the others is enough.
            sessions(core, &edge.name).await?;
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
    // Another edge may be back, and take its leases again; this one knows what it has.
    let silence = if edge == core.edge { Duration::ZERO } else { dead_after(&core.timing) };
    match core.store.lapse_session(edge, &noted, silence).await {
        Ok(Lapsed::Now(seen)) => {
            connect::told_at(core, &noted.user, noted.device, DeviceEvent::Offline, seen).await;
            true
        }
        Ok(Lapsed::Before) => true,
        Ok(Lapsed::Held) | Err(_) => false,
    }
}
