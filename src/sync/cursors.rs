//! Moving cursors, many at a time. Sessions hand in their acknowledgements; whatever has gathered while the last write
//! was under way goes out as one write per chat ("group commit"), so that the store does less the busier it is. (Waiting
//! a moment for more was tried: 2 ms made a drain three times slower, and sends not faster.)

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

/// Chats whose cursors are written at once: they share one pipelined connection, so this is about its depth, not about
/// threads.
const PARALLEL: usize = 64;

#[derive(Debug)]
struct Pending {
    cursor: CursorMove,
    done: Mailbox,
}

/// What has gathered. Its bound: a session has at most one move per chat in it.
#[derive(Debug, Default)]
struct Gathered {
    moves: HashMap<ChatId, Vec<Pending>>,
    // Chats whose turn comes, and those that are being written.
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

/// The gathering place.
#[derive(Debug, Default)]
pub struct CursorWriter {
    gathered: Mutex<Gathered>,
    wake: Notify,
}

impl Core {
    /// Hands in a move; the outcome comes as [`Command::CursorPersisted`].
    pub fn submit_cursor(&self, chat: ChatId, cursor: CursorMove, done: Mailbox) {
        lock(&self.cursors.gathered).add(chat, Pending { cursor, done });
        self.cursors.wake.notify_one();
    }
}

/// Writes them. A chat whose write takes long holds up nobody but itself.
pub(super) async fn run(core: Arc<Core>) {
    let mut writes = FuturesUnordered::new();
    loop {
        while writes.len() < PARALLEL
            && let Some((chat, pending)) = lock(&core.cursors.gathered).begin()
        {
            let core = &core;
            writes.push(async move {
                write(core, chat, pending).await;
                chat
            });
        }
        tokio::select! {
            Some(chat) = writes.next(), if !writes.is_empty() => lock(&core.cursors.gathered).end(chat),
            () = core.cursors.wake.notified() => {}
        }
    }
}

/// Moves them; where the head is below what a session has sent its device, the store has come back with an older copy of
/// its data: what was sent is queued with NSQ alone, and the head follows it.
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
