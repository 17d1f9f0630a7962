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
