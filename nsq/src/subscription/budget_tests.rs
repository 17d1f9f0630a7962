use proptest::prelude::*;

use super::*;

const LARGE: usize = 10;

fn wish(told: u32, live: u32, ahead: u32) -> Wish {
    Wish { told, live, most: 256, ahead, large: LARGE }
}

fn amount(messages: u32) -> Amount {
    Amount { messages, bytes: messages as usize * LARGE }
}

/// A subscription, and what its channel at nsqd has; nsqd hears each RDY at once.
#[derive(Default)]
struct Sub {
    number: usize,
    entry: Entry,
    rdy: u32,
    live: u32,
    waiting: u32,
    ahead: u32,
    refused: u32,
}

impl Sub {
    fn new(number: usize, waiting: u32) -> Self {
        Self { number, waiting, ahead: 1, ..Self::default() }
    }

    fn asks(&mut self, ledger: &mut Ledger<usize>) {
        let wish = wish(self.rdy, self.live, self.ahead);
        self.rdy = ledger.grants(&mut self.entry, amount(self.live), wish, &self.number);
    }

    /// What nsqd may send now. False: nothing.
    fn gets(&mut self, ledger: &mut Ledger<usize>) -> bool {
        if self.waiting == 0 || self.rdy <= self.live {
            return false;
        }
        self.waiting -= 1;
        if ledger.takes(&mut self.entry, LARGE) {
            self.live += 1;
        } else {
            self.waiting += 1;
            self.refused += 1;
        }
        self.asks(ledger);
        true
    }
}

/// Wakes whoever is to be woken, one after the other.
fn wake(ledger: &mut Ledger<usize>, subs: &mut [Sub]) {
    let mut woken = 0;
    while let Some(next) = ledger.next() {
        subs[next].asks(ledger);
        woken += 1;
        assert!(woken <= subs.len(), "somebody is woken for nothing, for ever");
    }
}

fn ledger(messages: u32) -> Ledger<usize> {
    Ledger::new(amount(messages))
}

#[test]
fn two_hundred_that_find_a_backlog_at_once_hold_the_limit_and_one_each() {
    let mut ledger = ledger(512);
    let mut subs: Vec<Sub> = (0..200).map(|number| Sub::new(number, 300)).collect();
    subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
    assert!(subs.iter().all(|sub| sub.rdy == 1), "each is ready for one");
    // Each finds that what it has is old.
    subs.iter_mut().for_each(|sub| sub.ahead = 100);
    while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
        wake(&mut ledger, &mut subs);
    }
    let held: u32 = subs.iter().map(|sub| sub.live).sum();
    assert!((512..=712).contains(&held), "{held}");
    assert!(subs.iter().all(|sub| sub.live > 0 && sub.refused == 0), "each has some");
}

#[test]
fn room_goes_to_the_first_in_line_and_is_shared() {
    let mut ledger = ledger(10);
    let mut subs: Vec<Sub> = (0..4).map(|number| Sub::new(number, 100)).collect();
    subs[0].ahead = 100;
    subs[0].asks(&mut ledger);
    assert_eq!(subs[0].rdy, 11, "all there is, and the first");
    while subs[0].gets(&mut ledger) {}
    assert_eq!((subs[0].live, subs[0].rdy), (10, 0));
    for sub in &mut subs[1..] {
        sub.ahead = 100;
        sub.asks(&mut ledger);
        assert_eq!(sub.rdy, 1);
        assert!(sub.gets(&mut ledger) && sub.rdy == 0);
    }
    assert_eq!(ledger.line.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(ledger.next(), None);
    // All of the first one's is settled: it is ready for one in any case, and takes its share of the rest.
    subs[0].live = 0;
    subs[0].asks(&mut ledger);
    assert_eq!(subs[0].rdy, 2);
    assert_eq!(ledger.next(), Some(1));
    wake(&mut ledger, &mut subs);
    assert_eq!(subs[1..].iter().map(|sub| sub.rdy - sub.live).collect::<Vec<_>>(), [2, 2, 2]);
    assert!(ledger.line.is_empty());
}

#[test]
fn beyond_twice_the_limit_everything_is_given_back() {
    let mut ledger = ledger(4);
    let mut subs: Vec<Sub> = (0..20).map(|number| Sub::new(number, 10)).collect();
    subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
    while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
        wake(&mut ledger, &mut subs);
    }
    assert_eq!(ledger.held.messages, 8);
    assert_eq!(subs.iter().filter(|sub| sub.refused > 0).count(), 15, "once, and then they wait");
    assert!(subs.iter().all(|sub| sub.refused <= 1));
    // One that ends makes room.
    let mut first = subs.swap_remove(0);
    ledger.closes(&mut first.entry);
    assert_eq!(ledger.held.messages, 4);
}

#[test]
fn bytes_count_as_messages_do() {
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1000, bytes: 100 });
    let mut entry = Entry::default();
    let large = Wish { large: 30, ..wish(0, 0, 100) };
    assert_eq!(ledger.grants(&mut entry, Amount::default(), large, &0), 4, "three that fit, and the first");
    for n in 1..=6 {
        assert!(ledger.takes(&mut entry, 30), "{n}");
    }
    assert!(!ledger.takes(&mut entry, 30), "200 is the very most");
    let held = Amount { messages: 6, bytes: 180 };
    assert_eq!(ledger.grants(&mut entry, held, Wish { live: 6, told: 4, ..large }, &0), 0);
    // However large it is, one comes.
    let mut ledger: Ledger<usize> = Ledger::new(Amount { messages: 1, bytes: 1 });
    let mut entry = Entry::default();
    assert_eq!(ledger.grants(&mut entry, Amount::default(), large, &0), 2);
    assert!(ledger.takes(&mut entry, 1000) && !ledger.takes(&mut entry, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Gets(usize),
    Settles(usize, u32),
    Wishes(usize, bool),
    Publishes(usize, u32),
    Reopens(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<usize>().prop_map(Step::Gets),
        4 => (any::<usize>(), 1_u32..20).prop_map(|(sub, count)| Step::Settles(sub, count)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(sub, old)| Step::Wishes(sub, old)),
        2 => (any::<usize>(), 1_u32..40).prop_map(|(sub, count)| Step::Publishes(sub, count)),
        1 => any::<usize>().prop_map(Step::Reopens),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    /// Whatever comes and goes: the bounds hold, nobody is forgotten in the line, and in the end all has come.
    #[test]
    fn the_bounds_hold_and_everything_comes(limit in 1_u32..60, count in 1_usize..30, steps in steps()) {
        let mut ledger = ledger(limit);
        let mut subs: Vec<Sub> = (0..count).map(|number| Sub::new(number, 20)).collect();
        subs.iter_mut().for_each(|sub| sub.asks(&mut ledger));
        for step in steps {
            match step {
                Step::Gets(n) => drop(subs[n % count].gets(&mut ledger)),
                Step::Settles(n, done) => {
                    let sub = &mut subs[n % count];
                    sub.live -= done.min(sub.live);
                    sub.asks(&mut ledger);
                }
                Step::Wishes(n, old) => {
                    let sub = &mut subs[n % count];
                    sub.ahead = if old { 100 } else { 1 };
                    sub.asks(&mut ledger);
                }
                Step::Publishes(n, more) => subs[n % count].waiting += more,
                Step::Reopens(n) => {
                    let sub = &mut subs[n % count];
                    ledger.closes(&mut sub.entry);
                    sub.waiting += std::mem::take(&mut sub.live);
                    sub.rdy = 0;
                    sub.asks(&mut ledger);
                }
            }
            wake(&mut ledger, &mut subs);
            let held: u32 = subs.iter().map(|sub| sub.live).sum();
            prop_assert_eq!(ledger.held, amount(held));
            let claimed = subs.iter().fold(Amount::default(), |sum, sub| sum.plus(sub.entry.claimed));
            prop_assert_eq!(ledger.claimed, claimed);
            prop_assert!(held <= 2 * limit);
            let coming: u32 = subs.iter().map(|sub| sub.live.max(sub.rdy)).sum();
            prop_assert!(coming <= limit + count as u32, "{} may be out, with {} for {}", coming, limit, count);
            for sub in &subs {
                prop_assert!(sub.rdy > sub.live || sub.entry.place > 0 || sub.live >= 256, "nobody is forgotten");
            }
        }
        for round in 0.. {
            while subs.iter_mut().any(|sub| sub.gets(&mut ledger)) {
                wake(&mut ledger, &mut subs);
            }
            if subs.iter().all(|sub| sub.waiting + sub.live == 0) {
                break;
            }
            prop_assert!(round < 10_000, "something never comes");
            for n in 0..count {
                subs[n].live = 0;
                subs[n].asks(&mut ledger);
                wake(&mut ledger, &mut subs);
            }
        }
        prop_assert_eq!(ledger.held, Amount::default());
        // Who expects many keeps room for them, until its socket has been quiet.
        for n in 0..count {
            subs[n].ahead = 1;
            subs[n].asks(&mut ledger);
            wake(&mut ledger, &mut subs);
        }
        prop_assert!(ledger.line.is_empty() && ledger.claimed == Amount::default());
    }
}
