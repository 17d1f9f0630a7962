//! What a run does, decided by its seed alone: who is there, which faults, when, how long.

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

        /// All of them.
        pub const KINDS: &[Kind] = &[$(Kind::$kind,)*];

        impl Kind {
            /// In words.
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
}

impl Kind {
    /// What it happens to; at the same time there is one fault of each at most.
    fn of(self) -> &'static str {
        match self.name().split_once('-') {
            Some(("redis" | "events" | "pubsub", _)) => "redis",
            Some((of, _)) => of,
            None => self.name(),
        }
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

/// One fault: what, to which of its kind, how hard, how long.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Which of the processes or links, by number; more than there are count from the start again.
    pub target: usize,
    /// How long, from its begin on.
    pub lasts: Duration,
    /// How long after the wave's begin.
    pub after: Duration,
    /// Between 0 and 1: how slow, how narrow.
    pub strength: f64,
}

/// Faults at the same time.
pub type Wave = Vec<Fault>;

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For everything the clients decide.
    pub seed: u64,
    /// How many edges.
    pub edges: usize,
    /// How many users.
    pub users: usize,
    /// Whether timers are short, or as they come.
    pub short: bool,
    /// What happens, one wave after the other.
    pub waves: Vec<Wave>,
    /// Calm before and between the waves, at least.
    pub calm: Duration,
}

/// Faults in one run.
pub const FAULTS: usize = 6;

impl Plan {
    /// The plan of one run of a campaign. Kinds are dealt like cards: each once before any comes again.
    pub fn new(campaign: u64, run: u64, kinds: &[Kind], faults: usize, seconds: u64) -> Plan {
        let seed = campaign.wrapping_mul(1_000_003).wrapping_add(run);
        let mut random = StdRng::seed_from_u64(seed);
        let mut left: Vec<Kind> = deal(campaign, run, kinds, faults);
        let mut waves = Vec::new();
        while !left.is_empty() {
            let at_once = *[1, 2, 2, 2, 3].choose(&mut random).unwrap_or(&1);
            // One process can't be killed and frozen at the same time.
            let (mut wave, mut later): (Wave, Vec<Kind>) = Default::default();
            for kind in left {
                let fits = wave.len() < at_once && wave.iter().all(|fault| fault.kind.of() != kind.of());
                if fits { wave.push(fault(kind, &mut random)) } else { later.push(kind) }
            }
            left = later;
            waves.push(wave);
        }
        // What faults and recovery leave of the time.
        let each = seconds.saturating_sub(6 * waves.len() as u64) / (waves.len() as u64 + 1);
        Plan {
            seed,
            edges: random.random_range(2..=3),
            users: random.random_range(3..=4),
            short: random.random_ratio(1, 2),
            waves,
            calm: Duration::from_secs(each.clamp(1, 10)),
        }
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
