//! How a connection ends, and what a client does about it.

use serde::Deserialize;

/// What a client does after a connection ended: the last column of the table of close codes in `docs/protocol.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseClass {
    /// Connect again, with backoff.
    Retry,
    /// The user's main is offline (4303): say "open your phone", and connect again slowly.
    RetryLater,
    /// The token isn't good (4401): register again, with the same id if there is one.
    Refused,
    /// The device was terminated (4403): forget its id, token and data.
    Terminated,
    /// The same device connected elsewhere (4409): let the newer connection be.
    Replaced,
    /// An admin closed the connection (4410): connect again only when the user asks.
    Kicked,
    /// The application closed it.
    Closed,
    /// The client did something wrong (4400, 4413, 4429, 1002, 1007 and any other 44xx): report it.
    Fault,
}

impl CloseClass {
    /// Returns the class of a close code; none is a connection that was lost without a close frame.
    #[must_use]
    pub fn of(code: Option<u16>) -> Self {
        match code {
            Some(4303) => Self::RetryLater,
            Some(4401) => Self::Refused,
            Some(4403) => Self::Terminated,
            Some(4409) => Self::Replaced,
            Some(4410) => Self::Kicked,
            Some(1002 | 1007 | 4400..=4499) => Self::Fault,
            _ => Self::Retry,
        }
    }

    /// Whether a client connects again by itself.
    #[must_use]
    pub fn reconnects(self) -> bool {
        matches!(self, Self::Retry | Self::RetryLater)
    }
}

/// A close frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code; 1005 for a close frame without one.
    pub code: u16,
    /// The name of the code; of 4303 JSON.
    pub reason: String,
}

impl Close {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> CloseClass {
        CloseClass::of(Some(self.code))
    }

    /// Of 4303: when the main was last connected, in Unix milliseconds; none if there is no main.
    #[must_use]
    pub fn main_last_seen(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Reason {
            last_seen: Option<u64>,
        }
        serde_json::from_str::<Reason>(&self.reason).ok()?.last_seen
    }
}

/// The end of a connection, or of a try to connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Ended {
    /// What a client does about it.
    pub class: CloseClass,
    /// The server's close frame; none if it sent none.
    pub close: Option<Close>,
    /// What happened, for people.
    pub text: String,
}

impl Ended {
    pub(crate) fn closed(close: Close) -> Self {
        let text = format!("closed by the server: {} {}", close.code, close.reason);
        Self { class: close.class(), close: Some(close), text }
    }

    pub(crate) fn lost(text: impl Into<String>) -> Self {
        Self { class: CloseClass::Retry, close: None, text: text.into() }
    }
}
