//! Faults of an edge's calls to its store and its broker.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{Gate, Watched};
use crate::domain::id::{ChatId, DeviceId};

/// Which of an edge's two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The store.
    Store,
    /// The broker.
    Broker,
}

/// The state of one link of one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Nothing goes through.
    pub cut: bool,
    /// Calls in a thousand that fail before they take effect.
    pub fail: u32,
    /// Calls in a thousand that take effect without an answer.
    pub unknown: u32,
    /// Calls in a thousand that are executed long after their callers gave up, some of them twice …
    pub late: u32,
    /// … among calls of this name ("": any).
    pub late_name: &'static str,
    /// The delay of each direction, in microseconds.
    pub delay: Range<u64>,
}

impl Default for Link {
    fn default() -> Self {
        Self { cut: false, fail: 0, unknown: 0, late: 0, late_name: "", delay: 50..200 }
    }
}

/// The broker's behaviour for a whole run, like nsqd's under some load or with some settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// The maximum time of attaching, in milliseconds.
    pub attach: u64,
    /// Messages above this size are always refused.
    pub largest: usize,
    /// Lost connections in a thousand that stay open at the broker's end: it continues to send on them …
    pub half_open: u32,
    /// … until it misses their heartbeats.
    pub half_open_for: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self { attach: 2, largest: usize::MAX, half_open: 0, half_open_for: Duration::ZERO }
    }
}

/// Faults of events and queues, each in a thousand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultProfile {
    /// Lost events.
    pub lose_events: u32,
    /// Lost events whose loss is noticed some time later.
    pub notice_losses: bool,
    /// Events that arrive twice.
    pub double_events: u32,
    /// The maximum delay of events, in milliseconds, so that later ones overtake them.
    pub late_events: u64,
    /// Publications that the queue takes twice.
    pub double_publications: u32,
    /// Deliveries that later ones overtake.
    pub reorder: u32,
    /// Torn messages.
    pub torn: u32,
    /// Subscriptions whose SUB arrives after its client left, up to 900 ms late, and recreates a removed queue.
    pub ghosts: u32,
}

/// A late call: the time of its execution, and of a second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late(Duration, Option<Duration>);

/// The state that all edges of one simulation share.
#[derive(Debug)]
pub struct Shared {
    rng: Mutex<StdRng>,
    profile: Mutex<FaultProfile>,
    manners: Mutex<Manners>,
    /// Whether the broker runs. Its restarts are counted, so that a fast one isn't overlooked.
    broker: Watched<(bool, u64)>,
    calls: Mutex<Trace>,
    /// Pending late calls.
    late: AtomicU64,
    /// When each queue was removed.
    removed: Mutex<HashMap<(ChatId, DeviceId), Instant>>,
    begun: Instant,
}

#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    injected: BTreeMap<&'static str, u64>,
}

impl Shared {
    /// Quiet profile, a broker that runs.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            profile: Mutex::default(),
            manners: Mutex::default(),
            broker: Watched::new((true, 0)),
            calls: Mutex::default(),
            late: AtomicU64::new(0),
            removed: Mutex::default(),
            begun: Instant::now(),
        })
    }

    /// Records that a queue is removed now.
    pub(crate) fn note_removal(&self, chat: ChatId, device: DeviceId) {
        lock(&self.removed).insert((chat, device), Instant::now());
    }

    /// Returns whether the queue was removed within this time.
    pub(crate) fn removed_within(&self, chat: ChatId, device: DeviceId, time: Duration) -> bool {
        lock(&self.removed).get(&(chat, device)).is_some_and(|at| at.elapsed() <= time)
    }

    /// Returns true with a probability of `of` in a thousand.
    pub fn per_mille(&self, of: u32) -> bool {
        of > 0 && self.below(1000) < u64::from(of)
    }

    /// Returns a random number below another.
    pub fn below(&self, most: u64) -> u64 {
        lock(&self.rng).random_range(0..most.max(1))
    }

    /// Returns the present profile.
    pub fn profile(&self) -> FaultProfile {
        lock(&self.profile).clone()
    }

    /// Changes it.
    pub fn set_profile(&self, profile: FaultProfile) {
        *lock(&self.profile) = profile;
    }

    /// Returns the broker's behaviour.
    pub fn manners(&self) -> Manners {
        lock(&self.manners).clone()
    }

    /// Changes them.
    pub fn set_manners(&self, manners: Manners) {
        *lock(&self.manners) = manners;
    }

    /// Stops or starts the broker.
    pub fn run_broker(&self, runs: bool) {
        self.broker.change(|(now, starts)| {
            *starts += u64::from(runs && !*now);
            *now = runs;
        });
    }

    /// Returns whether the broker runs, and how often it was started again.
    pub fn broker(&self) -> &Watched<(bool, u64)> {
        &self.broker
    }

    /// Returns the number of pending calls whose callers have given up.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Counts a fault that happened.
    pub fn record(&self, what: &'static str, times: u64) {
        if times > 0 {
            *lock(&self.calls).injected.entry(what).or_default() += times;
        }
    }

    /// Returns how often each fault happened.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.calls).injected.clone()
    }

    /// Returns the microseconds since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Mixes an item and its time into the fingerprint of the run.
    pub fn trace(&self, what: &str) {
        let number = self.now();
        let mut trace = lock(&self.calls);
        for byte in what.bytes().chain(number.to_le_bytes()) {
            // FNV-1a.
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Returns the fingerprint. Two runs with the same one made the same calls in the same order.
    pub fn fingerprint(&self) -> u64 {
        lock(&self.calls).hash
    }
}

/// The outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeds.
    Well,
    /// It fails, without an effect.
    Failed,
    /// It took effect, and the caller doesn't learn it.
    Unknown,
}

/// The faults of one edge.
#[derive(Debug, Clone)]
pub struct Faults {
    /// The state shared by all edges.
    pub shared: Arc<Shared>,
    /// The edge's tasks.
    pub gate: Gate,
    links: Arc<Mutex<[Link; 2]>>,
    // How often the connections on which the broker sends were lost, and whether new ones are possible.
    lines: Arc<Watched<(u64, bool)>>,
    // The edge is killed at the call with this number and name (any, if empty), before or after it takes effect.
    crash: Arc<Mutex<Option<Crash>>>,
}

#[derive(Debug, Clone)]
struct Crash {
    name: String,
    calls: u64,
    after: bool,
}

/// An edge gives up on a server after this.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Faults {
    /// Returns the faults of an edge with good links.
    #[must_use]
    pub fn new(shared: Arc<Shared>, gate: Gate) -> Self {
        let lines = Arc::new(Watched::new((0, true)));
        Self { shared, gate, links: Arc::default(), lines, crash: Arc::default() }
    }

    /// Changes a link. Cutting it loses its connections.
    pub fn set_link(&self, port: Port, link: Link) {
        let cut = link.cut;
        lock(&self.links)[port as usize] = link;
        if port == Port::Broker {
            self.lines.change(|(lost, up)| {
                *lost += u64::from(cut);
                *up = !cut;
            });
        }
    }

    /// Drops the connections on which the broker sends. New ones are possible at once.
    pub fn lose_lines(&self) {
        self.lines.change(|(lost, _)| *lost += 1);
    }

    /// See [`Faults::lose_lines`].
    pub fn lines(&self) -> &Watched<(u64, bool)> {
        &self.lines
    }

    /// Returns whether the broker receives what this edge sends on a connection.
    pub fn is_heard(&self) -> bool {
        !self.gate.is_dead() && self.lines.get().1 && self.shared.broker().get().0
    }

    /// Returns the delay to or from a server.
    pub fn way(&self, port: Port) -> Duration {
        let Range { start, end } = lock(&self.links)[port as usize].delay;
        Duration::from_micros(start + self.shared.below(end.saturating_sub(start)))
    }

    /// Kills the edge at the `calls`-th call of this name from now on (any name, if it is empty).
    pub fn crash_at(&self, name: &str, calls: u64, after: bool) {
        *lock(&self.crash) = Some(Crash { name: name.to_owned(), calls, after });
    }

    /// Makes one call to a server: `work` takes effect or not, and its answer arrives or not.
    pub async fn call<T>(&self, port: Port, name: &str, work: impl Future<Output = T>) -> Result<T, Outcome> {
        let link = lock(&self.links)[port as usize].clone();
        let shared = &self.shared;
        shared.trace(name);
        let crash = self.crashes_now(name);
        if crash == Some(false) {
            return self.die().await;
        }
        let down = port == Port::Broker && !shared.broker.get().0;
        if link.cut || down {
            // Half of all cuts are refusals, half are silence.
            let wait = if shared.per_mille(500) { TIMEOUT } else { Duration::from_millis(1) };
            tokio::time::sleep(wait).await;
            shared.record("calls to a server that is away", 1);
            return Err(Outcome::Failed);
        }
        tokio::time::sleep(self.way(port)).await;
        if shared.per_mille(link.fail) {
            shared.record("calls that failed", 1);
            return Err(Outcome::Failed);
        }
        let done = work.await;
        if crash == Some(true) && self.still_crashes() {
            return self.die().await;
        }
        // The server may go away, or the link, while the answer is on its way.
        if shared.per_mille(link.unknown) || lock(&self.links)[port as usize].cut {
            tokio::time::sleep(TIMEOUT).await;
            shared.record("calls of unknown outcome", 1);
            return Err(Outcome::Unknown);
        }
        tokio::time::sleep(self.way(port)).await;
        Ok(done)
    }

    /// Returns whether and when a call is executed late.
    pub fn late(&self, port: Port, name: &str) -> Option<Late> {
        let (late, which, cut) = {
            let link = &lock(&self.links)[port as usize];
            (link.late, link.late_name, link.cut)
        };
        if late == 0 || cut || !(which.is_empty() || which == name) || !self.shared.per_mille(late) {
            return None;
        }
        let most = [3_000, 3_000, 10_000, 30_000][self.shared.below(4) as usize];
        let first = Duration::from_millis(self.shared.below(most));
        let again = self.shared.per_mille(300).then(|| Duration::from_millis(self.shared.below(most)));
        Some(Late(first, again))
    }

    /// Executes a late call outside of the edge's tasks: the edge may be dead by then.
    pub async fn call_late<F, E>(&self, name: &str, late: Late, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Send,
    {
        self.shared.trace(name);
        let crash = self.crashes_now(name);
        if crash == Some(false) {
            return self.die().await;
        }
        let shared = self.shared.clone();
        shared.late.fetch_add(1, Ordering::Relaxed);
        shared.record("calls done late", 1);
        tokio::spawn(async move {
            let Late(first, again) = late;
            tokio::time::sleep(first).await;
            // Nobody waits for what comes of it.
            let _ = work().await;
            if let Some(again) = again {
                tokio::time::sleep(again).await;
                shared.record("calls done twice", 1);
                let _ = work().await;
            }
            shared.late.fetch_sub(1, Ordering::Relaxed);
        });
        if crash == Some(true) && self.still_crashes() {
            return self.die().await;
        }
        tokio::time::sleep(TIMEOUT).await;
    }

    fn crashes_now(&self, name: &str) -> Option<bool> {
        let mut crash = lock(&self.crash);
        let planned = crash.as_mut().filter(|crash| crash.name.is_empty() || crash.name == name)?;
        planned.calls = planned.calls.saturating_sub(1);
        if planned.calls > 0 {
            return None;
        }
        match planned.after {
            true => Some(true),
            false => crash.take().map(|_| false),
        }
    }

    /// Returns whether the edge shall still die after the call: all faults may have healed meanwhile.
    fn still_crashes(&self) -> bool {
        lock(&self.crash).as_ref().is_some_and(|crash| crash.calls == 0)
    }

    async fn die<T>(&self) -> T {
        self.shared.record("edges killed at a call", 1);
        self.gate.kill();
        std::future::pending().await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "../../tests/unit/simulation/faults.rs"]
mod tests;
