//! What passes between a client's task and those who use it.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
};

use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{Error, Waiter};
use crate::{
    event::{Event, Receipt},
    frame::{ChatId, ClientFrame, Draft, MessageKey, Page},
    session::Unsent,
};

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    Goodbye,
    Cut,
}

/// What a client is asked to do.
pub(super) enum Command {
    Send { key: MessageKey, chat: ChatId, draft: Box<Draft>, done: Waiter<Receipt> },
    Ack { chat: ChatId, seq: u64 },
    AckDurably { chat: ChatId, done: Waiter<Box<RawValue>> },
    Read { chat: ChatId, seq: u64, done: Waiter<u64> },
    Request { frame: Box<dyn FnOnce(u64) -> ClientFrame + Send>, done: Waiter<Box<RawValue>> },
    Put(ClientFrame),
    Serve { request: String, page: Page },
    Ready,
    Unsent { done: Waiter<Vec<Unsent>> },
    Leave(Shutdown),
}

/// The task's side: commands in, events out.
pub(super) struct Desk {
    commands: Option<mpsc::UnboundedReceiver<Command>>,
    events: Option<mpsc::Sender<Event>>,
    backlog: VecDeque<Event>,
}

/// So many events may wait before nothing more is read.
const BACKLOG: usize = 1_024;

impl Desk {
    pub(super) fn new(commands: mpsc::UnboundedReceiver<Command>, events: mpsc::Sender<Event>) -> Self {
        Self { commands: Some(commands), events: Some(events), backlog: VecDeque::new() }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.events.is_some() {
            self.backlog.push_back(event);
        }
    }

    /// Whether there is room for more events.
    pub(super) fn has_room(&self) -> bool {
        self.backlog.len() < BACKLOG
    }

    /// Returns the next command, and delivers events meanwhile. Nothing is lost when it is dropped.
    pub(super) async fn next(&mut self) -> Command {
        loop {
            let Self { commands, events, backlog } = self;
            let command = async {
                match commands {
                    Some(commands) => commands.recv().await,
                    None => pending().await,
                }
            };
            let delivery = async {
                match events {
                    Some(events) if backlog.is_empty() => {
                        events.closed().await;
                        false
                    }
                    // (There is one sender, so the room that is there stays.)
                    Some(events) => events.reserve().await.is_ok(),
                    None => pending().await,
                }
            };
            tokio::select! {
                command = command => match command {
                    Some(command) => return command,
                    None => self.commands = None,
                },
                has_room = delivery => {
                    let event = backlog.pop_front().filter(|_| has_room);
                    let sent = events.as_ref().zip(event).is_some_and(|(to, event)| to.try_send(event).is_ok());
                    if !sent {
                        backlog.clear();
                        self.events = None;
                    }
                }
            }
            if self.commands.is_none() && self.events.is_none() {
                return Command::Leave(Shutdown::Goodbye);
            }
        }
    }

    /// Takes no more commands, and delivers what is left.
    pub(super) async fn end(mut self) {
        self.commands = None;
        let Some(events) = self.events else { return };
        for event in self.backlog {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Those who wait for an answer.
#[derive(Default)]
pub(super) struct Waiters {
    pub(super) sends: HashMap<MessageKey, Waiter<Receipt>>,
    pub(super) replies: HashMap<u64, Waiter<Box<RawValue>>>,
    reads: Vec<(ChatId, u64, Waiter<u64>)>,
}

impl Waiters {
    pub(super) fn read(&mut self, chat: ChatId, seq: u64, done: Waiter<u64>) {
        self.reads.push((chat, seq, done));
    }

    /// The read offset of a chat stands there.
    pub(super) fn read_moved(&mut self, chat: ChatId, seq: u64) {
        for (_, _, done) in self.reads.extract_if(.., |(of, wanted, _)| *of == chat && *wanted <= seq) {
            let _ = done.send(Ok(seq));
        }
    }

    pub(super) fn read_refused(&mut self, chat: ChatId, seq: u64, error: &Error) {
        for (_, _, done) in self.reads.extract_if(.., |(of, wanted, _)| *of == chat && *wanted <= seq) {
            let _ = done.send(Err(error.clone()));
        }
    }

    /// The connection is over: no reply comes any more. Sends and read offsets wait on.
    pub(super) fn offline(&mut self) {
        for (_, done) in self.replies.drain() {
            let _ = done.send(Err(Error::Offline));
        }
    }

    /// Nothing comes any more.
    pub(super) fn stop(mut self, error: &Error) {
        for (_, done) in self.sends.drain() {
            let _ = done.send(Err(error.clone()));
        }
        for (_, _, done) in self.reads.drain(..) {
            let _ = done.send(Err(error.clone()));
        }
        for (_, done) in self.replies.drain() {
            let _ = done.send(Err(error.clone()));
        }
    }
}
