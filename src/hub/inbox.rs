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
    tail: Option<Seq>,
    persisted: Option<Option<CursorMoved>>,
}

impl News {
    /// Returns the session's commands, in the order of execution.
    fn into_commands(self, chat: ChatId) -> impl Iterator<Item = Command> {
        let relocated = self.relocated.map(|node| Command::ChatRelocated(chat, node));
        let tail = self.tail.map(|seq| Command::Tail(chat, seq));
        let persisted = self.persisted.map(|persisted| Command::CursorPersisted(chat, persisted));
        relocated.into_iter().chain(tail).chain(persisted)
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
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::id::{DeviceId, UserId},
        protocol::DeviceEvent,
    };

    const ROOM: usize = 16;

    /// Returns a command from a form that can be generated at random: a kind, a chat, a number.
    fn command((kind, chat, number): (u8, u8, u64)) -> Command {
        let chat = id(chat);
        match kind {
            0 if number < 25 => Command::Membership(vec![chat]),
            0 => Command::CheckMemberships(vec![chat]),
            1 => Command::ChatRelocated(chat, number.to_string().into()),
            2 => Command::Tail(chat, number),
            3 => Command::CursorPersisted(chat, Some(CursorMoved::At(number))),
            4 => Command::Read(chat, ReadOffset { seq: number, device: None }),
            _ => Command::Device(DeviceEvent::Online, DeviceId::from_hex(&"0".repeat(32)).unwrap(), number),
        }
    }

    fn id(n: u8) -> ChatId {
        ChatId::from_hex(&format!("{n:032x}")).unwrap()
    }

    /// What a session knows after it has executed everything: of each chat the last of each kind; and the stream.
    #[derive(Debug, Default, PartialEq)]
    struct Known {
        relocated: HashMap<ChatId, String>,
        tails: HashMap<ChatId, Seq>,
        persisted: HashMap<ChatId, Option<CursorMoved>>,
        reads: HashMap<ChatId, Seq>,
        stream: Vec<u64>,
    }

    impl Known {
        fn does(&mut self, command: &Command) {
            match command {
                Command::ChatRelocated(chat, node) => drop(self.relocated.insert(*chat, node.to_string())),
                Command::Tail(chat, seq) => raise(&mut self.tails, *chat, *seq),
                Command::CursorPersisted(chat, persisted) => drop(self.persisted.insert(*chat, *persisted)),
                Command::Read(chat, offset) => raise(&mut self.reads, *chat, offset.seq),
                Command::Device(_, _, at) => self.stream.push(*at),
                _ => {}
            }
        }
    }

    fn raise(seqs: &mut HashMap<ChatId, Seq>, chat: ChatId, seq: Seq) {
        let known = seqs.entry(chat).or_default();
        *known = seq.max(*known);
    }

    proptest! {
        #[test]
        fn who_takes_it_knows_in_the_end_what_one_who_hears_everything_knows(
            told in proptest::collection::vec((0..7u8, 0..4u8, 0..50u64), 0..200),
        ) {
            let (mut pending, mut all, mut known) = (Pending::default(), Known::default(), Known::default());
            // Checks that were requested and not taken yet, and those of them whose requester knew of a change.
            let (mut looks, mut sure) = (BTreeSet::new(), BTreeSet::new());
            for one in told {
                // Now and then the session takes commands, depending on its client's room.
                if one.0 == 6 {
                    let wanted = if one.1 < 2 { Wanted::Everything } else { Wanted::NoFrames };
                    let taken = pending.take(wanted);
                    for (n, command) in taken.iter().enumerate() {
                        match command {
                            Command::Membership(chats) | Command::CheckMemberships(chats) => {
                                prop_assert!(n <= 1, "memberships first");
                                prop_assert!(chats.iter().all(|chat| looks.remove(chat)), "none for nothing, none twice");
                                let known = matches!(command, Command::Membership(_));
                                prop_assert!(chats.iter().all(|chat| sure.remove(chat) == known));
                            }
                            Command::Read(..) | Command::Device(..) => prop_assert_eq!(wanted, Wanted::Everything),
                            _ => {}
                        }
                        known.does(command);
                    }
                    prop_assert!(looks.is_empty(), "a look waits for nothing");
                    prop_assert!(pending.take(wanted).is_empty());
                    continue;
                }
                let command = command(one);
                if let Command::Membership(chats) | Command::CheckMemberships(chats) = &command {
                    looks.extend(chats.iter().copied());
                }
                if let Command::Membership(chats) = &command {
                    sure.extend(chats.iter().copied());
                }
                let full = pending.stream.len() >= ROOM;
                if pending.put(command.clone(), ROOM) {
                    all.does(&command);
                } else {
                    prop_assert!(full && matches!(command, Command::Device(..)), "only streams have a bound");
                }
                prop_assert!(pending.chats.len() <= 4 && pending.stream.len() <= ROOM);
            }
            pending.take(Wanted::Everything).iter().for_each(|command| known.does(command));
            prop_assert_eq!(known, all);
            prop_assert!(pending.chats.is_empty() && pending.stream.is_empty());
            prop_assert_eq!(pending.stream.capacity(), 0, "what was needed once isn't kept");
        }
    }

    #[test]
    fn news_of_any_number_of_chats_closes_nobody() {
        let (mailbox, mut inbox) = Mailbox::new(8);
        let chats: Vec<ChatId> = (0..5000).map(|_| ChatId::random()).collect();
        for chat in &chats {
            for seq in 1..4 {
                mailbox.notify(Command::Tail(*chat, seq));
                mailbox.notify(Command::Read(*chat, ReadOffset { seq, device: None }));
            }
        }
        mailbox.notify(Command::Membership(chats.clone()));
        assert_eq!(mailbox.close_signal.code(), None);
        let taken = inbox.take();
        assert_eq!(taken.iter().filter(|command| matches!(command, Command::Tail(_, 3))).count(), 5000);
        assert_eq!(taken.iter().filter(|command| matches!(command, Command::Read(..))).count(), 5000);
        // Of otherwise unknown chats, only a bounded number is checked.
        mailbox.notify(Command::Membership((0..5000).map(|_| ChatId::random()).collect()));
        assert!(matches!(&inbox.take()[..], [Command::Membership(chats)] if chats.len() == CHATS));
    }

    #[test]
    fn a_stream_that_nobody_takes_closes_the_session() {
        let (mailbox, mut inbox) = Mailbox::new(8);
        let typing = || Command::Typing(id(1), "alice".parse::<UserId>().unwrap());
        assert_eq!(
            (0..8).filter(|_| mailbox.offer(typing())).count(),
            4,
            "what can wait leaves half of the room"
        );
        for _ in 0..4 {
            mailbox.notify(typing());
        }
        assert_eq!(mailbox.close_signal.code(), None);
        assert_eq!(inbox.take().len(), 8);
        for _ in 0..9 {
            mailbox.notify(typing());
        }
        assert_eq!(mailbox.close_signal.code(), Some(CloseCode::SlowConsumer));
        // A session that is over isn't closed, whatever comes.
        let (mailbox, inbox) = Mailbox::new(1);
        drop(inbox);
        (0..3).for_each(|_| mailbox.notify(typing()));
        assert_eq!(mailbox.close_signal.code(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_it_wants() {
        let (mailbox, mut inbox) = Mailbox::new(8);
        let waiting = tokio::spawn(async move {
            let first = inbox.next(Wanted::NoFrames).await;
            (first, inbox.next(Wanted::Everything).await)
        });
        tokio::task::yield_now().await;
        mailbox.notify(Command::Read(id(1), ReadOffset { seq: 5, device: None }));
        tokio::task::yield_now().await;
        mailbox.notify(Command::Tail(id(2), 7));
        let (first, second) = waiting.await.unwrap();
        assert!(matches!(first[..], [Command::Tail(_, 7)]), "{first:?}");
        assert!(matches!(second[..], [Command::Read(_, ReadOffset { seq: 5, .. })]), "{second:?}");
    }

    #[test]
    fn an_idle_mailbox_is_small() {
        // The cost of each connected device: nothing else is allocated while nothing is pending.
        assert!(size_of::<Shared>() <= 112, "{}", size_of::<Shared>());
    }
}
