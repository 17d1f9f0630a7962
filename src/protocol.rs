//! The wire, version 1: every frame and code that clients see, and the only serde of it. `docs/protocol.md` is the
//! text of this contract.

mod code;
mod compact;
mod echo;
mod frames;
mod number;

pub use code::{CloseCode, ErrorCode, Problem};
pub use compact::{WIDEST_ESCAPE, compact};
pub use frames::{
    Ack, ChatEntry, ChatEvent, ClientFrame, DeviceEvent, FrameId, HistoryAsk, HistoryError, HistoryPage,
    InvitationDetails, InvitationEvent, LimitsInfo, MainInfo, Media, Presence, Read, Rejected, Send,
    ServerFrame, Watch, Welcome, raw_reply,
};
pub use number::{SafeInt, parse_object};

/// The WebSocket subprotocol that this server speaks.
pub const SUBPROTOCOL: &str = "keepstep.v1";
/// The `protocol` of `welcome`.
pub const VERSION: u32 = 1;
