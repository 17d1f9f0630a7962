//! Frames that arrived while another one is in progress. Acknowledgements don't wait among them: they need no store, and
//! behind slow store calls they would miss `ack_timeout`.

use std::collections::VecDeque;

use crate::protocol::{ClientFrame, Rejected};

/// Frames, or bytes, that are read ahead; the last frame may exceed them.
const FRAMES: usize = 64;
const BYTES: usize = 64 << 10;

/// Parsed frames that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    frames: VecDeque<(Result<ClientFrame, Rejected>, usize)>,
    bytes: usize,
}

impl Ahead {
    /// Returns whether one more may be read.
    pub fn has_room(&self) -> bool {
        self.frames.len() < FRAMES && self.bytes < BYTES
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame that was `bytes` long.
    pub fn push(&mut self, frame: Result<ClientFrame, Rejected>, bytes: usize) {
        self.bytes += bytes;
        self.frames.push_back((frame, bytes));
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<Result<ClientFrame, Rejected>> {
        let (frame, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }
}
