//! The rates of devices and users. They belong to these and not to a connection: reconnecting doesn't reset them.
//!
//! Each edge keeps its own. A device is at one edge at a time, so its rate holds over all of them: while it is away, an edge
//! refills its burst over a whole minute. A user's devices may be at several edges; the user's rate applies at each.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::lock;
use crate::{
    config::Limits,
    domain::{
        id::{DeviceId, UserId},
        rate::{Rate, Verdict},
    },
    protocol::{ErrorCode, Problem},
};

/// How many uncounted frames are worth one counted one.
const LIGHT: u32 = 2;
/// Bytes of unrequested input that weigh as much as a frame.
const WEIGHT: f64 = 4096.0;
/// Bytes of a message that count as one more frame.
const LARGE: usize = 16 << 10;
/// Bytes that NSQ copies to the queues of the chat's devices that count as one more.
const COPIED: usize = 1 << 20;
/// Chats of a device for which a connection counts as one more: opening a chat costs the store and NSQ.
const CHATS: usize = 100;
/// State that is unused for so long is dropped.
const FORGET: Duration = Duration::from_secs(60);
/// Growth after which pruning runs.
const PRUNE: usize = 1_024;

/// See the module; one per edge.
#[derive(Debug, Default)]
pub struct Rates {
    devices: Mutex<Limiters<DeviceId, DeviceRates>>,
    users: Mutex<Limiters<UserId, UserRates>>,
}

/// The rate of one device, while a connection of it is served.
#[derive(Debug)]
pub struct DeviceLimiter {
    device: Arc<Mutex<DeviceRates>>,
    user: Arc<Mutex<UserRates>>,
    burst: u32,
}

#[derive(Debug)]
struct Limiters<K, V> {
    kept: HashMap<K, Arc<Mutex<V>>>,
    prune_at: usize,
}

#[derive(Debug)]
struct DeviceRates {
    frames: Rate,
    light: Rate,
    connects: Rate,
    connections: u32,
    // Of its last connection.
    chats: usize,
    // When its last connection ended.
    left: Instant,
}

#[derive(Debug)]
struct UserRates {
    // Of all its devices.
    frames: Rate,
    // Over HTTP, where there is no reading to slow down.
    calls: Rate,
}

trait Forgettable {
    fn is_over(&self, now: Instant) -> bool;
}

impl Forgettable for DeviceRates {
    fn is_over(&self, now: Instant) -> bool {
        self.connections == 0 && now >= self.left + FORGET && self.connects.is_full(now)
    }
}

impl Forgettable for UserRates {
    fn is_over(&self, now: Instant) -> bool {
        self.frames.is_full(now) && self.calls.is_full(now)
    }
}

impl<K, V> Default for Limiters<K, V> {
    fn default() -> Self {
        Self { kept: HashMap::new(), prune_at: PRUNE }
    }
}

impl<K: Eq + Hash + Clone, V: Forgettable> Limiters<K, V> {
    fn of(&mut self, key: &K, now: Instant, new: impl FnOnce() -> V) -> Arc<Mutex<V>> {
        if let Some(found) = self.kept.get(key) {
            return found.clone();
        }
        if self.kept.len() >= self.prune_at {
            // Nobody acquires one meanwhile: that takes the same lock.
            self.kept.retain(|_, kept| Arc::strong_count(kept) > 1 || !lock(kept).is_over(now));
            self.prune_at = PRUNE.max(self.kept.len() * 2);
        }
        let made = Arc::new(Mutex::new(new()));
        self.kept.insert(key.clone(), made.clone());
        made
    }
}

impl Rates {
    fn device(&self, device: DeviceId, limits: &Limits, now: Instant) -> Arc<Mutex<DeviceRates>> {
        let (per_second, burst) = (limits.frames_per_second, limits.frames_burst);
        lock(&self.devices).of(&device, now, || DeviceRates {
            frames: Rate::new(per_second, burst, now),
            light: Rate::new(per_second.saturating_mul(LIGHT), burst.saturating_mul(LIGHT), now),
            connects: Rate::per(limits.connects_per_minute, Duration::from_secs(60), now),
            connections: 0,
            chats: 0,
            left: now,
        })
    }

    fn user(&self, user: &UserId, limits: &Limits, now: Instant) -> Arc<Mutex<UserRates>> {
        let (per_second, burst) = (limits.frames_per_second, limits.frames_burst);
        let all = |count: u32| count.saturating_mul(limits.user_rate_factor);
        lock(&self.users).of(user, now, || UserRates {
            frames: Rate::new(all(per_second), all(burst), now),
            calls: Rate::new(per_second, burst, now),
        })
    }

    /// Counts one more connection of the device.
    ///
    /// # Errors
    /// `too_many_requests`, with the wait.
    pub fn connect(&self, device: DeviceId, limits: &Limits) -> Result<(), Problem> {
        let now = Instant::now();
        let device = self.device(device, limits, now);
        let (verdict, cost) = {
            let mut rates = lock(&device);
            let cost = count(rates.chats, CHATS, limits.connects_per_minute);
            (rates.connects.weigh(cost, now, Duration::ZERO), cost)
        };
        match verdict {
            Verdict::Take => Ok(()),
            Verdict::Delay(_) | Verdict::Refuse => Err(Problem::new(
                ErrorCode::TooManyRequests,
                format!(
                    "a device connects {} times a minute at most, with many chats less often: wait a little longer \
                     each time",
                    limits.connects_per_minute
                ),
            )
            .retry_in((60.0 * cost / f64::from(limits.connects_per_minute.max(1))).ceil() as u32)),
        }
    }

    /// Returns the rate of a connected device.
    #[must_use]
    pub fn allow(&self, device: DeviceId, user: &UserId, limits: &Limits) -> DeviceLimiter {
        let now = Instant::now();
        let (device, user) = (self.device(device, limits, now), self.user(user, limits, now));
        {
            let mut rates = lock(&device);
            if rates.connections == 0 {
                let left = rates.left;
                rates.frames.was_away(left, now);
                rates.light.was_away(left, now);
            }
            rates.connections += 1;
        }
        DeviceLimiter { device, user, burst: limits.frames_burst }
    }

    /// Counts one message over HTTP: a device's rate, but refused at once, because there is no reading to slow down.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub fn call(&self, user: &UserId, bytes: usize, limits: &Limits) -> Result<(), Problem> {
        let (now, cost) = (Instant::now(), count(bytes, LARGE, limits.frames_burst));
        let user = self.user(user, limits, now);
        let mut rates = lock(&user);
        let all = |rate: &mut Rate| rate.weigh(cost, now, Duration::ZERO);
        let verdict = all(&mut rates.calls).max(all(&mut rates.frames));
        match verdict {
            Verdict::Take => Ok(()),
            Verdict::Delay(_) | Verdict::Refuse => Err(Problem::new(
                ErrorCode::TooManyRequests,
                format!("at most {} messages per second", limits.frames_per_second),
            )
            .retry_in(1)),
        }
    }

    /// Counts `bytes` that NSQ copies for an accepted message. Known only now, so it delays the next ones.
    pub fn copies(&self, user: &UserId, device: Option<DeviceId>, bytes: u64, limits: &Limits) {
        let cost = count(usize::try_from(bytes).unwrap_or(usize::MAX), COPIED, limits.frames_burst) - 1.0;
        if cost <= 0.0 {
            return;
        }
        let now = Instant::now();
        let weighs = |rate: &mut Rate| {
            rate.weigh(cost, now, Duration::MAX);
        };
        let of_user = self.user(user, limits, now);
        weighs(&mut lock(&of_user).frames);
        match device {
            Some(device) => weighs(&mut lock(&self.device(device, limits, now)).frames),
            None => weighs(&mut lock(&of_user).calls),
        }
    }
}

impl DeviceLimiter {
    /// The number of chats that the connection has opened.
    pub fn opened(&self, chats: usize) {
        lock(&self.device).chats = chats;
    }

    /// Counts a frame with `bytes` of a message. If it were delayed for longer than `patience`, it is refused.
    #[must_use]
    pub fn frame(&self, bytes: usize, now: Instant, patience: Duration) -> Verdict {
        let cost = count(bytes, LARGE, self.burst);
        match lock(&self.device).frames.weigh(cost, now, patience) {
            Verdict::Refuse => Verdict::Refuse,
            device => device.max(lock(&self.user).frames.weigh(cost, now, patience)),
        }
    }

    /// Counts useless input of `weight`: returns how long to stop reading.
    #[must_use]
    pub fn light(&self, weight: u64, now: Instant) -> Option<Duration> {
        let cost = 1.0 + weight as f64 / WEIGHT;
        match lock(&self.device).light.weigh(cost, now, Duration::MAX) {
            Verdict::Delay(wait) => Some(wait),
            Verdict::Take | Verdict::Refuse => None,
        }
    }
}

/// Returns how many frames this size counts as; never more than the burst.
fn count(size: usize, unit: usize, burst: u32) -> f64 {
    let all = u32::try_from(1 + size / unit).unwrap_or(u32::MAX);
    all.min(burst.max(1)).into()
}

impl Drop for DeviceLimiter {
    fn drop(&mut self) {
        let mut rates = lock(&self.device);
        rates.connections = rates.connections.saturating_sub(1);
        rates.left = Instant::now();
    }
}
