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
