//! What an edge's calls to its store and its broker meet with.

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

/// How one link of one edge is.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Nothing goes through.
    pub cut: bool,
    /// Of a thousand calls, so many fail before anything happened.
    pub fail: u32,
    /// Of a thousand calls, so many are done without an answer.
    pub unknown: u32,
    /// Of a thousand calls, so many are done when their callers have given up long ago, some of them twice …
    pub late: u32,
    /// … of this name ("": of any).
    pub late_name: &'static str,
    /// How long each way takes, in microseconds.
    pub delay: Range<u64>,
}

impl Default for Link {
    fn default() -> Self {
        Self { cut: false, fail: 0, unknown: 0, late: 0, late_name: "", delay: 50..200 }
    }
}

/// What the broker is like for a whole run, as nsqd is under some load or with some settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// Attaching takes up to so many milliseconds.
    pub attach: u64,
    /// Larger messages are refused, always.
    pub largest: usize,
    /// Of a thousand connections that are lost, so many stay open at the broker's end: it goes on to send on them …
    pub half_open: u32,
    /// … until it misses their heartbeats.
    pub half_open_for: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self { attach: 2, largest: usize::MAX, half_open: 0, half_open_for: Duration::ZERO }
    }
}

/// What goes wrong with events and queues, of a thousand each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultProfile {
    /// Events that don't arrive.
    pub lose_events: u32,
    /// And their loss is noticed, some time later.
    pub notice_losses: bool,
    /// Events that arrive twice.
    pub double_events: u32,
    /// Events that arrive up to so many milliseconds late, so that later ones overtake them.
    pub late_events: u64,
    /// Publications that the queue takes twice.
    pub double_publications: u32,
    /// Deliveries that others overtake.
    pub reorder: u32,
    /// Messages that come torn.
    pub torn: u32,
    /// Subscriptions whose SUB arrives after its client has gone, up to 900 ms late, and makes a queue that was removed.
    pub ghosts: u32,
}

/// A call that is done late: when, and when once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late(Duration, Option<Duration>);

/// What is the same for all edges of one simulation.
#[derive(Debug)]
pub struct Shared {
    rng: Mutex<StdRng>,
    profile: Mutex<FaultProfile>,
    manners: Mutex<Manners>,
    /// Whether the broker runs. Its restarts are counted, so that a fast one isn't overlooked.
    broker: Watched<(bool, u64)>,
    calls: Mutex<Trace>,
    /// Calls that are to be done late.
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

    /// Notes that a queue is removed now.
    pub(crate) fn note_removal(&self, chat: ChatId, device: DeviceId) {
        lock(&self.removed).insert((chat, device), Instant::now());
    }

    /// Returns whether the queue was removed within this time.
    pub(crate) fn removed_within(&self, chat: ChatId, device: DeviceId, time: Duration) -> bool {
        lock(&self.removed).get(&(chat, device)).is_some_and(|at| at.elapsed() <= time)
    }

    /// One of a thousand, so often.
    pub fn per_mille(&self, of: u32) -> bool {
        of > 0 && self.below(1000) < u64::from(of)
    }

    /// A number below another.
    pub fn below(&self, most: u64) -> u64 {
        lock(&self.rng).random_range(0..most.max(1))
    }

    /// How it is now.
    pub fn profile(&self) -> FaultProfile {
        lock(&self.profile).clone()
    }

    /// Changes it.
    pub fn set_profile(&self, profile: FaultProfile) {
        *lock(&self.profile) = profile;
    }

    /// The broker's manners.
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

    /// Whether the broker runs, and how often it was started again.
    pub fn broker(&self) -> &Watched<(bool, u64)> {
        &self.broker
    }

    /// How many calls are to be done, whose callers have given up.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Counts something that went wrong indeed.
    pub fn record(&self, what: &'static str, times: u64) {
        if times > 0 {
            *lock(&self.calls).injected.entry(what).or_default() += times;
        }
    }

    /// How often each thing went wrong.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.calls).injected.clone()
    }

    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Mixes something, and its time, into the fingerprint of the run.
    pub fn trace(&self, what: &str) {
        let number = self.now();
        let mut trace = lock(&self.calls);
        for byte in what.bytes().chain(number.to_le_bytes()) {
            // FNV-1a.
            trace.hash = (trace.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Two runs with the same fingerprint made the same calls in the same order.
    pub fn fingerprint(&self) -> u64 {
        lock(&self.calls).hash
    }
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Well,
    /// It fails; nothing happened.
    Failed,
    /// It was done, and nobody knows.
    Unknown,
}

/// One edge's share of it all.
#[derive(Debug, Clone)]
pub struct Faults {
    /// What is the same for all.
    pub shared: Arc<Shared>,
    /// The edge's tasks.
    pub gate: Gate,
    links: Arc<Mutex<[Link; 2]>>,
    // How often the connections on which the broker sends were lost, and whether there can be new ones.
    lines: Arc<Watched<(u64, bool)>>,
    // The edge is killed at the so-maniest call of this name (any, if it is empty), before or after it is done.
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
    /// An edge on good links.
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

    /// The connections on which the broker sends are lost, and can be made anew at once.
    pub fn lose_lines(&self) {
        self.lines.change(|(lost, _)| *lost += 1);
    }

    /// See [`Faults::lose_lines`].
    pub fn lines(&self) -> &Watched<(u64, bool)> {
        &self.lines
    }

    /// Whether what this edge says on a connection to the broker is heard there.
    pub fn is_heard(&self) -> bool {
        !self.gate.is_dead() && self.lines.get().1 && self.shared.broker().get().0
    }

    /// How long something takes to or from a server.
    pub fn way(&self, port: Port) -> Duration {
        let Range { start, end } = lock(&self.links)[port as usize].delay;
        Duration::from_micros(start + self.shared.below(end.saturating_sub(start)))
    }

    /// Kills the edge at the `calls`-th call of this name from now on (any name, if it is empty).
    pub fn crash_at(&self, name: &str, calls: u64, after: bool) {
        *lock(&self.crash) = Some(Crash { name: name.to_owned(), calls, after });
    }

    /// One call to a server: `work` is done or not, and its answer arrives or not.
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

    /// Whether a call is to be done late, and when.
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

    /// A call whose work is done by nobody's task: the edge that made it may be dead by then.
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

    /// Whether the edge still is to die now that the call is done: all may have healed meanwhile.
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
