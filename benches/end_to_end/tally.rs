//! What receivers count, whatever system they receive from.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// The figures of one run, by name.
pub type Figures = BTreeMap<String, f64>;

/// Shared by all receivers of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Receivers that are ready for messages.
    pub ready: AtomicU64,
    /// Messages received.
    pub received: AtomicU64,
    /// Messages acknowledged: the acknowledgement has been written to the socket.
    pub acked: AtomicU64,
    /// Whether times are taken.
    pub timed: AtomicBool,
    times: Mutex<Vec<u64>>,
    failure: Mutex<Option<String>>,
}

impl Tally {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Takes the time of a message whose body has its stamp.
    pub fn time(&self, stamp: Option<u64>) {
        if let Some(stamp) = stamp {
            lock(&self.times).push(now_nanos().saturating_sub(stamp));
        }
    }

    /// Something that must not happen. The first one counts.
    pub fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
    }

    /// What must not have happened, if it did.
    pub fn check(&self) -> Result<(), String> {
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// All times taken, sorted, in milliseconds.
    pub fn take_times(&self) -> Vec<f64> {
        let mut times = std::mem::take(&mut *lock(&self.times));
        times.sort_unstable();
        times.into_iter().map(|nanos| nanos as f64 / 1e6).collect()
    }

    /// How many were acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of sorted values, the one below which the share `q` lies.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    if sorted.is_empty() {
        return f64::NAN;
    }
    let at = (sorted.len() as f64 * q).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

/// The usual figures of some times in milliseconds.
pub fn put_times(figures: &mut Figures, name: &str, mut times: Vec<f64>) {
    times.sort_unstable_by(f64::total_cmp);
    for (what, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        figures.insert(format!("{name}_{what}_ms"), quantile(&times, q));
    }
    figures.insert(format!("{name}_count"), times.len() as f64);
}

/// Nanoseconds on the clock that all parts of the load generator share.
pub fn now_nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// 100 characters that begin with a stamp: what a person writes, about.
pub fn content() -> String {
    format!("{:016x} {:.<83}", now_nanos(), "")
}

/// The stamp at the beginning of a content.
pub fn stamp(content: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(content.get(..16)?).ok()?, 16).ok()
}

/// The same content in as many bytes as Keepstep's frame around it has: what the other systems carry.
pub fn body() -> String {
    format!("{:.<FRAME_BYTES$}", content())
}

/// The length of a message frame of Keepstep with such a content.
pub const FRAME_BYTES: usize = 330;
