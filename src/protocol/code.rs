//! Codes: why a frame or call was refused, and why a socket was closed.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize, ser::SerializeStruct};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $retry:literal $title:literal;)*) => {
        /// `error.code` of a reply and `code` of a problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ErrorCode {
            /// As on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// The HTTP status that goes with it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
            /// Whether the same request can succeed later.
            #[must_use]
            pub fn retry(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }
            /// A short summary that is the same each time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

error_codes! {
    /// Not JSON, or not UTF-8.
    BadJson "bad_json" 400 false "Not JSON";
    /// JSON, but no frame that this server knows, or not for this kind of device.
    BadFrame "bad_frame" 400 false "Not a known frame";
    /// A field is missing, unknown, doubled or of the wrong type.
    BadField "bad_field" 400 false "A field is wrong";
    /// A number is outside what is allowed.
    BadRange "bad_range" 400 false "A number is out of range";
    /// No valid token.
    Unauthorized "unauthorized" 401 false "No valid token";
    /// A valid token that doesn't allow this.
    Forbidden "forbidden" 403 false "Not allowed";
    /// It isn't there, or not for you.
    NotFound "not_found" 404 false "Not found";
    /// The id, key or name is taken by something else.
    Conflict "conflict" 409 false "Conflict";
    /// The user has a main already.
    MainExists "main_exists" 409 false "The user has a main device already";
    /// The main isn't connected.
    MainOffline "main_offline" 409 true "The main device is offline";
    /// The main didn't answer in time.
    MainTimeout "main_timeout" 504 true "The main device didn't answer in time";
    /// A history request for this chat is under way already, or the main has too many.
    MainBusy "main_busy" 409 true "The main device is busy";
    /// The main answered something that can't be right.
    BadMain "bad_main" 502 true "The main device answered wrongly";
    /// The chat's password is another one.
    WrongPassword "wrong_password" 403 false "Wrong password";
    /// As many as allowed.
    LimitReached "limit_reached" 409 false "Limit reached";
    /// Larger than allowed.
    TooLarge "too_large" 413 false "Too large";
    /// More often than allowed.
    TooManyRequests "too_many_requests" 429 true "Too many requests";
    /// The store or the broker can't be reached, or the outcome is unknown: ask again with the same key.
    Unavailable "unavailable" 503 true "Temporarily unavailable";
    /// This edge is shutting down: connect again.
    Draining "draining" 503 true "Shutting down";
}

/// A refusal: to be answered as a reply's `error`, an `error` frame, or RFC 9457 problem details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", code.as_str(), cause.as_deref().unwrap_or(detail))]
pub struct Problem {
    /// Which.
    pub code: ErrorCode,
    /// What is wrong and what to do, in a sentence.
    pub detail: Cow<'static, str>,
    /// When the main was last seen, with `main_offline`.
    pub last_seen: Option<u64>,
    /// After how many seconds it is worth asking again, if that is known: `Retry-After`.
    pub retry_after: Option<u32>,
    /// What is behind it. Never told to who asked; whoever answers or drops the problem logs it, and nobody before.
    pub cause: Option<Arc<str>>,
}

impl Problem {
    /// A problem with its sentence, in which what the client sent is cut to 64 characters.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = super::echo::bounded(detail.into());
        Self { code, detail, last_seen: None, retry_after: None, cause: None }
    }

    /// The same, because of an error that isn't for who asked.
    #[must_use]
    pub fn because_of(self, error: &impl std::fmt::Display) -> Self {
        Self { cause: Some(error.to_string().into()), ..self }
    }

    /// The same, and when to ask again.
    #[must_use]
    pub fn retry_in(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The same answer for "isn't there" and "not for you".
    #[must_use]
    pub fn no_such_chat() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such chat for you")
    }
}

/// The form inside a reply or an `error` frame.
impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut out = to.serialize_struct("Problem", 4)?;
        out.serialize_field("code", self.code.as_str())?;
        out.serialize_field("message", &self.detail)?;
        out.serialize_field("retry", &self.code.retry())?;
        if let Some(at) = self.last_seen {
            out.serialize_field("last_seen", &at)?;
        }
        out.end()
    }
}

/// Why the server closed a socket. 43xx: reconnect with backoff and jitter. 44xx: don't reconnect by yourself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The edge stops.
    ShuttingDown = 4300,
    /// The client takes too little.
    SlowConsumer = 4301,
    /// Nothing was heard from the client.
    HeartbeatTimeout = 4302,
    /// The main is offline; the reason is JSON with `last_seen`.
    MainOffline = 4303,
    /// The store can't be reached, or the lease was lost.
    BackendUnavailable = 4304,
    /// A message wasn't acknowledged in time.
    AckTimeout = 4305,
    /// Ten bad frames in a row.
    BadFrame = 4400,
    /// No valid token.
    Unauthorized = 4401,
    /// The device was ended.
    Terminated = 4403,
    /// The same device connected again.
    Replaced = 4409,
    /// An admin closed it.
    Kicked = 4410,
    /// A frame over the size limit.
    FrameTooLarge = 4413,
    /// Too many connections or frames.
    TooManyRequests = 4429,
}

impl CloseCode {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ShuttingDown,
        Self::SlowConsumer,
        Self::HeartbeatTimeout,
        Self::MainOffline,
        Self::BackendUnavailable,
        Self::AckTimeout,
        Self::BadFrame,
        Self::Unauthorized,
        Self::Terminated,
        Self::Replaced,
        Self::Kicked,
        Self::FrameTooLarge,
        Self::TooManyRequests,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Its name, also the close reason where nothing better is known.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShuttingDown => "shutting_down",
            Self::SlowConsumer => "slow_consumer",
            Self::HeartbeatTimeout => "heartbeat_timeout",
            Self::MainOffline => "main_offline",
            Self::BackendUnavailable => "backend_unavailable",
            Self::AckTimeout => "ack_timeout",
            Self::BadFrame => "bad_frame",
            Self::Unauthorized => "unauthorized",
            Self::Terminated => "terminated",
            Self::Replaced => "replaced",
            Self::Kicked => "kicked",
            Self::FrameTooLarge => "frame_too_large",
            Self::TooManyRequests => "too_many_requests",
        }
    }
}
