//! One chat and the sessions that follow it here: who is behind, who is idle, and whom a doorbell wakes. Pure but for
//! the mailboxes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Command, SessionHandle};
use crate::domain::{
    Seq,
    id::{ChatId, DeviceId},
};

/// The highest seq of one chat that one session has sent; shared with the tail check.
pub type Progress = Arc<AtomicU64>;

/// One chat of a session, as others see it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// How far it was sent.
    pub progress: Progress,
    /// The node of the broker from which the session receives it.
    pub node: Arc<str>,
    /// Whether the session consumes the chat's queue now.
    pub intake: Intake,
}

/// Whether a session consumes a chat's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It does, or is about to.
    Awake,
    /// It doesn't, and must be woken when the chat has something new.
    Idle,
}

/// The outcome of a doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorbellOutcome {
    /// No session here follows the chat.
    NobodyHere,
    /// Every session has the message, or will look for it anyway.
    Known,
    /// The caller shall call [`super::Hub::tail_check`] once, when the time for NSQ to deliver is over.
    Check,
}

/// Doorbells this close to each other share one tail check.
pub(super) const TOGETHER: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Follower {
    session: SessionHandle,
    followed: Followed,
}

impl Follower {
    fn behind(&self, seq: Seq) -> bool {
        self.followed.progress.load(Ordering::Relaxed) < seq
    }

    /// Makes an idle session attach. Returns whether it was idle.
    fn wakes(&mut self, chat: ChatId, seq: Seq) -> bool {
        let idle = std::mem::replace(&mut self.followed.intake, Intake::Awake) == Intake::Idle;
        if idle {
            self.session.mailbox.notify(Command::Doorbell(chat, seq));
        }
        idle
    }
}

/// A chat that somebody here follows.
#[derive(Debug, Default)]
pub(super) struct ChatEntry {
    followers: Vec<Follower>,
    // The tail checks that are due: up to which seq, and the time of the doorbell. Bounded: they are `TOGETHER` apart,
    // and each is due within the same time.
    checks: VecDeque<(Seq, Instant)>,
    // The highest seq that a doorbell here has announced.
    rung: Seq,
    // How many followers are idle.
    idle: usize,
}

impl ChatEntry {
    pub(super) fn is_empty(&self) -> bool {
        self.followers.is_empty()
    }

    /// Adds a session. A doorbell may have come between its read of the head and this: then it is woken.
    pub(super) fn add(&mut self, chat: ChatId, session: SessionHandle, followed: Followed) {
        self.idle += usize::from(followed.intake == Intake::Idle);
        self.followers.push(Follower { session, followed });
        self.wake(chat, self.rung);
    }

    pub(super) fn forget(&mut self, handle: &SessionHandle) {
        let idle = &mut self.idle;
        self.followers.retain(|follower| {
            let is_other = !follower.session.same(handle);
            *idle -= usize::from(!is_other && follower.followed.intake == Intake::Idle);
            is_other
        });
    }

    /// Notifies the sessions that receive the chat from another node that this node carries it.
    pub(super) fn placed(&mut self, chat: ChatId, node: &str) {
        for Follower { session, followed } in &mut self.followers {
            if *followed.node != *node {
                followed.node = node.into();
                session.mailbox.notify(Command::ChatRelocated(chat, followed.node.clone()));
            }
        }
    }

    /// See [`super::Hub::rest`].
    pub(super) fn rest(&mut self, handle: &SessionHandle, seq: Seq) -> Intake {
        if self.rung > seq {
            return Intake::Awake;
        }
        let Some(follower) = self.followers.iter_mut().find(|follower| follower.session.same(handle)) else {
            return Intake::Awake;
        };
        let before = std::mem::replace(&mut follower.followed.intake, Intake::Idle);
        self.idle += usize::from(before == Intake::Awake);
        Intake::Idle
    }

    /// See [`super::Hub::awake`].
    pub(super) fn awake(&mut self, handle: &SessionHandle) {
        if self.idle == 0 {
            return;
        }
        let follower = self.followers.iter_mut().find(|follower| follower.session.same(handle));
        if let Some(follower) = follower.filter(|follower| follower.followed.intake == Intake::Idle) {
            follower.followed.intake = Intake::Awake;
            self.idle -= 1;
        }
    }

    /// Wakes idle sessions that are behind.
    fn wake(&mut self, chat: ChatId, seq: Seq) {
        self.rung = self.rung.max(seq);
        if self.idle > 0 {
            let behind = self.followers.iter_mut().filter(|follower| follower.behind(seq));
            self.idle -= behind.map(|follower| usize::from(follower.wakes(chat, seq))).sum::<usize>();
        }
    }

    /// Wakes the idle sessions of these devices, or all if none is named, whatever they have.
    pub(super) fn wake_all(&mut self, chat: ChatId, devices: &[DeviceId]) {
        if self.idle > 0 {
            let named = |session: &SessionHandle| devices.is_empty() || devices.contains(&session.device);
            for follower in self.followers.iter_mut().filter(|follower| named(&follower.session)) {
                let has = follower.followed.progress.load(Ordering::Relaxed);
                self.idle -= usize::from(follower.wakes(chat, has));
            }
        }
    }

    /// See [`super::Hub::doorbell`].
    pub(super) fn doorbell(&mut self, chat: ChatId, seq: Seq, now: Instant) -> DoorbellOutcome {
        self.wake(chat, seq);
        if let Some((due, since)) = self.checks.back_mut()
            && (*due >= seq || now < *since + TOGETHER)
        {
            *due = seq.max(*due);
            return DoorbellOutcome::Known;
        }
        if !self.followers.iter().any(|follower| follower.behind(seq)) {
            return DoorbellOutcome::Known;
        }
        self.checks.push_back((seq, now));
        DoorbellOutcome::Check
    }

    /// See [`super::Hub::tail_check`].
    pub(super) fn tail_check(&mut self, chat: ChatId) {
        let Some((due, _)) = self.checks.pop_front() else { return };
        for follower in self.followers.iter().filter(|follower| follower.behind(due)) {
            follower.session.mailbox.notify(Command::Tail(chat, due));
        }
    }

    /// The sessions that follow the chat.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &SessionHandle> {
        self.followers.iter().map(|follower| &follower.session)
    }
}
