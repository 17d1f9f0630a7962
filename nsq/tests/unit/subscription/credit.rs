use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

fn load(live: u32) -> Load {
    Load { live, expired: 0, buffered: 0 }
}

impl Credit {
    /// Grants the whole wish.
    fn freely(&mut self, load: Load) -> Option<u32> {
        self.update(load, |wish| wish.rdy(wish.ahead))
    }
}

fn old() -> Duration {
    VERY_OLD + Duration::from_millis(1)
}

#[test]
fn steady_is_exactly_one_ahead() {
    let mut credit = Credit::new(10, MIB, Delivery::Window);
    assert_eq!(credit.freely(load(0)), Some(1));
    assert_eq!(credit.freely(load(0)), None);
    credit.on_message(Duration::ZERO, 100);
    assert_eq!(credit.freely(load(1)), Some(2));
    assert_eq!(credit.freely(load(0)), Some(1), "after a finish the window closes again");
    assert_eq!(credit.freely(load(9)), Some(10));
    assert_eq!(credit.freely(load(10)), None, "never above max");
}

#[test]
fn a_backlog_opens_the_window_and_quiet_closes_it() {
    let mut credit = Credit::new(256, MIB, Delivery::Window);
    credit.freely(load(0));
    credit.on_message(old(), 100);
    assert_eq!(credit.freely(load(1)), Some(1 + WINDOW));
    assert_eq!(credit.freely(load(20)), None, "within the window nothing is said");
    assert_eq!(credit.freely(load(60)), Some(60 + WINDOW));
    assert_eq!(credit.watched_quiet(60), Some(Quiet::Long));
    assert_eq!(credit.watched_quiet(60 + WINDOW), None, "nsqd holds nothing back when it may send no more");
    credit.on_quiet();
    assert_eq!(credit.freely(load(60)), Some(61));
    credit.on_message(old(), 100);
    assert_eq!(credit.freely(load(61)), Some(61 + WINDOW));
    credit.on_message(Duration::from_micros(100), 100);
    assert_eq!(credit.freely(load(62)), Some(63), "a fresh message closes it too");
    credit.on_message(OLD * 2, 100);
    credit.freely(load(63));
    assert_eq!(credit.watched_quiet(63), Some(Quiet::Short));
}

#[test]
fn big_bodies_cut_the_window_to_what_fits() {
    let mut credit = Credit::new(256, MIB, Delivery::Window);
    credit.on_message(old(), MIB / 4);
    assert_eq!(credit.freely(load(1)), Some(5));
    let full = Load { live: 5, expired: 0, buffered: MIB + 1 };
    assert_eq!(credit.freely(full), Some(0));
    assert_eq!(credit.freely(Load { buffered: MIB * 3 / 4, ..full }), None, "not before half is free");
    assert!(credit.freely(Load { buffered: MIB / 2, ..full }).is_some());
    assert!(!credit.refuses(2 * MIB) && credit.refuses(2 * MIB + 1));
}

proptest! {
    #[test]
    fn rdy_keeps_its_bounds(
        max in 1_u32..500,
        unbuffered in any::<bool>(),
        steps in prop::collection::vec((0_u64..40, 0_usize..MIB, 0_u32..600, 0_u32..600, 0_usize..3 * MIB, any::<bool>()), 1..60),
    ) {
        let delivery = if unbuffered { Delivery::Unbuffered } else { Delivery::Window };
        let mut credit = Credit::new(max, MIB, delivery);
        for (age_ms, bytes, live, expired, buffered, quiet) in steps {
            credit.on_message(Duration::from_millis(age_ms), bytes);
            if quiet {
                credit.on_quiet();
            }
            let load = Load { live, expired, buffered };
            let before = credit.told;
            let told = credit.freely(load).unwrap_or(before);
            prop_assert_eq!(told, credit.told);
            prop_assert!(told + expired.min(max) <= max, "bounded with all that is held");
            if buffered > MIB {
                prop_assert_eq!(told, 0);
            }
            if buffered <= MIB / 2 && live + expired < max {
                prop_assert!(told > live, "never stuck");
            }
            if credit.mode == Mode::Steady {
                prop_assert!(told <= live + 1, "nsqd writes each message at once");
            }
            prop_assert_eq!(credit.freely(load), None, "settles at once");
        }
    }
}
