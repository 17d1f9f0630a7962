//! Ends sessions whose edge died or couldn't release them: when the edge's lease has expired, the user's other devices are
//! notified that the device is offline. Once, because that step releases the device.

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

use super::{Core, connect, heartbeat, lock};
use crate::{
    config::Timing,
    domain::Millis,
    protocol::DeviceEvent,
    spans,
    store::{ExpiredSession, OtherEdge, RegisteredSession, Result, StoreError},
};

/// How often leftovers are checked.
const LOOK: Duration = Duration::from_secs(1);
/// An edge without a heartbeat for as long as a lease is dead to the others; but not sooner than this.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// Sessions that are ended at a time, and a second.
const PARALLEL: usize = 32;
const PACE: usize = 1000;
/// What the last heartbeat said of the others is good for so long.
const FRESH: Duration = Duration::from_secs(3);
/// How often this edge's own are checked without a cause: an opening whose caller was dropped reports to nobody.
const OWN: Duration = Duration::from_secs(60);
/// A call may be executed this long after it was made, with a margin: a session without a device for this time gets none any more.
const LATE: Duration = Duration::from_secs(35);

/// Whether this edge's own sessions must be checked. At its start they must: it may have the name of a dead edge.
#[derive(Debug)]
pub(super) struct Running(AtomicBool);

impl Default for Running {
    fn default() -> Self {
        Self(AtomicBool::new(true))
    }
}

impl Running {
    /// A session of this edge has ended, and its device isn't released.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The task's state between checks.
#[derive(Debug)]
struct ExpiryChecks {
    // When this edge's own were last checked.
    own: Instant,
    // For each edge: the sessions that may still get a device (of this edge: or come here), and since when, by this machine's
    // monotonic clock. Bounded by the registry entries of dead edges and of this one.
    coming: HashMap<String, Coming>,
}

type Coming = HashMap<RegisteredSession, Instant>;

/// The other edges, as of the last heartbeat. Bounded by the edges there are.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    // The last heartbeat of each, and when this edge first saw it, by this machine's monotonic clock.
    others: HashMap<String, (Millis, Instant)>,
    // The dead ones, and when that was found.
    dead: Option<(Vec<OtherEdge>, Instant)>,
}

impl Others {
    /// Returns how many have sent a heartbeat within `dead_after`, as far as this edge saw it.
    pub(super) fn alive(&self, dead_after: Duration) -> usize {
        lock(&self.0).others.values().filter(|(_, since)| since.elapsed() <= dead_after + LOOK).count()
    }

    /// Returns the dead ones.
    ///
    /// # Errors
    /// When no heartbeat has got through lately.
    fn dead(&self) -> Result<Vec<OtherEdge>> {
        let known = lock(&self.0);
        let dead = known.dead.as_ref().filter(|(_, at)| at.elapsed() < FRESH);
        let unknown = || StoreError::Unavailable("no heartbeat has got through lately".to_owned());
        dead.map(|(dead, _)| dead.clone()).ok_or_else(unknown)
    }

    /// Takes in what a heartbeat has heard. Dead are those that are silent by the store's clock, which may jump, and by this
    /// machine's, which has seen the last heartbeat for as long. An edge that was dead before this one started is recognised
    /// only after that time.
    pub(super) fn heard(&self, heard: Vec<OtherEdge>, dead_after: Duration) {
        let (mut known, now) = (lock(&self.0), Instant::now());
        let Known { others, dead } = &mut *known;
        others.retain(|name, _| heard.iter().any(|edge| edge.name == *name));
        let is_dead = |edge: &OtherEdge| {
            let Some((alive, since)) = others.get_mut(&edge.name) else {
                others.insert(edge.name.clone(), (edge.alive, now));
                return false;
            };
            if *alive != edge.alive {
                (*alive, *since) = (edge.alive, now);
            }
            // A heartbeat is seen up to one check after it.
            edge.silent && now.duration_since(*since) + LOOK >= dead_after
        };
        *dead = Some((heard.into_iter().filter(is_dead).collect(), now));
    }
}

/// Returns the dead edges that left something.
///
/// # Errors
/// When no heartbeat has got through lately: then it is unknown.
pub(super) fn dead_edges(core: &Core) -> Result<Vec<String>> {
    let dead = core.edge.others.dead()?.into_iter();
    Ok(dead.filter(|edge| edge.noted).map(|edge| edge.name).collect())
}

/// The store has this edge's heartbeat, by a call that began at `asked`.
pub(super) fn said_alive(core: &Core, asked: Instant) {
    // Meanwhile others may have taken it for dead, dropped its registry entries, and kept those of abandoned sessions.
    if core.edge.alive.expired() {
        core.sending.senders.forget_all();
        core.edge.session_expiry.begin();
    }
    // Half: a call that begins just before, such as an append, ends before the others take this edge for dead.
    core.edge.alive.renewed(asked, dead_after(&core.timing) / 2);
}

/// Returns for how long an edge must be silent to be dead to the others.
#[must_use]
pub fn dead_after(timing: &Timing) -> Duration {
    timing.lease.max(DEAD_AFTER)
}

/// Expires the sessions of dead edges, and those of this one that it no longer has, until none is left.
pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut checks = ExpiryChecks { own: Instant::now(), coming: HashMap::new() };
    loop {
        ticks.tick().await;
        let work = async {
            if let Err(error) = turn(&core, &mut checks).await {
                tracing::debug!(%error, "expired sessions not checked; will retry");
            }
        };
        work.instrument(spans::round("session_expiry")).await;
    }
}

async fn turn(core: &Core, checks: &mut ExpiryChecks) -> Result<()> {
    if core.edge.claim.waits() {
        // Entries under this name may be another process's.
        return Ok(());
    }
    if core.edge.session_expiry.0.swap(false, Ordering::Relaxed) || checks.own.elapsed() >= OWN {
        checks.own = Instant::now();
        let left = sessions(core, &core.edge.name, checks).await;
        if !matches!(left, Ok(true)) {
            core.edge.session_expiry.begin();
        }
        left?;
    }
    let dead = core.edge.others.dead()?;
    checks.coming.retain(|name, _| *name == core.edge.name || dead.iter().any(|edge| edge.name == *name));
    for edge in dead {
        // One edge's entries may not be readable: the others don't wait for that.
        if let Err(error) = left_by(core, &edge, checks).await {
            tracing::debug!(edge = %edge.name, %error, "leftovers of a dead edge not read; will retry");
        }
    }
    Ok(())
}

async fn left_by(core: &Core, edge: &OtherEdge, checks: &mut ExpiryChecks) -> Result<()> {
    if !edge.noted {
        core.store.forget_edge(edge).await?;
    } else if core
        .store
        .try_acquire_lease(&format!("lapse.{}", edge.name), &core.edge.name, LOOK * 10)
        .await?
    {
        // One other edge is enough.
        sessions(core, &edge.name, checks).await?;
    }
    Ok(())
}

/// True: each of them is over.
async fn sessions(core: &Core, edge: &str, checks: &mut ExpiryChecks) -> Result<bool> {
    let noted = core.store.registered_sessions(edge).await?;
    let before = checks.coming.remove(edge).unwrap_or_default();
    let Sorted { ended, mut coming, waits } = sorted(core, edge, noted, &before);
    let ended: Vec<_> = ended.into_iter().map(|noted| look(core, edge, noted)).collect();
    let all: Vec<_> = stream::iter(ended).buffer_unordered(PARALLEL).collect().await;
    let (mut never, mut over) = (Vec::new(), !waits);
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
        checks.coming.insert(edge.to_owned(), coming);
    }
    let silence = silence(core, edge);
    let never: Vec<_> = never.iter().map(|noted| core.store.forget_session(edge, noted, silence)).collect();
    let forgotten: Vec<Result<()>> = stream::iter(never).buffer_unordered(PARALLEL).collect().await;
    forgotten.into_iter().collect::<Result<()>>()?;
    Ok(over)
}

/// The sessions of an edge that aren't here.
struct Sorted {
    // Those that are over, as far as this edge can say.
    ended: Vec<RegisteredSession>,
    // Those of this edge that may still come here.
    coming: Coming,
    // Whether there are any others.
    waits: bool,
}

fn sorted(core: &Core, edge: &str, noted: Vec<RegisteredSession>, before: &Coming) -> Sorted {
    let is_own = edge == core.edge.name;
    let lease = heartbeat::lease(core);
    let mut sorted = Sorted { ended: Vec::new(), coming: Coming::new(), waits: false };
    for noted in noted {
        if is_own && is_here(core, &noted) {
            continue;
        }
        if is_own && noted.incarnation == lease.incarnation.id() {
            // It is just being opened or closed, or was abandoned: then it is the same for a lease.
            let since = before.get(&noted).copied().unwrap_or_else(Instant::now);
            if since.elapsed() < core.timing.lease {
                sorted.waits = true;
                sorted.coming.insert(noted, since);
                continue;
            }
        } else if !noted.incarnation.is_empty() && core.store.lives(edge, &noted.incarnation) {
            sorted.waits = true;
            continue;
        }
        sorted.ended.push(noted);
    }
    // What was looked at before doesn't keep others waiting.
    sorted.ended.sort_by_key(|noted| before.contains_key(noted));
    for later in sorted.ended.drain(PACE.min(sorted.ended.len())..) {
        sorted.waits = true;
        let since = before.get(&later).copied();
        sorted.coming.extend(since.map(|since| (later, since)));
    }
    sorted
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
        connect::publish_event_at(core, &noted.user, noted.device, DeviceEvent::Offline, seen).await;
    }
    (noted, found)
}

/// Returns how long an edge must have been silent before its entries are removed: another edge may come back and take its
/// devices back; this one knows its own.
fn silence(core: &Core, edge: &str) -> Duration {
    if edge == core.edge.name { Duration::ZERO } else { dead_after(&core.timing) }
}
