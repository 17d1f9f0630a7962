//! Counts the WebSocket frames in a stream of bytes (RFC 6455, section 5.2). The library reports whole messages only, and a
//! message may have any number of empty fragments.

/// Head bytes that every frame has.
const SHORT: u8 = 2;

/// See the module. Takes the stream in order. Its count of bytes that aren't frames doesn't matter, because the library ends
/// such a connection.
#[derive(Debug, Default)]
pub struct Heads {
    count: u64,
    // Payload bytes that are still to come.
    payload: u64,
    // Of the current head: the bytes so far, its second byte, and the length that it states.
    came: u8,
    second: u8,
    length: u64,
}

impl Heads {
    /// Returns the number of frames whose heads are complete.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let skip = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
            self.payload -= skip as u64;
            let Some((&byte, rest)) = bytes[skip..].split_first() else { return };
            self.head(byte);
            bytes = rest;
        }
    }

    fn head(&mut self, byte: u8) {
        self.came += 1;
        if self.came < SHORT {
            return;
        }
        if self.came == SHORT {
            self.second = byte;
            self.length = 0;
        }
        let longer = match self.second & 0x7f {
            126 => 2,
            127 => 8,
            short => {
                self.length = short.into();
                0
            }
        };
        if self.came > SHORT && self.came <= SHORT + longer {
            self.length = self.length << 8 | u64::from(byte);
        }
        let mask = if self.second & 0x80 == 0 { 0 } else { 4 };
        if self.came == SHORT + longer + mask {
            self.count += 1;
            self.payload = self.length;
            self.came = 0;
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/session/heads.rs"]
mod tests;
