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
use tracing::instrument::Instrument;

use super::{Core, connect, lock};
use crate::{
    config::Timing,
    domain::Millis,
    protocol::DeviceEvent,
    spans,
    store::{Beat, ExpiredSession, OtherEdge, RegisteredSession, Result},
};

/// How often it is looked whether leases have run out by now.
const LOOK: Duration = Duration::from_secs(1);
/// An edge that hasn't said that it lives for as long as a lease is dead to the others; but not sooner than this.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Sessions that are looked at at a time.
const PARALLEL: usize = 32;
/// How often this edge's own are looked at when nothing has happened to them: an opening whose caller was dropped says so to
/// nobody.
const OWN: Duration = Duration::from_secs(60);
/// For so long a call may be executed after it was made, with a margin: a session that had no lease all the time gets none any
/// more.
const LATE: Duration = Duration::from_secs(35);

/// Whether this edge's own sessions have to be looked at. At its start they have: it may have the name of one that died.
#[derive(Debug)]
pub(super) struct Running(AtomicBool);

impl Default for Running {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Running {
    /// A session of this edge has ended and its lease stays.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the task remembers from look to look.
#[derive(Debug)]
struct Looks {
    // When this edge's own were looked at last.
    own: Instant,
    // Of each edge the sessions that may still get a lease, and since when they look so, by this machine's monotonic clock.
    // Bounded by what is noted for edges that are dead, and for this one.
    coming: HashMap<String, Coming>,
}

type Coming = HashMap<RegisteredSession, Instant>;

/// The other edges, as this one has heard of them: when each last said that it lives, and since when that stands by this
/// machine's monotonic clock. Bounded by the edges there are.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<HashMap<String, (Millis, Instant)>>);

impl Others {
    /// Those that are dead. One is if it is silent by the store's clock, which may jump; and by this machine's, too: then
    /// what it said last has stood for as long here. So one that was dead before this edge began is known to be so only then.
    fn dead(&self, heard: Vec<OtherEdge>, dead_after: Duration) -> Vec<OtherEdge> {
        let (mut others, now) = (lock(&self.0), Instant::now());
        others.retain(|name, _| heard.iter().any(|edge| edge.name == *name));
        let is_dead = |edge: &OtherEdge| {
            let Some((alive, since)) = others.get_mut(&edge.name) else {
                others.insert(edge.name.clone(), (edge.alive, now));
                return false;
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
        core.senders.forget_all();
        core.session_expiry.begin();
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
    let mut looks = Looks { own: Instant::now(), coming: HashMap::new() };
    loop {
        ticks.tick().await;
        let work = async {
            if let Err(error) = turn(&core, &mut looks).await {
                tracing::debug!(%error, "sessions that ended without a word can't be looked for now");
            }
        };
        work.instrument(spans::round("session_expiry")).await;
    }
}

async fn turn(core: &Core, looks: &mut Looks) -> Result<()> {
    if core.name.waits() {
        // What is noted under the name may be another process's.
        return Ok(());
    }
    if core.session_expiry.0.swap(false, Ordering::Relaxed) || looks.own.elapsed() >= OWN {
        looks.own = Instant::now();
        let left = sessions(core, &core.edge, looks).await;
        if !matches!(left, Ok(true)) {
            core.session_expiry.begin();
        }
        left?;
    }
    let dead = dead(core).await?;
    looks.coming.retain(|name, _| *name == core.edge || dead.iter().any(|edge| edge.name == *name));
    for edge in dead {
        // What one has left may not be readable: the others don't wait for that.
        if let Err(error) = left_by(core, &edge, looks).await {
            tracing::debug!(edge = %edge.name, %error, "what a dead edge left can't be looked at now");
        }
    }
    Ok(())
}

async fn left_by(core: &Core, edge: &OtherEdge, looks: &mut Looks) -> Result<()> {
    if !edge.noted {
        core.store.forget_edge(edge).await?;
    } else if core.store.try_acquire_lease(&format!("lapse.{}", edge.name), &core.edge, LOOK * 10).await? {
        // One of the others is enough.
        sessions(core, &edge.name, looks).await?;
    }
    Ok(())
}

/// True: each of them is over.
async fn sessions(core: &Core, edge: &str, looks: &mut Looks) -> Result<bool> {
    let noted = core.store.registered_sessions(edge).await?;
    let noted = noted.into_iter().filter(|noted| edge != core.edge || !is_here(core, noted));
    let all: Vec<_> = noted.map(|noted| look(core, edge, noted)).collect();
    let all: Vec<_> = stream::iter(all).buffer_unordered(PARALLEL).collect().await;
    let before = looks.coming.remove(edge).unwrap_or_default();
    let (mut coming, mut never, mut over) = (Coming::new(), Vec::new(), true);
    for (noted, found) in all {
        let since = before.get(&noted).copied();
        match found {
            Ok(ExpiredSession::Now(_) | ExpiredSession::Before) => continue,
            Ok(ExpiredSession::Coming) if since.is_some_and(|since| since.elapsed() >= LATE) => {
                never.push(noted);
                continue;
            }
            Ok(ExpiredSession::Coming) => drop(coming.insert(noted, since.unwrap_or_else(Instant::now))),
            Ok(ExpiredSession::Held) => {}
            Err(_) => coming.extend(since.map(|since| (noted, since))),
        }
        over = false;
    }
    if !coming.is_empty() {
        looks.coming.insert(edge.to_owned(), coming);
    }
    let silence = silence(core, edge);
    let never: Vec<_> = never.iter().map(|noted| core.store.forget_session(edge, noted, silence)).collect();
    let forgotten: Vec<Result<()>> = stream::iter(never).buffer_unordered(PARALLEL).collect().await;
    forgotten.into_iter().collect::<Result<()>>()?;
    Ok(over)
}

fn is_here(core: &Core, noted: &RegisteredSession) -> bool {
    let sessions = core.hub.sessions_of(&noted.user);
    sessions.iter().any(|session| session.device == noted.device && session.session == noted.session)
}

async fn look(
    core: &Core,
    edge: &str,
    noted: RegisteredSession,
) -> (RegisteredSession, Result<ExpiredSession>) {
    let found = core.store.expire_session(edge, &noted, silence(core, edge)).await;
    if let Ok(ExpiredSession::Now(seen)) = found {
        connect::told_at(core, &noted.user, noted.device, DeviceEvent::Offline, seen).await;
    }
    (noted, found)
}

/// How long an edge must have said nothing for what is noted for it to be forgotten: another one may be back, and take its leases
/// again; this one knows what it has.
fn silence(core: &Core, edge: &str) -> Duration {
    if edge == core.edge { Duration::ZERO } else { dead_after(&core.timing) }
}
