//! A session's pending commands. News of a chat is coalesced: only the current state matters, so newer news of a kind
//! replaces older news that wasn't taken yet. The user's chats bound it, and it closes no session. Stream commands
//! (members who join and leave, requests and answers) have room of their own; a session that lets it fill up is closed
//! as a slow consumer.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::{CloseSignal, Command, lock};
use crate::{
    domain::{Seq, id::ChatId},
    protocol::CloseCode,
    store::{CursorMoved, ReadOffset},
};

/// The maximum number of chats with pending news. Only membership news can exceed it, and the membership sweep finds
/// those changes again.
const CHATS: usize = 4096;

/// The pending news of one chat.
#[derive(Debug, Default)]
struct News {
    membership: bool,
    doubtful: bool,
    relocated: Option<Arc<str>>,
    rung: Option<Seq>,
    tail: Option<Seq>,
    persisted: Option<Option<CursorMoved>>,
}

impl News {
    /// Returns the session's commands, in the order of execution.
    fn into_commands(self, chat: ChatId) -> impl Iterator<Item = Command> {
        let relocated = self.relocated.map(|node| Command::ChatRelocated(chat, node));
        let rung = self.rung.map(|seq| Command::Doorbell(chat, seq));
        let tail = self.tail.map(|seq| Command::Tail(chat, seq));
        let persisted = self.persisted.map(|persisted| Command::CursorPersisted(chat, persisted));
        relocated.into_iter().chain(rung).chain(tail).chain(persisted)
    }
}

/// What a session takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All commands.
    Everything,
    /// Only the session's own work, because there is no room for more frames to the client.
    NoFrames,
}

fn look(all: &mut BTreeMap<ChatId, News>, chat: ChatId, say: impl FnOnce(&mut News)) {
    if all.len() < CHATS || all.contains_key(&chat) {
        say(all.entry(chat).or_default());
    }
}

/// The pending commands. Pure.
#[derive(Debug, Default)]
struct Pending {
    chats: BTreeMap<ChatId, News>,
    // News of chats for the client. Kept apart, so that a search for the session's own work doesn't go through it.
    reads: BTreeMap<ChatId, ReadOffset>,
    stream: Vec<Command>,
}

impl Pending {
    /// Adds a command. Returns false if there is no room.
    fn put(&mut self, command: Command, room: usize) -> bool {
        let Self { chats: all, reads, stream } = self;
        match command {
            Command::Membership(chats) => {
                chats.into_iter().for_each(|chat| look(all, chat, |news| news.membership = true));
            }
            Command::CheckMemberships(chats) => {
                chats.into_iter().for_each(|chat| look(all, chat, |news| news.doubtful = true));
            }
            Command::ChatRelocated(chat, node) => all.entry(chat).or_default().relocated = Some(node),
            Command::Doorbell(chat, seq) => {
                let rung = &mut all.entry(chat).or_default().rung;
                *rung = (*rung).max(Some(seq));
            }
            Command::Tail(chat, seq) => {
                let tail = &mut all.entry(chat).or_default().tail;
                *tail = (*tail).max(Some(seq));
            }
            Command::CursorPersisted(chat, persisted) => {
                all.entry(chat).or_default().persisted = Some(persisted)
            }
            Command::Read(chat, offset) => {
                let read = reads.entry(chat).or_insert(offset);
                if read.seq < offset.seq {
                    *read = offset;
                }
            }
            other if stream.len() < room => stream.push(other),
            _ => return false,
        }
        true
    }

    /// Takes what is wanted: memberships first, in one command; then other news, chat by chat; then the stream, in its
    /// order.
    fn take(&mut self, wanted: Wanted) -> Vec<Command> {
        let (mut memberships, mut doubtful) = (Vec::new(), Vec::new());
        let mut news = Vec::new();
        for (chat, new) in std::mem::take(&mut self.chats) {
            match (new.membership, new.doubtful) {
                (true, _) => memberships.push(chat),
                (false, true) => doubtful.push(chat),
                (false, false) => {}
            }
            news.extend(new.into_commands(chat));
        }
        let mut out = Vec::new();
        if !memberships.is_empty() {
            out.push(Command::Membership(memberships));
        }
        if !doubtful.is_empty() {
            out.push(Command::CheckMemberships(doubtful));
        }
        out.append(&mut news);
        if wanted == Wanted::Everything {
            out.extend(
                std::mem::take(&mut self.reads).into_iter().map(|(chat, read)| Command::Read(chat, read)),
            );
            if out.is_empty() {
                return std::mem::take(&mut self.stream);
            }
            out.append(&mut std::mem::take(&mut self.stream));
        }
        out
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    room: usize,
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    waits: Option<Waker>,
    over: bool,
}

/// The sending end of a session's commands and its close signal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
    /// Closes the session.
    pub close_signal: Arc<CloseSignal>,
}

/// The receiving end. When it is dropped, every later command is dropped.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

impl Mailbox {
    /// Returns a mailbox with room for `room` commands that aren't news of a chat, and its inbox.
    #[must_use]
    pub fn new(room: usize) -> (Self, Inbox) {
        let shared = Arc::new(Shared { state: Mutex::default(), room });
        (Self { shared: shared.clone(), close_signal: Arc::default() }, Inbox(shared))
    }

    /// Adds a command that can wait or be lost, only while at least half of the room is free. Returns false if it
    /// wasn't added.
    pub fn offer(&self, command: Command) -> bool {
        self.put(command, self.shared.room / 2)
    }

    /// Adds a command. Closes a session whose mailbox has no room because it doesn't take its commands.
    pub fn notify(&self, command: Command) {
        if !self.put(command, self.shared.room) {
            self.close_signal.close(CloseCode::SlowConsumer);
        }
    }

    // A session that is over has taken everything.
    fn put(&self, command: Command, room: usize) -> bool {
        let mut state = lock(&self.shared.state);
        if state.over {
            return true;
        }
        let put = state.pending.put(command, room);
        let waits = if put { state.waits.take() } else { None };
        drop(state);
        if let Some(waits) = waits {
            waits.wake();
        }
        put
    }
}

impl Inbox {
    /// Waits for wanted commands, and takes all of them. Cancel safe.
    pub async fn next(&mut self, wanted: Wanted) -> Vec<Command> {
        poll_fn(|cx| self.poll(wanted, cx)).await
    }

    /// Returns the commands that are pending now.
    #[must_use]
    pub fn take(&mut self) -> Vec<Command> {
        lock(&self.0.state).pending.take(Wanted::Everything)
    }

    fn poll(&self, wanted: Wanted, cx: &mut Context<'_>) -> Poll<Vec<Command>> {
        let mut state = lock(&self.0.state);
        let taken = state.pending.take(wanted);
        if !taken.is_empty() {
            return Poll::Ready(taken);
        }
        match &mut state.waits {
            Some(waits) => waits.clone_from(cx.waker()),
            waits => *waits = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        *state = State { over: true, ..State::default() };
    }
}

#[cfg(test)]
#[path = "../../tests/unit/hub/inbox.rs"]
mod tests;
