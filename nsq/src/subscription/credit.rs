//! The RDY policy: how many messages nsqd may have on the way. Pure.
//!
//! nsqd collects messages for a client in a 16 KiB buffer. It flushes the buffer when it is full, when the client is
//! not ready for more, or when its timer (250 ms by default) fires. So a client that is ready for exactly one more
//! message gets each at once, in one write; one that is ready for many may wait for the timer. But one at a time costs
//! a round trip per message.
//!
//! Hence two modes. *Steady*: RDY stays at in flight + 1. *Draining*, while the arriving messages have waited: RDY is
//! [`WINDOW`] ahead; when the socket falls quiet, back to steady, which makes nsqd flush what it still has in the
//! buffer. How long "quiet" is depends on the age of the messages: it delays the last ones of a backlog, and must be
//! little compared with the time they have waited anyway.

use std::time::Duration;

/// How far RDY is ahead of what is in flight while a backlog drains.
const WINDOW: u32 = 100;

/// A message older than this shows that more are waiting: well above the time a message needs. Clocks that disagree by
/// more cost the window or a little traffic, never a message.
const OLD: Duration = Duration::from_millis(1);

/// A message older than this shows that there is a real backlog.
const VERY_OLD: Duration = Duration::from_millis(20);

/// A message younger than this shows that nothing is waiting.
const FRESH: Duration = Duration::from_micros(300);

/// The time without a byte while draining after which the rest is in nsqd's buffer, or there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quiet {
    /// After messages that are merely old. Timers count in milliseconds, so the task waits by yielding to others.
    Short,
    /// After messages that are very old: by the timer, which costs nothing.
    Long,
}

impl Quiet {
    pub(crate) fn duration(self) -> Duration {
        match self {
            Self::Short => Duration::from_micros(150),
            Self::Long => Duration::from_millis(1),
        }
    }
}

/// How messages leave nsqd's buffer at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// RDY stays at in flight + 1, and is further ahead only while a backlog drains. nsqd writes each message at once,
    /// with one system call, and a backlog in large pieces. The default.
    #[default]
    Window,
    /// nsqd uses no buffer (`output_buffer_size: -1`) and RDY stays at `max_in_flight`. nsqd makes three system calls
    /// per message and a backlog drains slowly, but no message waits for a round trip: worth a try if nsqd is far away.
    Unbuffered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Steady,
    Draining(Quiet),
    Fixed,
}

/// The input of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Messages that nsqd counts as in flight.
    pub(crate) live: u32,
    /// Messages held although they have timed out at nsqd.
    pub(crate) expired: u32,
    /// Bytes of bodies that the owner hasn't taken.
    pub(crate) buffered: usize,
}

/// What the policy wants; the budget may grant less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The RDY that nsqd knows.
    pub(crate) told: u32,
    /// Messages that nsqd counts as in flight.
    pub(crate) live: u32,
    /// The maximum RDY.
    pub(crate) most: u32,
    /// How many more may come; 0: none, for now.
    pub(crate) ahead: u32,
    /// The approximate size of the largest recent bodies.
    pub(crate) large: usize,
}

impl Wish {
    /// Returns the RDY that lets `ahead` more messages come. While the window is open, RDY isn't worth a command per
    /// message.
    pub(crate) fn rdy(self, ahead: u32) -> u32 {
        if self.ahead == 0 {
            return 0;
        }
        let most = self.live.saturating_add(ahead).min(self.most);
        let least = self.live.saturating_add(ahead.div_ceil(2)).min(self.most);
        if self.told >= least && self.told <= most { self.told } else { most }
    }
}

/// The RDY policy of one connection; see the module.
#[derive(Debug)]
pub(crate) struct Credit {
    max: u32,
    buffer_bytes: usize,
    mode: Mode,
    /// Above `buffer_bytes`, until half of it is free again.
    full: bool,
    /// The approximate size of the largest recent bodies: the window is cut so that as many of these fit the buffer.
    large: usize,
    /// The RDY that nsqd knows; 0 after SUB.
    told: u32,
}

impl Credit {
    /// Returns a policy with at most `max` messages at once (at least 1).
    pub(crate) fn new(max: u32, buffer_bytes: usize, delivery: Delivery) -> Self {
        let mode = match delivery {
            Delivery::Window => Mode::Steady,
            Delivery::Unbuffered => Mode::Fixed,
        };
        Self { max: max.max(1), buffer_bytes, mode, full: false, large: 0, told: 0 }
    }

    /// Records a message: `age` since it was published, and its body's size in bytes.
    pub(crate) fn on_message(&mut self, age: Duration, bytes: usize) {
        self.large = bytes.max(self.large - self.large / 8);
        if self.mode == Mode::Fixed {
            return;
        }
        self.mode = match self.mode {
            _ if age > VERY_OLD => Mode::Draining(Quiet::Long),
            _ if age > OLD => Mode::Draining(Quiet::Short),
            Mode::Draining(_) if age >= FRESH => Mode::Draining(Quiet::Short),
            _ => Mode::Steady,
        };
    }

    /// Returns for which quiet to watch, if any: call [`Credit::on_quiet`] then. When nsqd has used up all it may send,
    /// `live` messages, nothing can be in its buffer.
    pub(crate) fn watched_quiet(&self, live: u32) -> Option<Quiet> {
        match self.mode {
            Mode::Draining(quiet) if self.told > live => Some(quiet),
            _ => None,
        }
    }

    /// Records that the socket was quiet while draining.
    pub(crate) fn on_quiet(&mut self) {
        if matches!(self.mode, Mode::Draining(_)) {
            self.mode = Mode::Steady;
        }
    }

    /// Returns whether a message that comes now is requeued at once instead of being kept: more has come than the
    /// window allowed for, because bodies suddenly are much larger.
    pub(crate) fn refuses(&self, buffered: usize) -> bool {
        buffered > self.buffer_bytes.saturating_mul(2)
    }

    /// Returns the RDY that nsqd knows.
    pub(crate) fn told(&self) -> u32 {
        self.told
    }

    /// Returns the RDY to send now, if it changes; `grant` computes it from what the policy wants.
    pub(crate) fn update(&mut self, load: Load, grant: impl FnOnce(Wish) -> u32) -> Option<u32> {
        let told = grant(self.wish(load));
        (told != self.told).then(|| {
            self.told = told;
            told
        })
    }

    fn wish(&mut self, load: Load) -> Wish {
        if load.buffered > self.buffer_bytes {
            self.full = true;
        } else if load.buffered <= self.buffer_bytes / 2 {
            self.full = false;
        }
        let window = match self.mode {
            Mode::Steady => 1,
            Mode::Draining(_) => WINDOW,
            Mode::Fixed => self.max,
        };
        let fitting = (self.buffer_bytes - load.buffered.min(self.buffer_bytes)) / self.large.max(1);
        let ahead = window.min(u32::try_from(fitting).unwrap_or(u32::MAX)).max(1);
        Wish {
            told: self.told,
            live: load.live,
            // Timed-out messages are still held, so they count for the bound though nsqd doesn't count them.
            most: self.max.saturating_sub(load.expired),
            ahead: if self.full { 0 } else { ahead },
            large: self.large,
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/subscription/credit.rs"]
mod tests;
