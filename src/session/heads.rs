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
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame, FrameHeader,
        coding::{Data, OpCode},
    };

    use super::Heads;

    fn frame(length: usize, mask: Option<[u8; 4]>, is_final: bool) -> Vec<u8> {
        let header =
            FrameHeader { is_final, opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() };
        let mut bytes = Vec::new();
        // A payload that looks like heads.
        let payload = [0x81u8, 0xff].iter().copied().cycle().take(length).collect::<Vec<_>>();
        Frame::from_payload(header, payload.into()).format(&mut bytes).expect("a frame");
        bytes
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_their_bytes_come(
            frames in prop::collection::vec((
                prop_oneof![0usize..130, Just(125), Just(126), Just(127), 65_530usize..65_540],
                any::<Option<[u8; 4]>>(),
                any::<bool>(),
            ), 0..20),
            pieces in prop::collection::vec(1usize..5_000, 1..20),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(length, mask, last)| frame(*length, *mask, *last)).collect();
            let (mut heads, mut rest, mut sizes) = (Heads::default(), bytes.as_slice(), pieces.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at((*sizes.next().unwrap_or(&1)).min(rest.len()));
                heads.take(piece);
                rest = behind;
            }
            prop_assert_eq!(heads.count(), frames.len() as u64);
        }

        #[test]
        fn whatever_comes_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut heads = Heads::default();
            heads.take(&bytes);
            prop_assert!(heads.count() <= bytes.len() as u64 / 2);
        }
    }
}
