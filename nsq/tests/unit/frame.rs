//! Properties of the wire format, for any bytes and any splits.

use proptest::prelude::*;

use super::*;

fn encode(frame: &Frame) -> Vec<u8> {
    let (kind, data): (u32, Vec<u8>) = match frame {
        Frame::Ok => (0, b"OK".to_vec()),
        Frame::Heartbeat => (0, b"_heartbeat_".to_vec()),
        Frame::CloseWait => (0, b"CLOSE_WAIT".to_vec()),
        Frame::Response(bytes) => (0, bytes.to_vec()),
        Frame::Error(text) => (1, text.clone().into_bytes()),
        Frame::Message(m) => {
            let mut data = Vec::new();
            data.put_i64(m.timestamp);
            data.put_u16(m.attempts);
            data.put_slice(&m.id);
            data.put_slice(&m.body);
            (2, data)
        }
    };
    let mut out = Vec::new();
    out.put_u32(4 + data.len() as u32);
    out.put_u32(kind);
    out.put_slice(&data);
    out
}

fn frames() -> impl Strategy<Value = Frame> {
    let message = (any::<i64>(), any::<u16>(), any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(timestamp, attempts, id, body)| {
            Frame::Message(RawMessage { timestamp, attempts, id, body: body.into() })
        });
    let big = (COPY_BELOW_BYTES - 40..COPY_BELOW_BYTES + 40).prop_map(|len| {
        Frame::Message(RawMessage { timestamp: 1, attempts: 1, id: [b'a'; 16], body: vec![7; len].into() })
    });
    prop_oneof![
        4 => message,
        1 => big,
        1 => Just(Frame::Ok),
        1 => Just(Frame::Heartbeat),
        1 => Just(Frame::CloseWait),
        1 => "[a-z{}\":0-9]{0,40}".prop_map(|s| Frame::Response(Bytes::from(s))),
        1 => "E_[A-Z]{1,10}( [a-z ]{0,20})?".prop_map(Frame::Error),
    ]
}

fn decode_split(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let mut from = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        let mut input = &bytes[from..cut];
        from = cut;
        while let Some(frame) = decoder.next(&mut input)? {
            got.push(frame);
        }
        assert!(input.is_empty(), "None means that all input is used up");
    }
    Ok(got)
}

proptest! {
    #[test]
    fn frames_survive_any_split(sent in prop::collection::vec(frames(), 0..8), cuts in prop::collection::vec(any::<usize>(), 0..12)) {
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        prop_assert_eq!(decode_split(&bytes, &cuts).unwrap(), sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_splits_never_change_the_answer(
        bytes in prop::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..300),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        prop_assert_eq!(decode_split(&bytes, &cuts), decode_split(&bytes, &[]));
    }

    #[test]
    fn a_made_up_length_reserves_no_memory(size in (RESERVE_AT_ONCE_BYTES as u32)..(MAX_FRAME_BYTES as u32)) {
        let mut decoder = Decoder::default();
        let header = size.to_be_bytes();
        prop_assert_eq!(decoder.next(&mut &header[..]).unwrap(), None);
        prop_assert_eq!(decoder.next(&mut &[0_u8, 0][..]).unwrap(), None);
        prop_assert!(decoder.partial.capacity() < 4096);
    }

    #[test]
    fn decimals_are_decimals(number in any::<u32>()) {
        let mut out = Vec::new();
        put_decimal(&mut out, number);
        prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
    }

    #[test]
    fn valid_names_stay_one_word(name in "\\PC{0,70}") {
        if valid_name(&name) {
            prop_assert!(name.len() <= 64 && !name.contains([' ', '\n', '/', '%']));
        }
    }
}

#[test]
fn an_idle_decoder_holds_no_memory() {
    let mut decoder = Decoder::default();
    let bytes = encode(&Frame::Error("E_FIN_FAILED FIN x failed ID not in flight".into()));
    assert_eq!(decoder.next(&mut &bytes[..5]).unwrap(), None);
    assert!(decoder.next(&mut &bytes[5..]).unwrap().is_some());
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn names_follow_nsqs_rules() {
    let longest = "a".repeat(64);
    for good in ["a", "A.b_c-9", "x#ephemeral", longest.as_str()] {
        assert!(valid_name(good), "{good}");
    }
    let too_long = "a".repeat(65);
    let too_long_ephemeral = format!("{}#ephemeral", "a".repeat(55));
    for bad in ["", "#ephemeral", "a b", "a\nSUB x y", "a#b", "ü", "a/b", &too_long, &too_long_ephemeral] {
        assert!(!valid_name(bad), "{bad}");
    }
}

#[test]
fn commands_are_what_nsqd_expects() {
    let mut out = Vec::new();
    put_sub(&mut out, "t", "c");
    put_rdy(&mut out, 0);
    put_fin(&mut out, b"0123456789abcdef");
    put_req(&mut out, b"0123456789abcdef", 1500);
    put_touch(&mut out, b"0123456789abcdef");
    put_pub(&mut out, "t", b"hi");
    put_mpub(&mut out, "t", &[Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
    let expected = b"SUB t c\nRDY 0\nFIN 0123456789abcdef\nREQ 0123456789abcdef 1500\nTOUCH 0123456789abcdef\nPUB t\n\0\0\0\x02hi\
        MPUB t\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc";
    assert_eq!(out, expected);
}

#[test]
fn late_settlements_are_answerable_and_nothing_else_is() {
    assert!(is_answerable("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight"));
    assert!(is_answerable("E_REQ_FAILED") && is_answerable("E_TOUCH_FAILED x"));
    assert!(!is_answerable("E_INVALID cannot FIN in current state") && !is_answerable(""));
}
