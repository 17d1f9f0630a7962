//! Linking: a web page asks to become a sub of somebody, shows a short code, and that person's main says yes or no.

use std::{fmt, str::FromStr, time::Duration};

use super::id::{DeviceId, LinkId, UserId};

/// Crockford's base32: no I, L, O and U, so that nothing that is read aloud is mistaken.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What people read from one screen and type into another: six symbols, shown as `7F3K-92`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkCode([u8; 6]);

/// Not six symbols of that alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has six letters and digits, such as 7F3K-92")]
pub struct NotACode;

impl LinkCode {
    /// The code of the lowest 30 bits.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let symbol = |place: u32| SYMBOLS[(bits >> (5 * place) & 31) as usize];
        Self([symbol(5), symbol(4), symbol(3), symbol(2), symbol(1), symbol(0)])
    }

    /// The six symbols without the hyphen, as they stand in keys.
    #[must_use]
    pub fn compact(&self) -> String {
        self.0.iter().map(|symbol| char::from(*symbol)).collect()
    }
}

impl FromStr for LinkCode {
    type Err = NotACode;

    /// In upper or lower case, with or without hyphens; O is read as 0, I and L as 1.
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

/// A code may be used for two minutes by whoever sees it: it isn't for logs.
impl fmt::Debug for LinkCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCode")
    }
}

/// How far a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Nobody has said anything.
    Pending,
    /// A main has said yes, and the device is being registered.
    Approving,
    /// The device is there.
    Approved,
    /// A main has said no.
    Refused,
}

/// A link as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The asking page knows it by this …
    pub id: LinkId,
    /// … and people by this.
    pub code: LinkCode,
    /// The SHA-256 of what the asking page alone knows, in hexadecimal digits.
    pub secret: String,
    /// What the new device is to be called.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// The only user who may decide, when the asking page knew them.
    pub bound: Option<UserId>,
    /// How far it is.
    pub state: LinkState,
    /// For how long it may still be decided; zero: its time is over.
    pub left: Duration,
    /// Who has said yes, and the id of the device that comes of it.
    pub decided: Option<(UserId, DeviceId)>,
}

/// What a main says to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whose main.
    pub user: UserId,
    /// The main.
    pub main: DeviceId,
    /// Yes or no.
    pub approve: bool,
    /// With yes: how many messages per chat below its beginning the sub may ask for; none: all.
    pub history: Option<u64>,
    /// With yes: the id for the new device, should this decision count.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code: LinkCode = "7F3K-92".parse().unwrap();
        assert_eq!(code.to_string(), "7F3K-92");
        for text in ["7f3k92", "7F3K92", "7-F-3-K-9-2", "7f3k-92"] {
            assert_eq!(text.parse(), Ok(code), "{text}");
        }
        assert_eq!("OoIiLl".parse::<LinkCode>().unwrap().to_string(), "0011-11");
        for text in ["", "-", "7F3K9", "7F3K-921", "7F3K-9U", "7F3K 92", "7F3K-9é", "7F3K-9\0"] {
            assert_eq!(text.parse::<LinkCode>(), Err(NotACode), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_code_is_read_back(bits in 0u32..1 << 30, other in 0u32..1 << 30) {
            let code = LinkCode::from_bits(bits);
            prop_assert_eq!(code.to_string().parse(), Ok(code));
            prop_assert_eq!(code.compact().parse(), Ok(code));
            prop_assert_eq!(code == LinkCode::from_bits(other), bits == other);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<LinkCode>();
        }
    }
}
