//! What waits for a session. News of a chat is coalesced: only how things stand matters, so the next news of its kind takes
//! the place of one that wasn't taken yet. That is bounded by the chats of the user, and closes nobody. What is a stream
//! (who came and went, questions and answers) has a room of its own; who lets that fill up is closed as a slow consumer.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::{Command, Doom, lock};
use crate::{
    domain::{Seq, id::ChatId},
    protocol::CloseCode,
    store::{CursorMoved, ReadOffset},
};

/// News of so many chats may wait. Only what is said of memberships can come to more, and that the sweep finds again.
const CHATS: usize = 4096;

/// What is new of one chat.
#[derive(Debug, Default)]
struct News {
    membership: bool,
    doubtful: bool,
    placed: Option<Arc<str>>,
    tail: Option<Seq>,
    moved: Option<Option<CursorMoved>>,
}

impl News {
    /// What the session has to do, in the order in which it should.
    fn into_commands(self, chat: ChatId) -> impl Iterator<Item = Command> {
        let placed = self.placed.map(|node| Command::Placed(chat, node));
        let tail = self.tail.map(|seq| Command::Tail(chat, seq));
        let moved = self.moved.map(|moved| Command::Moved(chat, moved));
        placed.into_iter().chain(tail).chain(moved)
    }
}

/// What a session takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All there is.
    Everything,
    /// Only what the session itself has to do, because there is no room for more frames to the client.
    NoFrames,
}

fn look(all: &mut BTreeMap<ChatId, News>, chat: ChatId, say: impl FnOnce(&mut News)) {
    if all.len() < CHATS || all.contains_key(&chat) {
        say(all.entry(chat).or_default());
    }
}

/// What waits. Pure.
#[derive(Debug, Default)]
struct Pending {
    chats: BTreeMap<ChatId, News>,
    // What the client is to be told of chats. Apart, so that looking for what the session itself has to do doesn't go through it.
    reads: BTreeMap<ChatId, ReadOffset>,
    stream: Vec<Command>,
}

impl Pending {
    /// Puts a command in. False: there is no room.
    fn put(&mut self, command: Command, room: usize) -> bool {
        let Self { chats: all, reads, stream } = self;
        match command {
            Command::Membership(chats) => {
                chats.into_iter().for_each(|chat| look(all, chat, |news| news.membership = true));
            }
            Command::Doubtful(chats) => {
                chats.into_iter().for_each(|chat| look(all, chat, |news| news.doubtful = true));
            }
            Command::Placed(chat, node) => all.entry(chat).or_default().placed = Some(node),
            Command::Tail(chat, seq) => {
                let tail = &mut all.entry(chat).or_default().tail;
                *tail = (*tail).max(Some(seq));
            }
            Command::Moved(chat, moved) => all.entry(chat).or_default().moved = Some(moved),
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

    /// Takes what is wanted: memberships first, in one; then what else is new, chat by chat; then the stream, in its order.
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
            out.push(Command::Doubtful(doubtful));
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

/// What a session is told by, and how it is ended. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailbox {
    shared: Arc<Shared>,
    /// Its end.
    pub doom: Arc<Doom>,
}

/// Where it comes out. Dropped, everything that is told is let go.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

impl Mailbox {
    /// A mailbox with room for so many commands that aren't news of a chat, and where they come out.
    #[must_use]
    pub fn new(room: usize) -> (Self, Inbox) {
        let shared = Arc::new(Shared { state: Mutex::default(), room });
        (Self { shared: shared.clone(), doom: Arc::default() }, Inbox(shared))
    }

    /// Puts a command in that can wait or be lost: only while at least half of the room is free. False: it wasn't put in.
    pub fn offer(&self, command: Command) -> bool {
        self.put(command, self.shared.room / 2)
    }

    /// Puts a command in; a session that doesn't take what has no place in its mailbox is closed.
    pub fn tell(&self, command: Command) {
        if !self.put(command, self.shared.room) {
            self.doom.seal(CloseCode::SlowConsumer);
        }
    }

    // Whoever is over has taken everything.
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
    /// Waits for something that is wanted, and takes all of it. May be dropped and called again at any time.
    pub async fn next(&mut self, wanted: Wanted) -> Vec<Command> {
        poll_fn(|cx| self.poll(wanted, cx)).await
    }

    /// What there is now.
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

    /// What is told, in a form that can be made at random: a kind, a chat, a number.
    fn command((kind, chat, number): (u8, u8, u64)) -> Command {
        let chat = id(chat);
        match kind {
            0 if number < 25 => Command::Membership(vec![chat]),
            0 => Command::Doubtful(vec![chat]),
            1 => Command::Placed(chat, number.to_string().into()),
            2 => Command::Tail(chat, number),
            3 => Command::Moved(chat, Some(CursorMoved::At(number))),
            4 => Command::Read(chat, ReadOffset { seq: number, device: None }),
            _ => Command::Device(DeviceEvent::Online, DeviceId::from_hex(&"0".repeat(32)).unwrap(), number),
        }
    }

    fn id(n: u8) -> ChatId {
        ChatId::from_hex(&format!("{n:032x}")).unwrap()
    }

    /// What a session knows after it has done everything: of each chat the last of each kind; and the stream.
    #[derive(Debug, Default, PartialEq)]
    struct Known {
        placed: HashMap<ChatId, String>,
        tails: HashMap<ChatId, Seq>,
        moved: HashMap<ChatId, Option<CursorMoved>>,
        reads: HashMap<ChatId, Seq>,
        stream: Vec<u64>,
    }

    impl Known {
        fn does(&mut self, command: &Command) {
            match command {
                Command::Placed(chat, node) => drop(self.placed.insert(*chat, node.to_string())),
                Command::Tail(chat, seq) => raise(&mut self.tails, *chat, *seq),
                Command::Moved(chat, moved) => drop(self.moved.insert(*chat, *moved)),
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
            // Looks that were asked for and not taken yet, and those of them that somebody asked for who knew.
            let (mut looks, mut sure) = (BTreeSet::new(), BTreeSet::new());
            for one in told {
                // Now and then the session takes something, as its client has room or not.
                if one.0 == 6 {
                    let wanted = if one.1 < 2 { Wanted::Everything } else { Wanted::NoFrames };
                    let taken = pending.take(wanted);
                    for (n, command) in taken.iter().enumerate() {
                        match command {
                            Command::Membership(chats) | Command::Doubtful(chats) => {
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
                if let Command::Membership(chats) | Command::Doubtful(chats) = &command {
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
                mailbox.tell(Command::Tail(*chat, seq));
                mailbox.tell(Command::Read(*chat, ReadOffset { seq, device: None }));
            }
        }
        mailbox.tell(Command::Membership(chats.clone()));
        assert_eq!(mailbox.doom.code(), None);
        let taken = inbox.take();
        assert_eq!(taken.iter().filter(|command| matches!(command, Command::Tail(_, 3))).count(), 5000);
        assert_eq!(taken.iter().filter(|command| matches!(command, Command::Read(..))).count(), 5000);
        // Of chats that nothing else is known of, only so many are looked at.
        mailbox.tell(Command::Membership((0..5000).map(|_| ChatId::random()).collect()));
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
            mailbox.tell(typing());
        }
        assert_eq!(mailbox.doom.code(), None);
        assert_eq!(inbox.take().len(), 8);
        for _ in 0..9 {
            mailbox.tell(typing());
        }
        assert_eq!(mailbox.doom.code(), Some(CloseCode::SlowConsumer));
        // Who is over isn't closed, whatever comes.
        let (mailbox, inbox) = Mailbox::new(1);
        drop(inbox);
        (0..3).for_each(|_| mailbox.tell(typing()));
        assert_eq!(mailbox.doom.code(), None);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_what_it_wants() {
        let (mailbox, mut inbox) = Mailbox::new(8);
        let waiting = tokio::spawn(async move {
            let first = inbox.next(Wanted::NoFrames).await;
            (first, inbox.next(Wanted::Everything).await)
        });
        tokio::task::yield_now().await;
        mailbox.tell(Command::Read(id(1), ReadOffset { seq: 5, device: None }));
        tokio::task::yield_now().await;
        mailbox.tell(Command::Tail(id(2), 7));
        let (first, second) = waiting.await.unwrap();
        assert!(matches!(first[..], [Command::Tail(_, 7)]), "{first:?}");
        assert!(matches!(second[..], [Command::Read(_, ReadOffset { seq: 5, .. })]), "{second:?}");
    }

    #[test]
    fn an_idle_mailbox_is_small() {
        // What each connected device costs: nothing else is allocated while nothing waits.
        assert!(size_of::<Shared>() <= 112, "{}", size_of::<Shared>());
    }
}
