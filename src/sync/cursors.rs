//! Moves cursors in batches. Acknowledgements that gather while a chat's write is in progress go out as its next write ("group
//! commit"), so a busier store does less per cursor. (Waiting for more was tried: 2 ms made a drain three times slower, and
//! sends not faster.)

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::Notify;

use super::{Core, lock};
use crate::{
    domain::id::ChatId,
    hub::{Command, Mailbox},
    store::{CursorMove, CursorMoved, Result},
};

/// Chats whose cursors are written at once: the depth of one pipelined connection, not a number of threads.
const PARALLEL: usize = 64;

#[derive(Debug)]
struct Pending {
    cursor: CursorMove,
    done: Mailbox,
}

/// Gathered moves. Bounded: a session has at most one move per chat in it.
#[derive(Debug, Default)]
struct Gathered {
    moves: HashMap<ChatId, Vec<Pending>>,
    // Chats in their order, and those being written.
    turns: VecDeque<ChatId>,
    writing: HashSet<ChatId>,
}

impl Gathered {
    fn add(&mut self, chat: ChatId, pending: Pending) {
        let moves = self.moves.entry(chat).or_default();
        moves.push(pending);
        if moves.len() == 1 && !self.writing.contains(&chat) {
            self.turns.push_back(chat);
        }
    }

    fn begin(&mut self) -> Option<(ChatId, Vec<Pending>)> {
        let chat = self.turns.pop_front()?;
        self.writing.insert(chat);
        Some((chat, self.moves.remove(&chat).unwrap_or_default()))
    }

    fn end(&mut self, chat: ChatId) {
        self.writing.remove(&chat);
        if self.moves.contains_key(&chat) {
            self.turns.push_back(chat);
        }
    }
}

/// The queue of moves.
#[derive(Debug, Default)]
pub struct CursorWriter {
    gathered: Mutex<Gathered>,
    wake: Notify,
}

impl Core {
    /// Submits a move; the result comes as [`Command::CursorPersisted`].
    pub fn submit_cursor(&self, chat: ChatId, cursor: CursorMove, done: Mailbox) {
        lock(&self.sending.cursors.gathered).add(chat, Pending { cursor, done });
        self.sending.cursors.wake.notify_one();
    }
}

/// Writes them. A chat whose write takes long delays only itself.
pub(super) async fn run(core: Arc<Core>) {
    let mut writes = FuturesUnordered::new();
    loop {
        while writes.len() < PARALLEL
            && let Some((chat, pending)) = lock(&core.sending.cursors.gathered).begin()
        {
            let core = &core;
            writes.push(async move {
                write(core, chat, pending).await;
                chat
            });
        }
        tokio::select! {
            Some(chat) = writes.next(), if !writes.is_empty() => lock(&core.sending.cursors.gathered).end(chat),
            () = core.sending.cursors.wake.notified() => {}
        }
    }
}

/// Moves cursors. A head below what a session has sent means that the store came back with an older copy of its data: then
/// only NSQ has these messages, and the head is raised.
async fn moved(core: &Core, chat: ChatId, moves: &[CursorMove]) -> Result<Vec<CursorMoved>> {
    let moved = core.store.move_cursors(chat, moves).await?;
    let short = |(wanted, moved): (&CursorMove, &CursorMoved)| match moved {
        CursorMoved::At(seq) if *seq < wanted.seq => Some(wanted.seq),
        _ => None,
    };
    let Some(seen) = moves.iter().zip(&moved).filter_map(short).max() else { return Ok(moved) };
    let head = core.store.raise_head(chat, seen).await?;
    tracing::info!(%chat, head, "head raised to the highest cursor of a device");
    core.store.move_cursors(chat, moves).await
}

async fn write(core: &Core, chat: ChatId, pending: Vec<Pending>) {
    let moves: Vec<CursorMove> = pending.iter().map(|p| p.cursor).collect();
    let moved = match moved(core, chat, &moves).await {
        Ok(moved) => moved.into_iter().map(Some).collect(),
        Err(error) => {
            tracing::warn!(%chat, %error, "cursors not persisted: the sessions will retry");
            vec![None; pending.len()]
        }
    };
    for (waiting, moved) in pending.into_iter().zip(moved) {
        waiting.done.notify(Command::CursorPersisted(chat, moved));
    }
}
