use proptest::prelude::*;

use super::*;

#[test]
fn names_that_look_alike_are_one() {
    for (one, other) in [
        ("Book club", "book CLUB"),
        ("Book club", "  Book \u{a0} club "),
        ("Book club", "Ｂｏｏｋ　ｃｌｕｂ"),
        ("paypal", "р\u{430}ypal"),
        ("Book club", "Bo\u{200b}ok cl\u{ad}ub"),
        ("Book club", "B00k c1ub"),
        ("Straße", "STRASSE"),
        ("é", "e\u{301}"),
        ("ﬁsh", "fish"),
        ("❤️", "❤"),
    ] {
        assert_eq!(key(one), key(other), "{one:?} {other:?}");
    }
    for (one, other) in [("mail", "mall"), ("tea", "tee"), ("a b", "ab"), ("Club 2", "Club 3")] {
        assert_ne!(key(one), key(other), "{one:?} {other:?}");
    }
}

#[test]
fn a_name_hides_nothing() {
    for good in [
        "Book club",
        "Ünïcödé ☕",
        "👨\u{200d}👩\u{200d}👧 family",
        "❤\u{fe0f}\u{200d}🔥",
        "1\u{fe0f}\u{20e3}",
        "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        "می\u{200c}خواهم",
        "क्\u{200d}ष",
        "葛\u{e0100}城",
        "שלום",
    ] {
        assert_eq!(check(good), Ok(()), "{good:?}");
    }
    for (bad, why) in [
        ("", Unfit::Empty),
        (" \u{3000}\u{2800}", Unfit::Empty),
        ("\u{3164}", Unfit::Empty),
        ("a\u{7}", Unfit::Control),
        ("a\nb", Unfit::Control),
        ("a\u{85}b", Unfit::Control),
        ("a\u{2028}b", Unfit::Control),
        ("abc\u{202e}gpj.exe", Unfit::Direction),
        ("\u{2067}abc\u{2069}", Unfit::Direction),
        ("abc\u{200f}", Unfit::Direction),
        ("a\u{200b}b", Unfit::Invisible),
        ("a\u{200d}b", Unfit::Invisible),
        ("a\u{200c}b", Unfit::Invisible),
        ("a\u{200d}\u{301}b", Unfit::Invisible),
        ("a\u{feff}b", Unfit::Invisible),
        ("a\u{2060}b", Unfit::Invisible),
        ("a\u{ad}b", Unfit::Invisible),
        ("a\u{3164}b", Unfit::Invisible),
        ("\u{fe0f}a", Unfit::Invisible),
        ("a\u{fe0f}\u{fe0f}", Unfit::Invisible),
        ("a\u{e0041}", Unfit::Invisible),
        ("می\u{200c}", Unfit::Invisible),
    ] {
        assert_eq!(check(bad), Err(why), "{bad:?}");
    }
    for (line, is) in [
        ("", Ok(())),
        ("50 % in advance, 👨\u{200d}👩\u{200d}👧", Ok(())),
        ("a\nb", Err(Unfit::Control)),
        ("a\tb", Err(Unfit::Control)),
        ("a\u{2028}b", Err(Unfit::Control)),
        ("a\u{202e}b", Err(Unfit::Direction)),
        ("a\u{200f}b.png", Ok(())),
        ("invoice\u{202e}fdp.exe", Err(Unfit::Direction)),
    ] {
        assert_eq!(check_line(line), is, "{line:?}");
    }
}

proptest! {
    #[test]
    fn however_a_name_is_written_its_key_is_one(name in "\\PC{0,20}") {
        prop_assert_eq!(key(&name.nfd().collect::<String>()), key(&name));
        prop_assert_eq!(key(&format!(" {name}\u{200b}")), key(&name));
    }
}
