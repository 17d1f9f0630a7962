//! The switch of the planted bugs. A test that can't fail proves nothing, so each of these mistakes can be switched on, one at
//! a time, and the simulation (or the store's contract) must find it by its name.
//!
//! The server's sources hold none of this. `main.rs` beside it writes a copy of them with all bugs of `bugs.diff` and this file
//! as `src/planted.rs`; `scripts/simulate` and `scripts/mutants` build that copy.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "the copy uses all of it, the tests of the real sources only names"
)]

/// Whether this bug is switched on.
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
}

pub use chosen::{Bug, choose, is};
pub(crate) use scripts::script;
pub use scripts::{ScriptBug, choose_script};

mod chosen {
    use std::sync::atomic::{AtomicUsize, Ordering};

    // One for the whole process: a run looks for one at a time.
    static CHOSEN: AtomicUsize = AtomicUsize::new(0);

    macro_rules! bugs {
        ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
            /// What can be planted.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Bug {
                $($(#[doc = $doc])* $name,)*
            }

            impl Bug {
                /// All of them.
                pub const ALL: &[Bug] = &[$(Bug::$name,)*];

                /// Its name on the command line.
                #[must_use]
                pub fn name(self) -> &'static str {
                    match self { $(Bug::$name => $text,)* }
                }
            }
        };
    }

    bugs! {
        /// Messages are finished in NSQ when the device acknowledges, before its cursor is durable.
        FinishBeforeCursor = "finish-before-cursor",
        /// Nobody looks into the log when NSQ doesn't bring a message.
        NoTailCheck = "no-tail-check",
        /// A session detaches a quiet queue although a doorbell was heard just before.
        DoorbellWhileDetaching = "doorbell-while-detaching",
        /// A device that connects doesn't look again after it has subscribed to the doorbells.
        DoorbellWhileConnecting = "doorbell-while-connecting",
        /// What NSQ didn't confirm isn't published again.
        NoOutbox = "no-outbox",
        /// A message is published before all members have their queues.
        PublishEarly = "publish-early",
        /// What the broker never takes stays in the outbox, and everything behind it.
        PoisonStays = "poison-stays",
        /// Each queue of a device is taken from as if it were its only one.
        NoBudget = "no-budget",
        /// A message leaves the outbox before NSQ has confirmed it.
        ConfirmBeforePublish = "confirm-before-publish",
        /// The outbox of an edge that died is nobody's.
        NoAdoption = "no-adoption",
        /// A terminated device's queues are deleted while its consumers are still attached.
        DeleteBeforeStop = "delete-before-stop",
        /// A terminated device's queues are deleted once, without a second look.
        SingleDeletePass = "single-delete-pass",
        /// A termination is done after a look that removed something, if nothing is seen just then.
        LastLookRemoves = "last-look-removes",
        /// A queue that is made for a device that was ended meanwhile stays.
        LateQueueStays = "late-queue-stays",
        /// A termination whose edge dies is nobody's.
        NoTerminationResume = "no-termination-resume",
        /// An older session may still move the device's cursor.
        NoSessionCheck = "no-session-check",
        /// An edge whose lease has run out goes on.
        NoLeaseCheck = "no-lease-check",
        /// A terminated device's token goes on to be good.
        NoTombstoneCheck = "no-tombstone-check",
        /// The read offset is whatever was written last.
        LastWriteWins = "last-write-wins",
        /// Offsets aren't read again after events were missed.
        NoReread = "no-reread",
        /// Nobody compares a user's chats with those that their sessions take part in.
        NoChatSweep = "no-chat-sweep",
        /// A session goes on to follow a chat that its user has left.
        FollowerStays = "follower-stays",
        /// A retry with the same key is a message of its own.
        NoKeyCheck = "no-key-check",
        /// A message that arrives early is sent at once, over the hole before it.
        SkipHoles = "skip-holes",
        /// An acknowledgement counts for everything that was sent.
        AckAll = "ack-all",
        /// A member who comes back receives what was said in between.
        OldBoundary = "old-boundary",
        /// A new device reads its user's chats before it is written.
        RegisterLate = "register-late",
        /// Orphan queues, and queues that were lost, stay so.
        NoReconciler = "no-reconciler",
        /// A message is sent whoever may have left the chat before it was written.
        IgnoreEpoch = "ignore-epoch",
        /// What the log no longer has is told as a gap after 3 s, whatever the queues hold.
        GapWhileQueued = "gap-while-queued",
        /// What the log no longer has is told as a gap when one look has found it nowhere.
        GapAtFirstLook = "gap-at-first-look",
        /// What came too early doesn't give way to what is behind it.
        KeepEarly = "keep-early",
        /// A leave that is executed late ends whatever membership there is.
        UnfencedLeave = "unfenced-leave",
        /// A member's device is unsubscribed, too.
        UnfencedUnsubscribe = "unfenced-unsubscribe",
        /// Devices of members that aren't subscribed stay so.
        NoPositionRestore = "no-position-restore",
        /// Messages don't say at which epoch they were appended.
        NoEpoch = "no-epoch",
        /// Whoever has left still reads the log.
        UnfencedLog = "unfenced-log",
        /// A page that the main answers isn't checked.
        NoPageCheck = "no-page-check",
        /// An opening that is executed late takes the device from a session that was opened meanwhile.
        LateOpen = "late-open",
        /// The number of a session that was closed can be renewed.
        ClosedNumberLives = "closed-number-lives",
        /// A session is replaced by any newer number, also where nobody is there with it.
        AnyNewerReplaces = "any-newer-replaces",
        /// A session's lease is counted from the store's answer, so it outlasts the store's own.
        LeaseFromAnswer = "lease-from-answer",
        /// An edge whose lease has run out goes on as the same incarnation, and so do its sockets.
        OldIncarnationServes = "old-incarnation-serves",
        /// What a queue brings isn't compared with what was published.
        TrustQueue = "trust-queue",
        /// How far a termination is is whatever was written last.
        LastTerminationWins = "last-termination-wins",
        /// A note that was made again is forgotten by who read the one before.
        StaleNoteForgotten = "stale-note-forgotten",
        /// A chat at the edge of a page is never compared.
        SweepSkips = "sweep-skips",
    }

    /// Switches one on, or all off.
    pub fn choose(bug: Option<Bug>) {
        CHOSEN.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        CHOSEN.load(Ordering::Relaxed) == bug as usize + 1
    }
}

mod scripts {
    use std::sync::OnceLock;

    /// A mistake in one script of the store in Redis.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ScriptBug {
        /// Its file in `src/store/lua`, without `.lua`.
        pub script: &'static str,
        /// What is taken out. It must be there exactly once.
        pub text: &'static str,
        /// What is put in its place.
        pub instead: &'static str,
    }

    // One for the whole process, and before it first connects: a script is read once.
    static CHOSEN: OnceLock<ScriptBug> = OnceLock::new();

    /// Switches one on, for the rest of this process. Call it before the first connection to Redis.
    ///
    /// # Panics
    /// When another one is on already.
    pub fn choose_script(bug: ScriptBug) {
        let chosen = CHOSEN.get_or_init(|| bug);
        assert_eq!(*chosen, bug, "one process has one planted script");
    }

    impl ScriptBug {
        /// The script with the mistake.
        ///
        /// # Errors
        /// When the text to be replaced isn't there exactly once: the script has changed, and the bug must follow it.
        pub fn apply(&self, source: &str) -> Result<String, String> {
            match source.matches(self.text).count() {
                1 => Ok(source.replacen(self.text, self.instead, 1)),
                times => Err(format!(
                    "{}.lua has {:?} {times} times instead of once: bring the planted bug up to date with it",
                    self.script, self.text
                )),
            }
        }
    }

    /// The text of one of the store's scripts, with the mistake that was chosen for it.
    pub(crate) fn script(name: &str, source: &'static str) -> &'static str {
        match CHOSEN.get().filter(|bug| bug.script == name).map(|bug| bug.apply(source)) {
            Some(Ok(mutated)) => mutated.leak(),
            // A process that runs the script as it is would say that the bug is harmless.
            Some(Err(why)) => panic!("{why}"),
            None => source,
        }
    }
}
