//! Which incarnations live, as the answers to this process's heartbeats tell. A read of a device asks here, so it costs
//! no further command.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::Millis,
    store::{Holder, Incarnation, OtherEdge},
};

/// How many dead incarnations are remembered.
const REMEMBERED: usize = 4096;

/// See the module. Bounded by the edges there are, and by [`REMEMBERED`].
#[derive(Debug, Default)]
pub(super) struct Liveness(Mutex<View>);

#[derive(Debug, Default)]
struct View {
    /// By name: the edges that send their heartbeats through this handle. One in a server.
    own: HashMap<String, Own>,
    /// By name: the others, as of the newest answer.
    others: HashMap<String, Other>,
    /// Incarnations that no answer has named so far, and since when: of an edge that came since the newest answer, or of
    /// one that is gone. The next answer decides.
    unknown: HashMap<String, Instant>,
    /// Incarnations that don't come back.
    gone: HashSet<String>,
}

#[derive(Debug)]
struct Own {
    id: String,
    // By this machine's monotonic clock, from when the heartbeat was asked for.
    until: Instant,
    alive: Millis,
    // The name's last heartbeat before this incarnation.
    before: Millis,
}

#[derive(Debug)]
struct Other {
    holder: Option<Holder>,
    alive: Millis,
    // When this heartbeat was seen first, by this machine's monotonic clock.
    since: Instant,
    lives: bool,
    // The incarnation before, and its last heartbeat.
    before: Option<(String, Millis)>,
}

/// The times in the answer to a heartbeat, by the store's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct BeatTimes {
    /// Of this heartbeat.
    pub now: Millis,
    /// Of the one before under this name, or 0.
    pub before: Millis,
}

impl Liveness {
    /// Takes in the answer to a heartbeat that was asked for at `asked`.
    pub(super) fn heard(
        &self,
        by: &Incarnation,
        (asked, dead_after): (Instant, Duration),
        times: BeatTimes,
        others: &[OtherEdge],
    ) {
        let mut view = self.view();
        view.heard_own(by, asked + dead_after, times);
        view.heard_others(others, dead_after, Instant::now());
        view.decide(asked);
    }

    /// Returns whether an incarnation lives.
    pub(super) fn lives(&self, edge: &str, incarnation: &str) -> bool {
        self.view().lives(edge, incarnation, Instant::now())
    }

    /// Returns when an incarnation was last heard of, by the store's clock; 0 if that isn't known.
    pub(super) fn last_heard(&self, edge: &str, incarnation: &str) -> Millis {
        self.view().last_heard(edge, incarnation)
    }

    fn view(&self) -> MutexGuard<'_, View> {
        // Each change under it leaves the view usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn lives(&mut self, edge: &str, incarnation: &str, now: Instant) -> bool {
        if let Some(own) = self.own.get(edge) {
            return own.id == incarnation && now < own.until;
        }
        if let Some(other) = self.others.get(edge).filter(|other| other.is(incarnation)) {
            return other.lives;
        }
        if self.gone.contains(incarnation) {
            return false;
        }
        if self.unknown.len() >= REMEMBERED {
            self.unknown.clear();
        }
        self.unknown.entry(incarnation.to_owned()).or_insert(now);
        true
    }

    fn last_heard(&self, edge: &str, incarnation: &str) -> Millis {
        if let Some(own) = self.own.get(edge) {
            return if own.id == incarnation { own.alive } else { own.before };
        }
        let Some(other) = self.others.get(edge) else { return 0 };
        if other.is(incarnation) {
            return other.alive;
        }
        other.before.as_ref().filter(|(before, _)| before == incarnation).map_or(0, |(_, at)| *at)
    }

    fn heard_others(&mut self, others: &[OtherEdge], dead_after: Duration, now: Instant) {
        let Self { own, others: known, gone, .. } = self;
        known.retain(|name, other| {
            let stays = others.iter().any(|edge| edge.name == *name);
            if !stays {
                gone.extend(other.holder.take().map(|holder| holder.incarnation));
            }
            stays
        });
        for edge in others.iter().filter(|edge| !own.contains_key(&edge.name)) {
            match known.get_mut(&edge.name) {
                Some(other) => gone.extend(other.heard(edge, now, dead_after)),
                None => drop(known.insert(edge.name.clone(), Other::new(edge, now))),
            }
        }
    }

    fn heard_own(&mut self, by: &Incarnation, until: Instant, times: BeatTimes) {
        let id = by.id();
        match self.own.get_mut(&by.edge) {
            Some(own) if own.id == id => {
                own.until = own.until.max(until);
                own.alive = times.now;
            }
            _ => {
                let own = Own { id, until, alive: times.now, before: times.before };
                self.own.insert(by.edge.clone(), own);
            }
        }
    }

    // What was unknown before this answer was asked for, and isn't in it, is gone.
    fn decide(&mut self, asked: Instant) {
        let Self { others, unknown, gone, .. } = self;
        if gone.len() >= REMEMBERED {
            gone.clear();
        }
        unknown.retain(|incarnation, since| {
            if others.values().any(|other| other.is(incarnation)) {
                return false;
            }
            let is_over = *since < asked;
            if is_over {
                gone.insert(incarnation.clone());
            }
            !is_over
        });
    }
}

impl Other {
    // At first sight the store's clock alone decides; an edge that lives moves on within a second.
    fn new(edge: &OtherEdge, now: Instant) -> Self {
        let (holder, alive) = (edge.holder.clone(), edge.alive);
        Self { holder, alive, since: now, lives: !edge.silent, before: None }
    }

    fn is(&self, incarnation: &str) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.incarnation == incarnation)
    }

    /// Takes in what the newest answer says of this edge. Returns the incarnation that has ended, if another one has the
    /// name.
    fn heard(&mut self, edge: &OtherEdge, now: Instant, dead_after: Duration) -> Option<String> {
        let incarnation = |holder: &Option<Holder>| holder.as_ref().map(|holder| holder.incarnation.clone());
        let (was, is) = (incarnation(&self.holder), incarnation(&edge.holder));
        let ended = was.filter(|was| is.as_ref() != Some(was));
        if let Some(ended) = &ended {
            self.before = Some((ended.clone(), self.alive));
        }
        // (A registration moves the time, too. It may be executed late.)
        self.alive = edge.alive;
        if self.holder != edge.holder {
            (self.holder, self.since, self.lives) = (edge.holder.clone(), now, true);
        } else if edge.silent && now.duration_since(self.since) >= dead_after {
            // Both clocks: the store's may have been set.
            self.lives = false;
        }
        ended
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/store/redis/liveness.rs"]
mod tests;
