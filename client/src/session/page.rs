//! A main's answer to a question for history.

use crate::frame::{ClientFrame, Page};

/// A page ends at so many bytes of messages, with at least one message.
const PAGE_BYTES: usize = 256 << 10;

/// The page, cut to what a frame may hold: its newest messages.
pub(super) fn answer(request: String, page: Page) -> ClientFrame {
    let Page { mut messages, mut more } = page;
    let mut bytes = 0;
    let fits = messages.iter().rev().take_while(|message| {
        bytes += message.raw().len() + 1;
        bytes <= PAGE_BYTES
    });
    let kept = fits.count().max(usize::from(!messages.is_empty()));
    if kept < messages.len() {
        messages.drain(..messages.len() - kept);
        more = true;
    }
    if messages.is_empty() && more {
        // There are older ones, and they are lost: not the same as none.
        return ClientFrame::HistoryError { request, code: "unavailable".to_owned() };
    }
    ClientFrame::HistoryPage { request, messages, more }
}
