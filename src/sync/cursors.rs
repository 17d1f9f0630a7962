//! Moving cursors, many at a time. Sessions hand in their acknowledgements; whatever has gathered while the last write
//! was under way goes out as one write per chat ("group commit"), so that the store does less the busier it is. (Waiting
//! a moment for more was tried: 2 ms made a drain three times slower, and sends not faster.)

use std::{collections::HashMap, sync::Arc, sync::Mutex};

use futures_util::{StreamExt, stream};
use tokio::sync::Notify;

use super::{Core, lock};
use crate::{
    domain::id::ChatId,
    hub::{Command, Mailbox},
    store::{CursorMove, CursorMoved, Result},
};

#[derive(Debug)]
struct Pending {
    cursor: CursorMove,
    done: Mailbox,
}

/// The gathering place. Its bound: a session has at most one move per chat in it.
#[derive(Debug, Default)]
pub struct CursorWriter {
    pending: Mutex<HashMap<ChatId, Vec<Pending>>>,
    wake: Notify,
}

impl Core {
    /// Hands in a move; the outcome comes as [`Command::Moved`].
    pub fn submit_cursor(&self, chat: ChatId, cursor: CursorMove, done: Mailbox) {
        lock(&self.cursors.pending).entry(chat).or_default().push(Pending { cursor, done });
        self.cursors.wake.notify_one();
    }
}

pub(super) async fn run(core: Arc<Core>) {
    loop {
        core.cursors.wake.notified().await;
        loop {
            let batch = std::mem::take(&mut *lock(&core.cursors.pending));
            if batch.is_empty() {
                break;
            }
            // 64 chats at once: they share one pipelined connection, so this is about its depth, not about threads.
            stream::iter(batch).for_each_concurrent(64, |(chat, pending)| write(&core, chat, pending)).await;
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
    tracing::info!(%chat, head, "the head is raised to what devices have");
    core.store.move_cursors(chat, moves).await
}

async fn write(core: &Core, chat: ChatId, pending: Vec<Pending>) {
    let moves: Vec<CursorMove> = pending.iter().map(|p| p.cursor).collect();
    let moved = match moved(core, chat, &moves).await {
        Ok(moved) => moved.into_iter().map(Some).collect(),
        Err(error) => {
            tracing::warn!(%chat, %error, "cursors weren't moved; the sessions ask again");
            vec![None; pending.len()]
        }
    };
    for (waiting, moved) in pending.into_iter().zip(moved) {
        waiting.done.tell(Command::Moved(chat, moved));
    }
}
