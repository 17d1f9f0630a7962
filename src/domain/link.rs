//! Linking: a web page asks to become a sub of a user and shows a short code; that user's main approves or refuses it.

use std::{fmt, str::FromStr, time::Duration};

use super::id::{DeviceId, LinkId, UserId};

/// Crockford's base32: no I, L, O and U, so that nobody mishears a code that is read aloud.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The code that people read from one screen and type into another: six symbols, shown as `7F3K-92`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkCode([u8; 6]);

/// The error for a text that isn't six symbols of that alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has six letters and digits, such as 7F3K-92")]
pub struct NotACode;

impl LinkCode {
    /// Returns the code of the lowest 30 bits.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let symbol = |place: u32| SYMBOLS[(bits >> (5 * place) & 31) as usize];
        Self([symbol(5), symbol(4), symbol(3), symbol(2), symbol(1), symbol(0)])
    }

    /// Returns the six symbols without the hyphen, as used in keys.
    #[must_use]
    pub fn compact(&self) -> String {
        self.0.iter().map(|symbol| char::from(*symbol)).collect()
    }
}

impl FromStr for LinkCode {
    type Err = NotACode;

    /// Parses upper or lower case, with or without hyphens; O is read as 0, I and L as 1.
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let mut code = [0; 6];
        let mut read = 0;
        for byte in text.bytes().filter(|byte| *byte != b'-') {
            let symbol = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            *code.get_mut(read).filter(|_| SYMBOLS.contains(&symbol)).ok_or(NotACode)? = symbol;
            read += 1;
        }
        if read == code.len() { Ok(Self(code)) } else { Err(NotACode) }
    }
}

impl fmt::Display for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compact = self.compact();
        let (first, last) = compact.split_at(4);
        write!(f, "{first}-{last}")
    }
}

/// Hidden in logs: whoever sees a code can use it for two minutes.
impl fmt::Debug for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCode")
    }
}

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Awaits a decision.
    Pending,
    /// A main has approved it, and the device is being registered.
    Approving,
    /// The device is registered.
    Approved,
    /// A main has refused it.
    Refused,
}

/// A link as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The id by which the asking page knows the link.
    pub id: LinkId,
    /// The code by which people know the link.
    pub code: LinkCode,
    /// The SHA-256 of what only the asking page knows, in hexadecimal digits.
    pub secret: String,
    /// The name of the new device.
    pub name: String,
    /// The platform of the new device.
    pub platform: String,
    /// The only user who may decide, if the asking page knew them.
    pub bound: Option<UserId>,
    /// The link's state.
    pub state: LinkState,
    /// How long it may still be decided; zero: its lifetime is over.
    pub left: Duration,
    /// The user who approved it, and the id of the resulting device.
    pub decided: Option<(UserId, DeviceId)>,
}

/// A main's decision about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The main's user.
    pub user: UserId,
    /// The main.
    pub main: DeviceId,
    /// Approve or refuse.
    pub approve: bool,
    /// If approved: how many messages per chat below the start of its subscription the sub may ask for; none: all.
    pub history: Option<u64>,
    /// If approved: the id for the new device, should this decision be the first.
    pub device: DeviceId,
}

#[cfg(test)]
#[path = "../../tests/unit/domain/link.rs"]
mod tests;
