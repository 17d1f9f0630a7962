//! The edge's lease. One heartbeat a second is the lease of the edge's incarnation, and so of every session that it
//! serves: an idle device costs the store nothing. When no heartbeat has got through for a lease, by this machine's
//! monotonic clock and from when it was asked for, the edge closes all its sockets (4304), before others can take it for
//! dead, and goes on as a new incarnation, so nothing that was written under the old one looks alive again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{Core, lock, name::EdgeName, session_expiry};
use crate::{
    config::Timing,
    hub::EdgeLease,
    protocol::CloseCode,
    store::{Beat, Incarnation},
};

/// The longest interval of heartbeats.
const EVERY: Duration = Duration::from_secs(1);
/// How long a connection that is being opened waits for the lease: as long as for an answer of the store.
const WAIT: Duration = Duration::from_secs(2);

/// The lease of this edge's present incarnation.
#[derive(Debug)]
pub(super) struct Heartbeat {
    lease: Mutex<Arc<EdgeLease>>,
    got_through: Notify,
}

impl Heartbeat {
    pub(super) fn new(name: &EdgeName) -> Self {
        let (edge, process) = (name.as_str().to_owned(), name.process().to_owned());
        let lease = Arc::new(EdgeLease::new(Incarnation { edge, process, term: 0 }));
        Self { lease: Mutex::new(lease), got_through: Notify::new() }
    }

    // Begins the next incarnation, if the lease of this one has run out. Returns the lease that was ended then.
    fn end(&self) -> Option<Arc<EdgeLease>> {
        let mut lease = lock(&self.lease);
        if !lease.has_run_out() {
            return None;
        }
        let term = lease.incarnation.term + 1;
        let next = EdgeLease::new(Incarnation { term, ..lease.incarnation.clone() });
        // For good: the answer to an earlier heartbeat may still come.
        lease.end();
        Some(std::mem::replace(&mut *lease, Arc::new(next)))
    }
}

/// Returns the lease of the present incarnation, which may not be held yet. A lease that has run out is ended first.
pub(super) fn lease(core: &Core) -> Arc<EdgeLease> {
    if let Some(ended) = core.edge.heartbeat.end() {
        tracing::warn!(
            edge = %core.edge.name, incarnation = ended.incarnation.id(),
            "lease expired: no heartbeat got through for as long; closing all sockets"
        );
        // Of one that isn't in the hub yet, its opening finds that the lease is over (`connect::take_over`).
        for session in core.hub.sessions().into_iter().filter(|session| session.lease.expired()) {
            session.mailbox.close_signal.close(CloseCode::BackendUnavailable);
        }
        core.edge.session_expiry.begin();
    }
    lock(&core.edge.heartbeat.lease).clone()
}

/// Waits until the lease is held. None: no heartbeat gets through.
pub(super) async fn held(core: &Core) -> Option<Arc<EdgeLease>> {
    let held = async {
        loop {
            let got_through = core.edge.heartbeat.got_through.notified();
            let lease = lease(core);
            if !lease.expired() {
                return lease;
            }
            got_through.await;
        }
    };
    timeout(WAIT, held).await.ok()
}

/// Returns the interval of heartbeats.
fn every(timing: &Timing) -> Duration {
    timing.lease_renewal.min(EVERY)
}

/// Sends heartbeats, each on time, even while those before wait: a store that is silent for seconds costs no lease as long
/// as one of them gets through. Ends the lease when it has run out.
pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(every(&core.timing));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    loop {
        let until = lease(&core).until();
        tokio::select! {
            biased;
            _ = ticks.tick() => under_way.push(beat(&core)),
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            // The clock of a lease counts whole milliseconds.
            () = sleep_until(until.map_or_else(Instant::now, |at| at.max(Instant::now())) + Duration::from_millis(2)), if until.is_some() => {}
        }
    }
}

async fn beat(core: &Core) {
    if core.edge.claim.waits() {
        // Another process may have the name.
        return;
    }
    let (lease, asked) = (lease(core), Instant::now());
    let dead_after = session_expiry::dead_after(&core.timing);
    match core.store.edge_alive(&lease.incarnation, dead_after).await {
        Ok(Beat::Heard(others)) => {
            // From the time of the request: the store's record is no older.
            lease.renewed(asked, core.timing.lease);
            core.edge.heartbeat.got_through.notify_waiters();
            session_expiry::said_alive(core, asked);
            core.edge.others.heard(others, dead_after);
        }
        // A later heartbeat was faster.
        Ok(Beat::Lapsed) => {}
        Ok(Beat::NameTaken) => core.edge.claim.lose(),
        Err(error) => tracing::debug!(%error, "a heartbeat didn't get through; the next one follows"),
    }
}
