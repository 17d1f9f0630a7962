//! The wire, version 1: every frame and code that clients see, and the only serde of it. `docs/protocol.md` is the
//! text of this contract.

mod code;
mod frames;
mod number;

pub use code::{CloseCode, ErrorCode, Problem};
pub use frames::{
    Ack, ChatEntry, ChatEvent, ClientFrame, DeviceEvent, FrameId, HistoryAsk, HistoryError, HistoryPage,
    LimitsInfo, MainInfo, Media, Read, Rejected, Send, ServerFrame, Welcome, raw_reply,
};
pub use number::{SafeInt, problem_of};

/// The WebSocket subprotocol that this server speaks.
pub const SUBPROTOCOL: &str = "keepstep.v1";
/// The `protocol` of `welcome`.
pub const VERSION: u32 = 1;
