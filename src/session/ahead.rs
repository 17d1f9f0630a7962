//! Frames that came while another one is under way. Acknowledgements don't wait among them: they need no store, and behind
//! frames that need one which is a second away they would come too late for `ack_timeout`.

use std::collections::VecDeque;

use crate::protocol::{ClientFrame, Rejected};

/// So many frames, or bytes, are read ahead; the last one may go beyond them.
const FRAMES: usize = 64;
const BYTES: usize = 64 << 10;

/// What was parsed and waits for its turn.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    frames: VecDeque<(Result<ClientFrame, Rejected>, usize)>,
    bytes: usize,
}

impl Ahead {
    /// Whether one more may be read.
    pub fn has_room(&self) -> bool {
        self.frames.len() < FRAMES && self.bytes < BYTES
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Keeps one that was so many bytes long.
    pub fn push(&mut self, frame: Result<ClientFrame, Rejected>, bytes: usize) {
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Result<ClientFrame, Rejected>> {
        let (frame, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }
}
