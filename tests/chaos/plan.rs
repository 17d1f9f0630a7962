//! The plan of a run, from its seed alone: users, faults, times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

macro_rules! kinds {
    ($($kind:ident $name:literal $what:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $what] $kind,)*
        }

        /// All kinds.
        pub const KINDS: &[Kind] = &[$(Kind::$kind,)*];

        impl Kind {
            /// Describes it in words.
            pub fn what(self) -> &'static str {
                match self {
                    $(Kind::$kind => $what,)*
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    EdgeKill "edge-kill" "an edge is killed (-9) and started again",
    EdgeStop "edge-stop" "an edge is stopped (SIGTERM) and started again",
    EdgeFreeze "edge-freeze" "an edge is frozen (SIGSTOP), mostly for longer than its leases, and goes on",
    NsqdKill "nsqd-kill" "an nsqd is killed (-9) and started again",
    NsqdStop "nsqd-stop" "an nsqd is stopped (SIGTERM) and started again",
    NsqdFreeze "nsqd-freeze" "an nsqd is frozen and goes on",
    NsqdFull "nsqd-full" "the disk of an nsqd is full, and then isn't",
    NsqdLost "nsqd-lost" "an nsqd loses its disk",
    LookupdKill "lookupd-kill" "nsqlookupd is killed (-9) and started again",
    LookupdFreeze "lookupd-freeze" "nsqlookupd is frozen and goes on",
    RedisKill "redis-kill" "Redis is killed (-9) and started again",
    RedisStop "redis-stop" "Redis is stopped (SIGTERM) and started again",
    RedisFreeze "redis-freeze" "Redis is frozen and goes on",
    EventsOff "events-off" "the setting of keyspace events is taken away",
    PubsubDrop "pubsub-drop" "the connections that hear Redis's events are closed",
    LinkDelay "link-delay" "the links of an edge, or to an nsqd, get slow: 50 to 400 ms a piece",
    LinkThrottle "link-throttle" "the same links get narrow: 2 to 20 KB a second",
    LinkCut "link-cut" "the same links are cut",
    LinkHalfOpen "link-half-open" "the same links stay open and carry nothing",
    LinkOneWay "link-one-way" "the same links carry questions and no answers",
    Storm "storm" "every client drops its connection and comes back, many times a second",
    RedisLate "redis-late" "what an edge asks of Redis arrives 3 to 30 s late, while clients go on through other edges",
    RedisFar "redis-far" "Redis is 300 to 1,000 ms away from an edge with 200 idle devices, for the run's length",
    RedisClock "redis-clock" "Redis's clock jumps by 30 s, an hour or 8 days, forward or back, and then the other way",
    EdgeClock "edge-clock" "the wall clock of an edge does the same",
    NsqdSlow "nsqd-slow" "an nsqd is stopped and starts again 7 s later, while every device connects anew",
    EdgeTwin "edge-twin" "a second edge is started with the name of one that lives",
}

impl Kind {
    /// Returns its target.
    fn of(self) -> &'static str {
        match self.name().split_once('-') {
            // What it does to the link, another fault of links would undo.
            Some(("redis", "late")) => "link",
            Some(("redis" | "events" | "pubsub", _)) => "redis",
            Some((of, _)) => of,
            None => self.name(),
        }
    }

    /// Returns whether both can't be active at once: they have the same target, or one would hide the other's effect.
    fn clashes(self, other: Kind) -> bool {
        // An edge that can't reach Redis can't know that its name is taken, and one without its nsqd isn't ready in any case.
        let alone =
            |one: Kind, other: Kind| one == Kind::EdgeTwin && matches!(other.of(), "redis" | "link" | "nsqd");
        self.of() == other.of() || alone(self, other) || alone(other, self)
    }

    /// Returns whether sessions may lose, without requeueing, messages that they took from NSQ: nsqd redelivers these
    /// only after its time-out.
    pub fn strands(self) -> bool {
        matches!(
            self,
            Kind::EdgeKill
                | Kind::EdgeFreeze
                | Kind::LinkDelay
                | Kind::LinkThrottle
                | Kind::LinkCut
                | Kind::LinkHalfOpen
                | Kind::LinkOneWay
                | Kind::NsqdFreeze
        )
    }

    /// Returns whether nsqd may lose confirmed messages by it.
    pub fn loses(self) -> bool {
        matches!(self, Kind::NsqdKill | Kind::NsqdLost | Kind::NsqdFull)
    }

    /// Returns whether an edge may be unable to reach nsqd: messages sent meanwhile wait in the log.
    pub fn hides_nsqd(self) -> bool {
        matches!(self.of(), "nsqd" | "link") && self != Kind::RedisLate
    }

    /// Returns whether an edge may be cut off from what it needs, so that it closes sockets with 4304.
    pub fn parts(self) -> bool {
        !matches!(
            self,
            Kind::LookupdKill | Kind::LookupdFreeze | Kind::Storm | Kind::EdgeTwin | Kind::EdgeClock
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        let kind = KINDS.iter().find(|kind| kind.name() == text);
        kind.copied().ok_or_else(|| format!("there is no fault {text:?}; --list names them"))
    }
}

/// One fault: kind, target, strength, duration.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The kind.
    pub kind: Kind,
    /// The process or link, by number; numbers beyond the last wrap around.
    pub target: usize,
    /// The duration.
    pub lasts: Duration,
    /// The start, from the wave's start on.
    pub after: Duration,
    /// The strength, between 0 and 1: how slow, how narrow.
    pub strength: f64,
}

impl Fault {
    /// For a clock: returns the jump in seconds.
    pub fn jump(&self) -> i64 {
        const JUMPS: [i64; 6] = [30, -30, 3600, -3600, 8 * 86_400, -8 * 86_400];
        JUMPS[((self.strength * JUMPS.len() as f64) as usize).min(JUMPS.len() - 1)]
    }

    /// For a far Redis: returns the round trip.
    pub fn distance(&self) -> Duration {
        Duration::from_secs_f64(0.3 + 0.7 * self.strength)
    }
}

/// The size of the chats' logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// More than a run sends: the log repairs whatever NSQ loses.
    Long,
    /// 100 messages: the queues must bring the rest.
    Short,
}

/// The number of faults at the same time.
pub type Wave = Vec<Fault>;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of all client decisions.
    pub seed: u64,
    /// The number of edges.
    pub edges: usize,
    /// The number of users.
    pub users: usize,
    /// Whether timers are short instead of default.
    pub short: bool,
    /// The size of the chats' logs.
    pub log: Log,
    /// The minimum number of groups with all users.
    pub groups: usize,
    /// The edge that is always far from Redis, if any.
    pub far: Option<Fault>,
    /// The waves, one after the other.
    pub waves: Vec<Wave>,
    /// The minimum pause before and between waves.
    pub calm: Duration,
}

/// The number of faults in one run.
pub const FAULTS: usize = 6;

impl Plan {
    /// Returns the plan of one run of a campaign. Kinds are dealt like cards: each once before any comes again.
    pub fn new(campaign: u64, run: u64, kinds: &[Kind], faults: usize, seconds: u64) -> Plan {
        let seed = campaign.wrapping_mul(1_000_003).wrapping_add(run);
        let mut random = StdRng::seed_from_u64(seed);
        let mut left: Vec<Kind> = deal(campaign, run, kinds, faults);
        let is_far = left.contains(&Kind::RedisFar);
        left.retain(|kind| *kind != Kind::RedisFar);
        let mut waves = Vec::new();
        while !left.is_empty() {
            let at_once = *[1, 2, 2, 2, 3].choose(&mut random).unwrap_or(&1);
            // One process can't be killed and frozen at the same time.
            let (mut wave, mut later): (Wave, Vec<Kind>) = Default::default();
            for kind in left {
                let fits = wave.len() < at_once && !wave.iter().any(|fault| fault.kind.clashes(kind));
                if fits { wave.push(fault(kind, &mut random)) } else { later.push(kind) }
            }
            left = later;
            waves.push(wave);
        }
        // What faults and recovery leave of the time.
        let each = seconds.saturating_sub(6 * waves.len() as u64) / (waves.len() as u64 + 1);
        let most = if waves.is_empty() { seconds } else { 10 };
        Plan {
            seed,
            edges: random.random_range(2..=3),
            users: random.random_range(3..=4),
            short: random.random_ratio(1, 2),
            log: if run.is_multiple_of(2) { Log::Short } else { Log::Long },
            // By thirds, so that each of these comes with each log.
            groups: if run % 3 == 1 { 40 } else { 2 },
            far: is_far.then(|| fault(Kind::RedisFar, &mut random)),
            waves,
            calm: Duration::from_secs(each.clamp(1, most.max(1))),
        }
    }

    /// Returns whether it has a fault of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults().any(|fault| fault.kind == kind)
    }

    /// Returns all faults.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.waves.iter().flatten().chain(&self.far)
    }
}

fn deal(campaign: u64, run: u64, kinds: &[Kind], faults: usize) -> Vec<Kind> {
    let (count, faults) = (kinds.len().max(1) as u64, faults as u64);
    let cards = run * faults..(run + 1) * faults;
    cards
        .filter_map(|card| {
            let mut deck = kinds.to_vec();
            deck.shuffle(&mut StdRng::seed_from_u64(campaign ^ (card / count).wrapping_mul(0x9e37_79b9)));
            deck.get(usize::try_from(card % count).unwrap_or(0)).copied()
        })
        .collect()
}

fn fault(kind: Kind, random: &mut StdRng) -> Fault {
    let lasts = match kind {
        // A lease is 3 or 6 s: some are shorter, most are longer.
        Kind::EdgeFreeze => random.random_range(2000..9000),
        Kind::EdgeKill | Kind::NsqdKill | Kind::RedisKill => random.random_range(200..3500),
        // Only who comes or goes meanwhile feels it.
        Kind::LookupdKill | Kind::LookupdFreeze => random.random_range(3000..6000),
        Kind::NsqdLost | Kind::EventsOff | Kind::PubsubDrop => 100,
        Kind::Storm => random.random_range(1000..3000),
        // Mostly longer than a lease; sometimes as long as work is leased.
        Kind::RedisLate if random.random_ratio(3, 4) => random.random_range(3000..12_000),
        Kind::RedisLate => random.random_range(12_000..30_000),
        Kind::NsqdSlow => 7000,
        // As long as it takes to see whether it starts.
        Kind::EdgeTwin => 100,
        _ => random.random_range(1500..6000),
    };
    Fault {
        kind,
        target: random.random_range(0..60),
        lasts: Duration::from_millis(lasts),
        after: Duration::from_millis(random.random_range(0..1200)),
        strength: random.random(),
    }
}
