use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::{
    Frame, FrameHeader,
    coding::{Data, OpCode},
};

use super::Heads;

fn frame(length: usize, mask: Option<[u8; 4]>, is_final: bool) -> Vec<u8> {
    let header = FrameHeader { is_final, opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() };
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
