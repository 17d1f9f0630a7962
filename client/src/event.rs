//! What happens to a device.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::{
    close::Ended,
    frame::{
        ChatEntry, ChatId, DeviceNotice, ErrorFrame, Gap, HistoryRequest, Invitation, LinkRequest, Message,
        MessageKey, Presence, Problem, ReadNotice, Typing, UnknownFrame, Welcome,
    },
};

/// What the server made of a message that was sent: it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's key.
    pub key: MessageKey,
    /// Its chat.
    pub chat: ChatId,
    /// Its number in the chat.
    pub seq: u64,
    /// When the server took it, in Unix milliseconds.
    pub at: u64,
}

/// Something that the contract doesn't allow. The connection isn't to be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message or gap that isn't the next one of its chat.
    #[error("#{seq} came where #{due} was due in {chat}")]
    OutOfOrder {
        /// The chat.
        chat: ChatId,
        /// What was due.
        due: u64,
        /// What came.
        seq: u64,
    },
    /// A frame about a chat that this connection doesn't have.
    #[error("a frame about {0}, which this connection doesn't have")]
    UnknownChat(ChatId),
    /// A frame before `welcome`, or a second `welcome`.
    #[error("welcome comes first, and once")]
    Welcome,
    /// A reply that nothing waits for, or with both or neither of `ok` and `error`.
    #[error("a reply to {0} that can't be")]
    Reply(u64),
    /// A frame that can't be read.
    #[error("{0}")]
    Unreadable(#[from] crate::frame::FrameError),
}

/// What happens to a device, in its order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection is there. New chats, gone chats and offsets are taken over already.
    Connected(Box<Welcome>),
    /// A connection, or a try to connect, is over; the next try comes after `retry_in`.
    Disconnected {
        /// How it ended.
        ended: Ended,
        /// Until the next try.
        retry_in: Duration,
    },
    /// It is over, and the client doesn't connect again by itself. The last event.
    Stopped(Ended),

    /// A new message, in order.
    Message(Message),
    /// A message that came before, on an earlier connection, and wasn't acknowledged there.
    Duplicate(Message),
    /// Seqs that don't come by themselves: a sub asks its main for them.
    Gap(Gap),
    /// The user's read offset, as it is now.
    Read(ReadNotice),
    /// The user is in a chat that this device didn't know, or again.
    Joined(ChatEntry),
    /// The user isn't in this chat any more.
    Left(ChatId),
    /// Another user came into a chat.
    MemberJoined {
        /// The chat.
        chat: ChatId,
        /// Who.
        user: String,
    },
    /// Another user went.
    MemberLeft {
        /// The chat.
        chat: ChatId,
        /// Who.
        user: String,
    },
    /// Another device of the user.
    Device(DeviceNotice),
    /// A watched user came or went.
    Presence(Presence),
    /// Another user types: show it for 5 s.
    Typing(Typing),
    /// An invitation waits, or waits no more.
    Invitation(Invitation),
    /// A web page asks to be linked.
    LinkRequest(LinkRequest),
    /// A sub asks this main for history, and there is no storage to answer from.
    HistoryRequest(HistoryRequest),

    /// A message that was sent is durable.
    Sent(Receipt),
    /// A message that was sent is refused for good.
    Refused {
        /// Its key.
        key: MessageKey,
        /// Its chat.
        chat: ChatId,
        /// Why.
        problem: Problem,
    },
    /// A message or read offset can't be taken now; it goes out again later.
    Delayed(Problem),
    /// A read offset is refused for good.
    ReadRefused {
        /// The chat.
        chat: ChatId,
        /// The offset.
        seq: u64,
        /// Why.
        problem: Problem,
    },
    /// The reply to a request by its id.
    Reply {
        /// The id.
        id: u64,
        /// Its `ok`, as it came, or why it was refused.
        result: Result<Box<RawValue>, Problem>,
    },
    /// A frame without an id was refused.
    Problem(ErrorFrame),
    /// Something that the contract doesn't allow.
    Violation(Violation),
    /// A frame of a newer server.
    Unknown(UnknownFrame),
}
