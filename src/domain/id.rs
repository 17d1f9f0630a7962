//! Identifiers. Each is parsed once, at the edge of the system; inside, a value of these types is valid.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// Why a text isn't an identifier of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A user id has 1-64 characters of `[A-Za-z0-9_.@-]` and isn't `.` or `..`.
    #[error("a user id has 1-64 characters of A-Z a-z 0-9 _ . @ - and isn't . or ..")]
    User,
    /// Every other id is a UUID in its hyphenated form.
    #[error("an id is a UUID with hyphens, such as 0b1c2d3e-0000-4000-8000-000000000001")]
    Uuid,
}

/// A user of the application: the `sub` of its token. 1-64 characters of `[A-Za-z0-9_.@-]`; case matters. Not `.` or
/// `..`: a client removes these from a path, so that a request about this user would become a request about something
/// else.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a user id that came from the store, without a check. Older builds allowed users called `.` or `..`, and
    /// what they share with others is still read.
    #[must_use]
    pub fn stored(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(good)).then(|| Self(text.into()))
    }
}

impl FromStr for UserId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::stored(text).filter(|_| !matches!(text, "." | "..")).ok_or(IdError::User)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({})", self.0)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns a new random id.
            #[must_use]
            pub fn random() -> Self {
                Self(crate::rng::uuid())
            }

            /// Returns the id from its 32 hexadecimal digits, as used in NSQ names and Redis keys.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                (text.len() == 32).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
            }

            /// Returns 32 lower-case hexadecimal digits, no hyphens.
            #[must_use]
            pub fn hex(self) -> String {
                self.0.simple().to_string()
            }

            /// Returns the 16 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            // Accepts only the hyphenated form: the uuid crate would also accept braces, `urn:uuid:` and bare digits,
            // and one id must not have several spellings. Upper case is read and written back in lower case.
            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 36 {
                    return Err(IdError::Uuid);
                }
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::Uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id! {
    /// One installation of one user. Never reused after its termination.
    DeviceId
}
uuid_id! {
    /// One chat.
    ChatId
}
uuid_id! {
    /// The idempotency key of one message: the same key in the same chat from the same sender is the same message.
    MessageKey
}
uuid_id! {
    /// One termination of one device; its receipt is read by this id.
    TerminationId
}
uuid_id! {
    /// One attempt of a page to become a user's device.
    LinkId
}

impl serde::Serialize for UserId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for UserId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "../../tests/unit/domain/id.rs"]
mod tests;
