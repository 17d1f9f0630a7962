//! Reads messages that a chat's queue doesn't bring from the chat's log, as far as the window has room.

use std::time::Duration;

use tokio::time::Instant;

use super::{Boxed, Session, attaching::Stage, chats::Source, pending::Done};
use crate::{
    domain::{id::ChatId, message::split_epoch},
    store::{LogPage, Reader, Result as Stored},
};

/// The log fills a hole this long after the queue's last message; until then the queue may still bring it.
pub(super) const HOLE_PATIENCE: Duration = Duration::from_millis(50);
/// Early messages at which the log fills the hole at once: the queue stops at 256 in flight.
pub(super) const HELD: usize = 128;
/// Messages and bytes per page of the log. The room for a page is kept free while it is read.
const PAGE_MESSAGES: usize = 64;
const PAGE_BYTES: usize = 256 << 10;
/// Pause before a log is read again that couldn't be read, or had nothing new.
const UNREADABLE: Duration = Duration::from_secs(1);
const NOTHING_NEW: Duration = Duration::from_millis(200);

impl Session {
    /// Reads missing messages that the queue won't bring from the log; if the log lacks them, asks whether any queue has them.
    pub(super) fn check_chat(&mut self, chat: ChatId) {
        let (room, now) = (self.has_room(), Instant::now());
        let patience = self.core.timing.tail_check;
        if self.leave_at.is_some() {
            return;
        }
        self.return_parked(chat, now);
        let Some(state) = self.chats.get_mut(&chat) else { return };
        match state.place.stage {
            // Its queue brings what is missing, and is checked again when it has had its time.
            Stage::Idle if state.seen.tail >= state.feed.next() => return self.attach(chat),
            Stage::Idle | Stage::Waiting => return,
            Stage::Consumed(_) | Stage::Gone => {}
        }
        if state.feed.is_fenced() {
            return self.check_epoch(chat);
        }
        let quiet = now.saturating_duration_since(state.seen.arrived);
        let hole = state.feed.hole();
        let wait = if hole.is_some() && (state.feed.held().0 >= HELD || quiet >= HOLE_PATIENCE) {
            None
        } else if hole.is_some() {
            Some(HOLE_PATIENCE - quiet)
        } else if state.seen.tail < state.feed.next() {
            state.fill.missing = None;
            return;
        } else {
            patience.checked_sub(quiet).filter(|left| !left.is_zero())
        };
        if let Some(wait) = wait {
            return self.schedule_check(chat, now + wait);
        }
        if !room {
            return self.wait_for_room(chat);
        }
        // A sendable message already waits for room.
        if state.feed.has_next() {
            return self.send_early(chat);
        }
        match &state.fill.missing {
            Some(missing) if missing.seq == state.feed.next() => self.query_queues(chat, now),
            _ => self.fill_from_log(chat),
        }
    }

    /// Reads the next missing range from the log, as the session's user may see it.
    pub(super) fn fill_from_log(&mut self, chat: ChatId) {
        let room = self.delivery.window.room();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        if state.fill.filling || self.leave_at.is_some() {
            return;
        }
        let next = state.feed.next();
        let missing = state.feed.hole().map_or(u64::MAX, |last| last + 1 - next);
        let count = usize::try_from(missing).unwrap_or(usize::MAX).min(room).min(PAGE_MESSAGES);
        if count == 0 {
            return self.wait_for_room(chat);
        }
        state.fill.filling = true;
        self.delivery.window.reserve(count);
        let core = self.core.clone();
        let reader = Reader { user: self.handle.user.clone(), since: state.position.from };
        self.work.pending.push(Boxed::new(async move {
            Done::Log(chat, count, core.store.log_of_member(chat, &reader, next, count, PAGE_BYTES).await)
        }));
    }

    /// A page of the log, for which `reserved` places were kept.
    pub(super) fn on_log(&mut self, chat: ChatId, reserved: usize, page: Stored<Option<LogPage>>) {
        self.delivery.window.release(reserved);
        let now = Instant::now();
        let Some(state) = self.chats.get_mut(&chat) else { return };
        state.fill.filling = false;
        let page = match page {
            Ok(Some(page)) => page,
            Ok(None) => return self.check_membership(chat),
            Err(error) => {
                tracing::warn!(%chat, %error, "reading the log failed; will retry");
                return self.schedule_check(chat, now + UNREADABLE);
            }
        };
        if page.floor > state.feed.next() {
            return self.start_gap_search(chat, page.floor, now);
        }
        state.fill.missing = None;
        let mut filled = 0u64;
        for (seq, body) in page.messages {
            if !self.has_room() {
                break;
            }
            let Some(state) = self.chats.get_mut(&chat) else { return };
            if state.feed.fill(seq) {
                filled += 1;
                let (frame, _) = split_epoch(body);
                self.deliver(chat, seq, frame, Source::Log);
            }
        }
        if filled > 0 {
            self.core.metrics.refills.inc();
        }
        self.count_early(chat);
        self.send_early(chat);
        let Some(state) = self.chats.get(&chat) else { return };
        if state.seen.tail < state.feed.next() && state.feed.hole().is_none() {
            return;
        }
        // The queue has had its time for this range; the rest is checked again after others had their turn. Without anything new
        // in the log there is no hurry.
        match filled {
            0 => self.schedule_check(chat, now + NOTHING_NEW),
            _ => self.wait_for_room(chat),
        }
    }
}
