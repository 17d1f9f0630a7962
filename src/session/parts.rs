//! The parts of a session's state, by concern.

use std::collections::HashMap;

use futures_util::stream::FuturesUnordered;
use tokio::time::{Duration, Instant};

use super::{Boxed, ahead, attaching, frames, history, pending, schedule, window};
use crate::{
    broker::{Prefetch, Sink},
    domain::{
        Seq,
        device::{Device, DeviceKind},
        id::ChatId,
    },
    metrics::GaugeGuard,
    protocol::FrameId,
    store::ReadOffset,
    sync::{Core, rates::DeviceLimiter},
};

/// What the device's queues have brought, and what is unacknowledged.
#[derive(Debug)]
pub(super) struct Delivery {
    pub window: window::Window,
    // How many messages are unacknowledged, as metrics report it.
    pub unacknowledged: GaugeGuard,
    // Messages and their bytes that are held for later, over all chats.
    pub early: (usize, usize),
    // Where subscriptions send.
    pub sink: Sink,
    // How many subscriptions there were so far: their numbers.
    pub subscriptions: u64,
    // What they hold together.
    pub prefetch: Prefetch,
    pub attachments: attaching::Attachments,
    // When all that subscriptions had brought was taken, as far as something looked.
    pub nothing_came_at: Instant,
}

impl Delivery {
    pub fn new(core: &Core, sink: Sink) -> Self {
        let window = core.limits.unacked_window;
        Self {
            window: window::Window::new(window),
            unacknowledged: GaugeGuard::of(&core.metrics.unacknowledged),
            early: (0, 0),
            sink,
            subscriptions: 0,
            prefetch: Prefetch::for_window(window),
            attachments: attaching::Attachments::default(),
            nothing_came_at: Instant::now(),
        }
    }
}

/// The frames of the client, and what they wait for.
#[derive(Debug)]
pub(super) struct Requests {
    pub limiter: DeviceLimiter,
    // The frame that is being answered.
    pub busy: Option<Boxed<frames::Answer>>,
    // Frames behind it.
    pub ahead: ahead::Ahead,
    // What this device itself has read, notified by others before the reply that says so. One in each chat at most, while a
    // frame is being answered.
    pub own_reads: Vec<(ChatId, ReadOffset)>,
    // Acknowledgements that want a reply once they are durable.
    pub acks: Vec<(ChatId, Seq, FrameId)>,
    pub bad_frames: u32,
    // Until then no frame is read, because there were too many.
    pub read_again: Option<Instant>,
    // How many `watch` frames there were that counted.
    pub watch_round: u64,
}

impl Requests {
    pub fn new(limiter: DeviceLimiter) -> Self {
        Self {
            limiter,
            busy: None,
            ahead: ahead::Ahead::default(),
            own_reads: Vec::new(),
            acks: Vec::new(),
            bad_frames: 0,
            read_again: None,
            watch_round: 0,
        }
    }
}

/// History that is asked for: by this device, or of it as the user's main device.
#[derive(Debug)]
pub(super) struct History {
    pub asked: HashMap<String, history::Asked>,
    pub questions: HashMap<String, history::Question>,
    // How many messages per chat below its beginning the sub may ask for; none: all.
    pub below: Option<u64>,
    // A sub whose bootstrap is complete; a main is always ready.
    pub ready: bool,
    // When it was last checked that the main is online, for a sub that isn't ready.
    pub main_check: Instant,
}

impl History {
    pub fn new(device: &Device) -> Self {
        Self {
            asked: HashMap::new(),
            questions: HashMap::new(),
            below: device.history,
            ready: device.kind == DeviceKind::Main,
            main_check: Instant::now(),
        }
    }
}

/// Whether the client is alive, and the session has its device.
#[derive(Debug)]
pub(super) struct Liveness {
    pub heard: Instant,
    pub ping_at: Instant,
    // A main that didn't answer a history request, and was silent since: until then it must be heard of.
    pub probe: Option<Instant>,
    // Whether it is being checked that the session has its device, because a cursor was fenced.
    pub checking: bool,
}

impl Liveness {
    pub fn new(heartbeat: Duration) -> Self {
        let now = Instant::now();
        Self { heard: now, ping_at: now + heartbeat, probe: None, checking: false }
    }
}

/// What is under way, and what is due.
#[derive(Debug)]
pub(super) struct Work {
    pub pending: FuturesUnordered<Boxed<pending::Done>>,
    pub schedule: schedule::Schedule,
    // Chats that wait for room.
    pub turns: schedule::Turns,
    // When the next chat may be looked for in the queues.
    pub ask_next: Instant,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            pending: FuturesUnordered::new(),
            schedule: schedule::Schedule::default(),
            turns: schedule::Turns::default(),
            ask_next: Instant::now(),
        }
    }
}
