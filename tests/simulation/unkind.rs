//! What the model may do to the server beside the faults of old, each by its name, so that what today's server can't live with
//! yet stands in one place.

use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// See the module.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Unkind {
            $($(#[doc = $doc])* $name,)*
        }

        impl Unkind {
            /// All of them.
            pub const ALL: &[Unkind] = &[$(Unkind::$name,)*];

            /// Its name on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Unkind::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Attaching takes up to 10 s.
    SlowAttach = "slow-attach",
    /// Connections on which the broker sends are lost, some of which the broker takes for good for a while.
    LinesLost = "lines-lost",
    /// A gap is told although the queue or the log holds the message: a violation.
    GapsHeld = "gaps-held",
    /// Bots send messages that the broker refuses for ever.
    LargeMessages = "large-messages",
    /// A message that was appended after a leave was answered comes: a violation.
    StrictScope = "strict-scope",
    /// A socket is closed 44xx without a true reason, or 4301 though its client reads: a violation.
    StrictCloses = "strict-closes",
    /// A device's position is above what its user and it itself were there for: a violation.
    Positions = "positions",
    /// More messages than the window are sent before the first is acknowledged: a violation.
    Window = "window",
    /// Callers who are answered `unavailable`, or not at all, never ask again.
    GivesUp = "gives-up",
    /// An owner invites and removes somebody who asks for nothing.
    Invitations = "invitations",
    /// Calls to the store are done when their callers have given up, up to 30 s late and some of them twice.
    LateCalls = "late-calls",
    /// The store's clock jumps by half a minute, an hour or eight days, forward and back.
    StoreClock = "store-clock",
    /// An edge's wall clock does.
    EdgeClock = "edge-clock",
    /// Round trips to the store take up to a second for minutes, with hundreds of devices on the edge.
    SlowStore = "slow-store",
    /// Messages come torn out of a queue.
    TornMessages = "torn-messages",
    /// Forty chats a device.
    ManyChats = "many-chats",
}

/// What is wrong only where the model is strict: how a violation of each sounds.
const STRICT: &[(Unkind, &str)] = &[
    (Unkind::StrictScope, "after the leave of"),
    (Unkind::StrictCloses, " was closed 4"),
    (Unkind::Positions, " and it is owed all above "),
    (Unkind::Window, " is the window"),
];

/// Leaves those violations that count.
pub fn counted(violations: Vec<String>) -> Vec<String> {
    let excused =
        |violation: &String| STRICT.iter().any(|(kind, words)| !may(*kind) && violation.contains(words));
    let more = |violation: &String| violation.ends_with("more of these");
    let number = |violation: &str| violation.split([' ', ':']).nth(1).unwrap_or_default().to_owned();
    let counted: Vec<String> = violations
        .iter()
        .filter(|violation| !excused(violation) && !more(violation))
        .map(|it| number(it))
        .collect();
    let counts = |it: &String| !excused(it) && (!more(it) || counted.contains(&number(it)));
    violations.into_iter().filter(counts).collect()
}

/// What is left out because the server can't live with it yet, and why.
pub const OFF: &[(Unkind, &str)] = &[];

static ON: AtomicU32 = AtomicU32::new(u32::MAX);

/// Leaves out what stands in [`OFF`] (unless `all`), and these names. The name that there isn't.
pub fn choose(all: bool, without: &[String]) -> Result<(), String> {
    let mut on = u32::MAX;
    for (kind, _) in OFF.iter().filter(|_| !all) {
        on &= !(1 << *kind as u32);
    }
    for name in without {
        let Some(kind) = Unkind::ALL.iter().find(|kind| kind.name() == name) else {
            let names: Vec<_> = Unkind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!("there is no {name}; there are {}", names.join(", ")));
        };
        on &= !(1 << *kind as u32);
    }
    ON.store(on, Ordering::Relaxed);
    Ok(())
}

/// Whether it may be.
pub fn may(kind: Unkind) -> bool {
    ON.load(Ordering::Relaxed) & (1 << kind as u32) != 0
}
